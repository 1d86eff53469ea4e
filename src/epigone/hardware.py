"""The machine in; what it computes with, in which number format and in how much memory out."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast

import psutil
import torch

from epigone.backend import computes_bf16
from epigone.errors import OutOfMemory, SettingsError

OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""In torch's complaints about memory that have no class of their own: of a processor, of MPS and of cuBLAS."""
OUT_OF_MEMORY_ERRORS = (RuntimeError, MemoryError)
"""Among these are all errors that `is_out_of_memory` may know."""
T = TypeVar("T")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out: torch's own error, one of those that are known by their words, or one under another."""
    if error is None:
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS):
        return True
    inner = getattr(error, "inner_exception", None)  # torch.compile's errors hide theirs there
    return is_out_of_memory(inner if isinstance(inner, BaseException) else error.__cause__)


def free_memory() -> None:
    """Give back what nobody holds any more. To be called when the error itself, which holds much, is gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def with_smaller_batches(work: Callable[[int], T], most: int, *, what: str, hint: str) -> tuple[T, int]:
    """What `work` gives for the most things at once that fit into memory, and how many these are.

    Raises OutOfMemory where one of them, named by `what`, does not fit alone.
    """
    at_once = most
    while True:
        try:
            return work(at_once), at_once
        except OUT_OF_MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
        if at_once <= 1:
            raise OutOfMemory(f"Memory ran out: {what} does not fit by itself.", hint=hint)
        at_once = -(-at_once // 2)
        free_memory()


@contextmanager
def explain_out_of_memory(what: str, hint: str) -> Iterator[None]:
    """Raises OutOfMemory where what is done within needs more memory than there is."""
    try:
        yield
    except OUT_OF_MEMORY_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"Memory ran out: {what}.", hint=hint) from error


Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """What a run computes on. `memory_bytes` is the device's own memory."""

    device: Literal["cpu", "cuda", "mps"]
    name: str
    n_threads: int
    memory_bytes: int
    bf16: bool
    """Whether bf16 is computed in silicon; elsewhere it is emulated and up to 40 times slower than fp32."""
    compiles: bool = False
    """Whether torch.compile finds the compiler that it needs."""

    def guess_seconds_per_token(self, n_layer: int, width: int, flops: float) -> float:
        """What learning from one token takes: each layer's own time, in fp32 by its width, and its `flops` operations.

        Equal machines must give equal plans, so this is not measured at the start; where the figures come from is in
        docs/dev/findings.md.
        """
        if self.device == "cpu":
            seconds = 9e-6 * n_layer + 3.6e-12 * flops if self.bf16 else 0.28e-6 * n_layer * width + 18e-12 * flops
            return seconds / self.n_threads
        return flops / {"cuda": 1e14, "mps": 2e12}[self.device]


def find_hardware(device: str = "auto") -> Hardware:
    """Describe the asked device; "auto" is the best there is. Raises SettingsError if it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = device if device != "auto" else next(name for name, found in there.items() if found)
    if not there[chosen]:
        raise SettingsError(f"--device {chosen}: torch sees no such device here.", hint=_how_to_see(chosen))
    if chosen == "cuda":
        card = torch.cuda.get_device_properties(0)
        return Hardware(
            device="cuda",
            name=card.name,
            n_threads=torch.get_num_threads(),
            memory_bytes=card.total_memory,
            bf16=torch.cuda.is_bf16_supported(including_emulation=False),
            compiles=importlib.util.find_spec("triton") is not None,
        )
    return Hardware(
        device="mps" if chosen == "mps" else "cpu",
        name="Apple GPU" if chosen == "mps" else f"{torch.get_num_threads()} processor cores",
        n_threads=torch.get_num_threads(),
        memory_bytes=psutil.virtual_memory().total,
        bf16=chosen == "cpu" and computes_bf16(),
        compiles=chosen == "cpu" and _has_compiler(),
    )


def count_idle_threads() -> int:
    """Of the threads that torch would use, those for which the machine has a core to spare now, at least one.

    Writing waits for the slowest of its threads a hundred times a token; one that shares its core with another program
    makes a small model sixty times slower.
    """
    busy = float(psutil.getloadavg()[0]) / (os.cpu_count() or 1)
    return max(1, round(torch.get_num_threads() * (1 - busy)))


def find_free_bytes(device: str) -> int:
    """Memory that can still be had, on a GPU or in the machine."""
    if device == "cuda":
        n_free, _ = torch.cuda.mem_get_info()
        return int(n_free)
    return int(psutil.virtual_memory().available)


def _how_to_see(device: str) -> str:
    if device == "cuda":
        return "Is a CUDA build of torch installed? The README says how. Without --device it runs on the processor."
    return "Without --device it runs on the processor."


def _has_compiler() -> bool:
    """A C++ compiler and Python's own headers; torch looks for them in the same places."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["cl"] if os.name == "nt" else ["g++", "clang++"]
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return headers.exists() and any(shutil.which(name) for name in names)


def choose_precision(asked: str, hardware: Hardware) -> tuple[Precision, str]:
    """The number format and why. Raises SettingsError where the asked one cannot work."""
    if asked == "fp16" and hardware.device != "cuda":
        raise SettingsError("--precision fp16 needs an NVIDIA or AMD GPU.", hint="Use fp32, or leave it out.")
    if asked != "auto":
        return cast(Precision, asked), "as asked"
    if hardware.bf16:
        return "bf16", f"{hardware.name} compute in it"
    if hardware.device == "cuda":
        return "fp16", f"{hardware.name} computes in it, and not in bf16"
    return "fp32", f"{hardware.name} do not compute in bf16"
