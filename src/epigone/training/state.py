"""What a learner computes with and what it is made of between two steps: devices, random numbers, packed state."""

from __future__ import annotations

import atexit
import math
import os
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from epigone.model.plan import Plan

if TYPE_CHECKING:  # writing and judging do without it
    from accelerate import Accelerator


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A learner between two steps, on the CPU. `facts` holds plain values only, fit for JSON."""

    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    random: dict[str, torch.Tensor]
    facts: dict[str, Any]


@dataclass
class Progress:
    """How far a run is: with the weights, the optimizer and the random state all that a checkpoint needs."""

    step: int = 0
    seconds: float = 0.0
    """Training seconds, evaluations and samples included."""
    seconds_before: float = 0.0
    """Those of them that had passed before the first step."""
    evaluated_step: int = -1
    best_step: int = 0
    best_epoch: float = 0.0
    best_loss: float = math.inf
    best_spoiled: bool = False
    """Whether the best one's samples were no good, as far as that counts."""
    best_share: float = 1.0
    """Of the way from the base to the weights of that step."""
    base_loss: float = math.inf
    """Of the untouched base."""
    loss: float = math.inf
    """Of the last evaluation."""
    mixed_step: int = -1
    """The last step that was looked back from to the base."""
    n_worse: int = 0
    """Evaluations since the best one."""
    n_losses: int = 0
    """Steps since the last evaluation."""
    n_unreported: int = 0
    """Steps since the last report."""
    losses: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Sums of the losses of those two; up to date in a checkpoint only."""
    learning_rate: float = 0.0
    """That of the last step."""
    evaluation_seconds: float = 0.0
    """What the last evaluation took, with its samples and whatever was saved."""


def count_processes() -> int:
    """Processes that train together, as torchrun and accelerate launch announce them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the process that writes files and speaks; alone it always is."""
    return os.environ.get("RANK", "0") == "0"


def make_accelerator(plan: Plan) -> Accelerator:
    """accelerate's view of devices and precision, with the machine's arithmetic made repeatable."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if count_processes() == 1:  # accelerate keeps one state a process and would refuse a second run's precision
        AcceleratorState._reset_state(reset_partial_state=True)
    else:
        _leave_group_at_end()
    on_cpu = plan.device == "cpu"
    if on_cpu:
        torch.set_num_threads(plan.n_threads)
        # Free on a CPU, but for filling every new tensor; without it gradients of embeddings are summed at random.
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    else:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("high")
    return Accelerator(cpu=on_cpu, mixed_precision="no" if plan.precision == "fp32" else plan.precision)


@cache
def _leave_group_at_end() -> None:
    """Left open, gloo's threads now and then abort a process that is done, and torchrun then ends the others."""
    atexit.register(lambda: distributed.is_initialized() and distributed.destroy_process_group())


def agree(accelerator: Accelerator, *values: float) -> list[float]:
    """The greatest of each value over all processes, so that all of them do the same."""
    if accelerator.num_processes == 1:
        return list(values)
    gathered = accelerator.gather(torch.tensor([values], device=accelerator.device))
    return [float(value) for value in gathered.max(dim=0).values]


def pack_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of the generators that dropout draws from: uint8 tensors."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def unpack_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Let the generators go on where `pack_random_state` saw them."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
