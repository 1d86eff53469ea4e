"""Training in several processes: ranks, values that all agree on, and the accelerator."""

from __future__ import annotations

import atexit
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from torch import distributed

from epigone.hardware import Hardware
from epigone.planning.plan import Plan

if TYPE_CHECKING:
    from accelerate import Accelerator


def count_processes() -> int:
    """The number of processes that train together, as set by torchrun or accelerate launch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes files and prints; a single one always does."""
    return os.environ.get("RANK", "0") == "0"


def make_accelerator(plan: Plan) -> Accelerator:
    """An `Accelerator` for the plan's device and precision, with deterministic arithmetic."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if count_processes() == 1:  # accelerate keeps one state a process and would refuse a second run's precision
        AcceleratorState._reset_state(reset_partial_state=True)
    else:
        _leave_group_at_end()
    on_cpu = plan.device == "cpu"
    if on_cpu:
        torch.set_num_threads(plan.n_threads)
        # Free on a CPU, except for filling new tensors; without it embedding gradients are summed in any order.
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    else:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("high")
    return Accelerator(cpu=on_cpu, mixed_precision="no" if plan.precision == "fp32" else plan.precision)


@cache
def _leave_group_at_end() -> None:
    """Otherwise gloo's threads sometimes abort a process that is done, and torchrun then ends the others."""
    atexit.register(lambda: distributed.is_initialized() and distributed.destroy_process_group())


def all_reduce_max(accelerator: Accelerator, *values: float) -> list[float]:
    """The maximum of each value over all processes, so that all of them do the same."""
    if accelerator.num_processes == 1:
        return list(values)
    gathered = accelerator.gather(torch.tensor([values], device=accelerator.device))
    return [float(value) for value in gathered.max(dim=0).values]


def main_process_first(hardware: Hardware) -> AbstractContextManager[Any]:
    """A context that the main process runs first, and then the others, which find the work done."""
    if count_processes() == 1:
        return nullcontext()
    main_first: AbstractContextManager[Any] = PartialState(cpu=hardware.device == "cpu").main_process_first()
    return main_first
