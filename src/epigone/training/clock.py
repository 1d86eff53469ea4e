"""A plan and a run's progress in; how much of the run is done, by its steps or by its minutes, out."""

from __future__ import annotations

import time

from epigone.model.plan import Plan
from epigone.training.state import Progress

SECONDS_LEARNED_PER_SECOND_EVALUATED = 8
"""Under a time limit: evaluations, with their samples and saves, take at most a ninth of it."""
SECONDS_BETWEEN_CHECKPOINTS = 600.0
"""Besides those at evaluations: what a crash may cost at most."""
RESERVE, RESERVE_TO_MIX = 1.3, 2.8
"""Times what the last evaluation took: kept free for the one at the end, and for a look back to the base after it."""


class Clock:
    """The time of one sitting; what went before it is in `progress`, which it keeps up to date."""

    def __init__(self, plan: Plan, progress: Progress, *, mixes: bool) -> None:
        self._plan, self._progress = plan, progress
        self._factor = RESERVE_TO_MIX if mixes else RESERVE
        self._began = time.monotonic() - progress.seconds
        self.reported_at = self.evaluated_at = self.saved_at = progress.seconds

    def tick(self) -> float:
        """The seconds of training so far."""
        self._progress.seconds = time.monotonic() - self._began
        return self._progress.seconds

    @property
    def seconds_of_steps(self) -> float:
        """Without what had passed before the first step."""
        return self._progress.seconds - self._progress.seconds_before

    @property
    def share_done(self) -> float:
        """Share of the run that is done: of its steps or, if that is more, of its minutes less what ends them."""
        by_steps = self._progress.step / self._plan.most_steps
        if self._plan.minutes is None:
            return by_steps
        allowed = max(1e-9, 60 * self._plan.minutes - self._progress.seconds_before)
        reserve = min(self._factor * self._progress.evaluation_seconds, allowed / 2)
        return min(1.0, max(by_steps, self.seconds_of_steps / (allowed - reserve)))

    @property
    def steps_done(self) -> float:
        """Where on the way of the learning rate the middle of the step to come is, in steps of the plan."""
        if self._plan.minutes is None:
            return self._progress.step + 0.5
        return self.share_done * self._plan.n_steps

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the last one is too long ago."""
        return self._progress.seconds - self.saved_at > SECONDS_BETWEEN_CHECKPOINTS

    @property
    def is_evaluation_due(self) -> bool:
        """At the end of an epoch or part of one; where the minutes end the run, as far as they afford it."""
        step, plan = self._progress.step, self._plan
        asked = plan.evaluate_every is not None and step % plan.evaluate_every == 0
        per_step = plan.blocks_per_step * plan.evaluations_per_epoch
        passed = step * per_step // plan.n_blocks > (step - 1) * per_step // plan.n_blocks
        waited = self._progress.seconds - self.evaluated_at
        affordable = waited >= SECONDS_LEARNED_PER_SECOND_EVALUATED * self._progress.evaluation_seconds
        return asked or (passed and (plan.minutes is None or affordable))
