"""Recorder of a run: puts events, best weights and checkpoints into its folder while training waits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from epigone.report.publish import publish
from epigone.runs.folder import RunFolder
from epigone.training.events import BatchSplit, Event
from epigone.training.trainer import Recorder

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

    from epigone.training.state import TrainerState


class RunRecorder(Recorder):
    """The only writer into a run's folder while it is trained. All raise OutputError."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def record(self, event: Event) -> None:
        """Append the event to metrics.jsonl, its samples to samples/."""
        self.run.check_place()
        self.run.record(event)
        if isinstance(event, BatchSplit):
            self._remember_parts(event)

    def keep_best(self, model: GPT2LMHeadModel) -> None:
        """Put the weights into model/."""
        self.run.check_place()
        self.run.keep_best(model)

    def save_checkpoint(self, step: int, state: TrainerState) -> None:
        """Save a checkpoint, then bring the card up to date and, now and then until the last step, curves and page."""
        self.run.check_place()
        self.run.save_checkpoint(step, state)
        if state.part == 0:
            publish(self.run, pictures=step < self.run.read_manifest().plan.most_steps)

    def _remember_parts(self, event: BatchSplit) -> None:
        """In the plan, so that a run that is resumed begins with them, wherever it stopped."""
        manifest = self.run.read_manifest()
        reason = f"in parts since memory ran out in step {event.step:,}"
        batch = replace(manifest.plan.batch, parts=event.parts)
        plan = replace(manifest.plan, batch=batch, reasons=manifest.plan.reasons | {"batch_size": reason})
        self.run.write_manifest(manifest.model_copy(update={"plan": plan}))
