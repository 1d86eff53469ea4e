"""A run's folder in; its model as a teacher, for one that learns the same text, out.

A model that learns from the text and from what another one foretells, which has learned the text before, comes to know
it better than that one (docs/dev/findings.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epigone.errors import OutputError, RunDamaged, SettingsError
from epigone.files import check_room, make_folder
from epigone.model.gpt2 import load_model
from epigone.model.hub import CONFIG, WEIGHTS
from epigone.planning.plan import Plan
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


TEACHER = "teacher"
"""Its folder in the run that learns from it."""
PASSES = 15
"""Over the text. Where there were 16 and more, a teacher was seen to help by 1.9 per cent at least."""
FREER = 0.5
"""Of the dropout that is right without a teacher."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """A run that has learned, from scratch."""

    folder: RunFolder
    plan: Plan

    def load(self) -> GPT2LMHeadModel:
        """Its best model. Raises RunDamaged."""
        return load_model(self.folder.model)

    def keep(self, run: RunFolder) -> None:
        """Copy its model into the run that learns from it, which then needs nothing else. Raises OutputError."""
        weights = self.folder.model / WEIGHTS
        check_room(run.path, weights.stat().st_size, "The teacher")
        try:
            make_folder(run.path / TEACHER)
            for file in (self.folder.model / CONFIG, weights):
                run.write_known(run.path / TEACHER / file.name, file.read_bytes())
        except OSError as error:
            raise OutputError(f"{run.path / TEACHER} cannot be written: {error}.", hint="Make room.") from None


def load_kept_teacher(run: RunFolder) -> GPT2LMHeadModel:
    """The teacher that a run has kept. Raises RunDamaged."""
    place = run.path / TEACHER
    faults = (run.checksums.find_damage(place / name) for name in (CONFIG, WEIGHTS))
    if fault := next(filter(None, faults), None):
        raise RunDamaged(
            f"{run.path}: {fault}.",
            hint="Put it back; it is the model/ of the run that was --teacher. Its best model so far is untouched.",
        )
    return load_model(place)


def find_teacher(settings: TrainSettings) -> Teacher | None:
    """The run that `settings.teacher` names. Raises RunNotFound, RunDamaged, SettingsError."""
    name = settings.teacher
    if name == "none":
        return None
    folder = RunFolder.open(Path(name).expanduser())
    plan, _ = folder.read_plan()
    if fault := folder.find_damage_of_best():
        raise SettingsError(f"--teacher {name}: {fault}.", hint=f"epigone resume {name} mends it.")
    if not plan.fresh or settings.base not in ("auto", "none"):
        raise SettingsError(
            f"--teacher {name} goes with fresh models only, and {'this' if plan.fresh else 'that'} one starts from "
            f"{settings.base if plan.fresh else plan.base}.",
            hint="Leave one of them out.",
        )
    if settings.vocab_size not in ("auto", plan.shape.vocab_size):
        raise SettingsError(
            f"--vocab-size {settings.vocab_size} is not that of --teacher {name}, which has "
            f"{plan.shape.vocab_size:,} entries.",
            hint="Leave --vocab-size out.",
        )
    if settings.block_size != "auto" and settings.block_size > plan.shape.n_positions:
        raise SettingsError(
            f"--block-size {settings.block_size} is more than the {plan.shape.n_positions} tokens that --teacher "
            f"{name} sees at once.",
            hint=f"Use {plan.shape.n_positions} or less.",
        )
    return Teacher(folder=folder, plan=plan)


def can_teach(plan: Plan, reason: str) -> bool:
    """Whether a run that ended so is worth learning from: a fresh model that read its text often enough."""
    return plan.fresh and not plan.teacher and reason in ("done", "patience") and plan.epochs >= PASSES


def adopt_teacher_settings(teacher: Teacher | None, settings: TrainSettings) -> TrainSettings:
    """The settings in which what has to be as the teacher's is settled."""
    if teacher is None:
        return settings
    block = teacher.plan.block_size if settings.block_size == "auto" else settings.block_size
    size = teacher.plan.shape.vocab_size
    return settings.model_copy(update={"base": "none", "vocab_size": size, "block_size": block})


def check_same_text(teacher: Teacher, receipt: Mapping[str, Any]) -> None:
    """What is held out must be unknown to the teacher as well. Raises SettingsError."""
    ours, theirs = json.loads(json.dumps(receipt)), teacher.folder.read_receipt()
    if any(ours[key] != theirs.get(key) for key in ("fingerprint", "held_out_files", "split")):
        raise SettingsError(
            f"{teacher.folder.path} learned from another text, or another part of it is held out there, so it may know "
            "what is held out here.",
            hint="Give the same text, --validation, --split and --seed as there, or leave --teacher out.",
        )


def adjust_plan(teacher: Teacher, plan: Plan, settings: TrainSettings) -> Plan:
    """The plan of one that has a teacher: other random numbers than that had, and less dropout."""
    reasons = {
        "teacher": "what it foretells counts as much as the text",
        "base": "its teacher was made so, too",
        "vocab_size": "its teacher's",
    }
    if settings.block_size == "auto":
        reasons["block_size"] = "its teacher's"
    dropout = plan.dropout
    if settings.dropout == "auto" and dropout:
        dropout = round(FREER * dropout, 2)
        reasons["dropout"] = f"half of {plan.dropout:g}: what a teacher says is itself against learning by heart"
    return replace(
        plan,
        teacher=settings.teacher,
        seed=(teacher.plan.seed + 1) % 2**32,
        dropout=dropout,
        reasons=plan.reasons | reasons,
    )
