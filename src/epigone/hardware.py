"""The machine: its device, number formats, threads and memory; and what to do when memory runs out."""

from __future__ import annotations

import gc
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast

import psutil
import torch

from epigone.backend import computes_bf16
from epigone.errors import OutOfMemory, SettingsError, pluralize

OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""In the messages of torch's out-of-memory errors without a class of their own: on a processor, in MPS, in cuBLAS."""
OUT_OF_MEMORY_ERRORS = (RuntimeError, MemoryError)
"""The classes of all errors that `is_out_of_memory` recognises."""
T = TypeVar("T")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out: by the error's class, by its message, or by the error that caused it."""
    if error is None:
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS):
        return True
    inner = getattr(error, "inner_exception", None)  # torch.compile keeps the cause here
    return is_out_of_memory(inner if isinstance(inner, BaseException) else error.__cause__)


def free_memory() -> None:
    """Free unused memory. To be called after the error, which refers to much of it, is gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def with_smaller_batches(work: Callable[[int], T], most: int, *, what: str, hint: str) -> tuple[T, int]:
    """Call `work` with the largest batch size up to `most` that fits into memory; returns its result and the size.

    Raises OutOfMemory if a single item, described by `what`, does not fit.
    """
    at_once = most
    while True:
        try:
            return work(at_once), at_once
        except OUT_OF_MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
        if at_once <= 1:
            raise OutOfMemory(f"Memory ran out: {what} does not fit, even alone.", hint=hint)
        at_once = -(-at_once // 2)
        free_memory()


@contextmanager
def explain_out_of_memory(what: str, hint: str) -> Iterator[None]:
    """Turn out-of-memory errors inside the block into OutOfMemory."""
    try:
        yield
    except OUT_OF_MEMORY_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"Memory ran out: {what}.", hint=hint) from error


Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """The device that a run uses. `memory_bytes` is the device's own memory."""

    device: Literal["cpu", "cuda", "mps"]
    name: str
    n_threads: int
    memory_bytes: int
    bf16: bool
    """Whether the hardware computes in bf16; otherwise it is emulated, up to 40 times slower than fp32."""
    compiles: bool = False
    """Whether torch.compile has the compiler that it needs."""
    machine: str = ""
    """What the bits of a result depend on: kind and number of processors, the card."""
    n_cores: int = 1

    def guess_seconds_per_token(self, n_layer: int, width: int, flops: float) -> float:
        """What learning from one token takes: each layer's own time, in fp32 by its width, and its `flops` operations.

        Equal machines must give equal plans, so this is not measured at the start; where the figures come from is in
        docs/dev/findings.md.
        """
        if self.device == "cpu":
            seconds = 9e-6 * n_layer + 3.6e-12 * flops if self.bf16 else 0.28e-6 * n_layer * width + 18e-12 * flops
            return seconds / self.n_threads
        return flops / {"cuda": 1e14, "mps": 2e12}[self.device]


def count_own_cores() -> int:
    """This process's share of the cores of the machine, at least one; torchrun starts several processes on one."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, n_cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def find_hardware(device: str = "auto") -> Hardware:
    """Describe a device; "auto" is the best one available. Raises SettingsError if it is not available."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = device if device != "auto" else next(name for name, found in there.items() if found)
    if not there[chosen]:
        raise SettingsError(f"The device {chosen} is not available to torch here.", hint=_device_hint(chosen))
    if chosen == "cuda":
        card = torch.cuda.get_device_properties(0)
        return Hardware(
            device="cuda",
            name=card.name,
            n_threads=torch.get_num_threads(),
            memory_bytes=card.total_memory,
            bf16=torch.cuda.is_bf16_supported(including_emulation=False),
            compiles=importlib.util.find_spec("triton") is not None,
            machine=f"{_describe_processor()}, {card.name}",
            n_cores=os.cpu_count() or 1,
        )
    return Hardware(
        device="mps" if chosen == "mps" else "cpu",
        name="Apple GPU" if chosen == "mps" else pluralize(torch.get_num_threads(), "processor core"),
        n_threads=torch.get_num_threads(),
        memory_bytes=psutil.virtual_memory().total,
        bf16=chosen == "cpu" and computes_bf16(),
        compiles=chosen == "cpu" and _has_compiler(),
        machine=_describe_processor(),
        n_cores=os.cpu_count() or 1,
    )


def _describe_processor() -> str:
    kinds = [platform.machine(), torch.backends.cpu.get_cpu_capability(), "bf16" if computes_bf16() else ""]
    return f"{' '.join(filter(None, kinds))}, {os.cpu_count()} cores"


SECONDS_WATCHED = 0.1
"""In which other programs are looked for."""


def count_idle_threads() -> int:
    """How many of torch's threads have an idle core now, at least one.

    Generation waits for its slowest thread a hundred times a token; one that shares its core with another program makes
    a small model sixty times slower. The load average would remember for a minute what has ended, as a training.
    """
    busy = float(psutil.cpu_percent(SECONDS_WATCHED)) / 100
    return max(1, round(torch.get_num_threads() * (1 - busy)))


def find_free_bytes(device: str) -> int:
    """Free memory, of the GPU or of the machine."""
    if device == "cuda":
        n_free, _ = torch.cuda.mem_get_info()
        return int(n_free)
    return int(psutil.virtual_memory().available)


def find_peak_memory(device: str) -> int:
    """Most bytes that this process has had, on the GPU or, for any other device, in the machine's memory."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows, which keeps the number itself
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device_hint(device: str) -> str:
    if device == "cuda":
        return 'Check that a CUDA build of torch is installed (README). With device "auto" the processor is used.'
    return 'With device "auto" the processor is used.'


def _has_compiler() -> bool:
    """Whether there are a C++ compiler and Python's headers, where torch looks for them."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["cl"] if os.name == "nt" else ["g++", "clang++"]
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return os.access(headers, os.R_OK) and any(shutil.which(name) for name in names)


def choose_precision(asked: str, hardware: Hardware) -> tuple[Precision, str]:
    """The number format, and why. Raises SettingsError if the device does not have the one asked for."""
    if asked == "fp16" and hardware.device != "cuda":
        raise SettingsError("The precision fp16 needs an NVIDIA or AMD GPU.", hint="Use fp32 or auto.")
    if asked != "auto":
        return cast(Precision, asked), "as asked"
    if hardware.bf16:
        return "bf16", f"{hardware.name} can compute in it"
    if hardware.device == "cuda":
        return "fp16", f"{hardware.name} can compute in it, but not in bf16"
    return "fp32", f"{hardware.name} cannot compute in bf16"
