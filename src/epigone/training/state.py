"""The state of a training run between two steps: progress, clock, random numbers; and its form for checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from epigone.planning.plan import Plan

SECONDS_LEARNED_PER_SECOND_EVALUATED = 8
"""Under a time limit, evaluations with their samples and checkpoints take at most a ninth of it."""
SECONDS_BETWEEN_CHECKPOINTS = 600.0
"""The most time that a crash can cost; besides, each evaluation saves a checkpoint."""
RESERVE, RESERVE_TO_MIX = 1.3, 2.8
"""Time reserved at the end, in last evaluations' durations: for the final one, and for interpolation after it."""


class Clock:
    """Training time of one process; earlier time is in `progress`, which it keeps up to date."""

    def __init__(self, plan: Plan, progress: Progress, *, mixes: bool) -> None:
        self._plan, self._progress = plan, progress
        self._factor = RESERVE_TO_MIX if mixes else RESERVE
        self._began = time.monotonic() - progress.seconds
        self.reported_at = self.evaluated_at = self.saved_at = progress.seconds
        self._first_step, self._first_second = progress.step, progress.seconds
        self._evaluating = 0.0
        """Seconds of the evaluations since then."""
        self.pace: Pace | None = None
        """What several processes have agreed on; each has a clock of its own, and all have to take the same rate."""

    def tick(self) -> float:
        """Update and return the seconds of training so far."""
        self._progress.seconds = time.monotonic() - self._began
        return self._progress.seconds

    def count_evaluation(self, seconds: float) -> None:
        """Note how long an evaluation took, with its samples and checkpoint."""
        self._progress.evaluation_seconds = seconds
        self._evaluating += seconds

    @property
    def seconds_left(self) -> float:
        """Seconds until the end, by the clock under a time limit, else by the pace of steps and evaluations."""
        plan, progress = self._plan, self._progress
        if plan.schedule.minutes is not None:
            share = self.share_done
            return self.seconds_of_steps * (1 - share) / max(share, 1e-9)
        n_done, n_left = progress.step - self._first_step, max(0, plan.most_steps - progress.step)
        pace = (progress.seconds - self._first_second - self._evaluating) / max(1, n_done)
        n_evaluations = self._count_evaluations(plan.most_steps) - self._count_evaluations(progress.evaluated_step)
        return n_left * pace + n_evaluations * progress.evaluation_seconds

    def _count_evaluations(self, step: int) -> int:
        """Evaluations up to a step, without time limit: at the ends of epochs or of their parts, and as asked for."""
        step = max(0, step)
        schedule, batch = self._plan.schedule, self._plan.batch
        asked = step // schedule.evaluate_every if schedule.evaluate_every is not None else 0
        return asked + step * batch.blocks_per_step * schedule.evaluations_per_epoch // batch.n_blocks

    @property
    def seconds_of_steps(self) -> float:
        """Seconds without the time before the first step."""
        return self._progress.seconds - self._progress.seconds_before

    @property
    def share_done(self) -> float:
        """Share of the run that is done, as this process sees it or as all have agreed."""
        if self.pace is None:
            return self.own_share
        by_steps = self._progress.step / self._plan.most_steps
        return min(1.0, max(by_steps, self.pace.share_at(self._progress.step)))

    @property
    def own_share(self) -> float:
        """Share of the run that is done: of its steps or, if that is more, of its minutes less the reserve."""
        by_steps = self._progress.step / self._plan.most_steps
        minutes = self._plan.schedule.minutes
        if minutes is None:
            return by_steps
        allowed = max(1e-9, 60 * minutes - self._progress.seconds_before)
        reserve = min(self._factor * self._progress.evaluation_seconds, allowed / 2)
        return min(1.0, max(by_steps, self.seconds_of_steps / (allowed - reserve)))

    @property
    def steps_done(self) -> float:
        """Position of the coming step's middle in the learning-rate schedule, in planned steps."""
        if self._plan.schedule.minutes is None:
            return self._progress.step + 0.5
        return self.share_done * self._plan.schedule.n_steps

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the last checkpoint was too long ago."""
        return self._progress.seconds - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS

    @property
    def is_evaluation_due(self) -> bool:
        """At the end of an epoch or of a part of one; under a time limit only as often as it allows."""
        return self.is_evaluation_asked or (self.has_passed_part and self.is_evaluation_affordable)

    @property
    def is_evaluation_asked(self) -> bool:
        """By --evaluate-every."""
        every = self._plan.schedule.evaluate_every
        return every is not None and self._progress.step % every == 0

    @property
    def has_passed_part(self) -> bool:
        """Whether the last step ended an epoch, or a part of one; the same in all processes."""
        step, batch = self._progress.step, self._plan.batch
        per_step = batch.blocks_per_step * self._plan.schedule.evaluations_per_epoch
        return step * per_step // batch.n_blocks > (step - 1) * per_step // batch.n_blocks

    @property
    def is_evaluation_affordable(self) -> bool:
        """By the clock of this process, where there is a time limit."""
        waited = self._progress.seconds - self.evaluated_at
        return self._plan.schedule.minutes is None or (
            waited >= SECONDS_LEARNED_PER_SECOND_EVALUATED * self._progress.evaluation_seconds
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How far several processes are, as they have last agreed, and when they next do."""

    step: int
    share: float
    """Of the run that was done at that step."""
    per_step: float
    next_step: int
    stops: bool
    """Whether one of them was asked to stop."""
    saves: bool
    """Whether the last checkpoint was too long ago for one of them."""

    def share_at(self, step: int) -> float:
        """Of the run, at a later step, if it goes on as fast."""
        return self.share + (step - self.step) * self.per_step


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerState:
    """A trainer between two steps, on the CPU. `facts` has only plain values, suitable for JSON."""

    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    random: Mapping[str, torch.Tensor]
    facts: dict[str, Any]
    part: int = 0
    n_parts: int = 1
    """Where processes divide the model, weights and optimizer are those of one of so many parts: rows, in order."""


@dataclass
class Progress:
    """How far a run is. With weights, optimizer and random state it is everything in a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    """Training seconds, including evaluations and samples."""
    seconds_before: float = 0.0
    """Of these, the seconds before the first step."""
    evaluated_step: int = -1
    best_step: int = 0
    best_epoch: float = 0.0
    best_loss: float = math.inf
    best_spoiled: bool = False
    """With --keep-best quality: whether the best evaluation's samples were bad."""
    best_share: float = 1.0
    """Share of the trained weights in the best ones, if these were interpolated with the base's."""
    base_loss: float = math.inf
    """Of the base before training."""
    loss: float = math.inf
    """Of the last evaluation."""
    mixed_step: int = -1
    """The last step after which interpolation with the base was tried."""
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
    """Duration of the last evaluation, with its samples and checkpoint."""


def select_random_state(states: Mapping[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """The state of one process in a checkpoint, where "cpu:1" is the second one's "cpu"; empty if there were fewer."""
    ending = f":{rank}" if rank else ""
    return {
        name.removesuffix(ending): state
        for name, state in states.items()
        if (":" in name) == (rank > 0) and name.endswith(ending)
    }


def pack_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of the generators that dropout draws from: uint8 tensors."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def unpack_random_state(states: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Restore the generators from `pack_random_state`."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if "mps" in states and device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
