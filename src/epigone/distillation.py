"""Distillation: a new model learns the text and, with it, the predictions of a model that has learned it before.

A model that is trained on the text and on a teacher's predictions ends better than the teacher (docs/dev/findings.md;
Furlanello et al. 2018, "Born-again neural networks"). With `--teacher self` one command makes both: the first run, in a
folder of its own inside the second's, then the second one, from the same tokens and by the same plan. Of some lengths
of text the second model is larger: one that would overfit alone does not with a teacher.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from epigone.errors import OutputError, RunDamaged, SettingsError, quote_command
from epigone.files import check_room, make_folder
from epigone.model.gpt2 import load_model
from epigone.model.hub import CONFIG, WEIGHTS
from epigone.model.size import Shape
from epigone.planning.choice import Choice, resolve
from epigone.planning.choose_base import BaseChoice
from epigone.planning.defaults import choose_dropout, choose_larger
from epigone.planning.plan import Plan
from epigone.runs.folder import RunFolder
from epigone.runs.records import Receipt
from epigone.settings import SELF, TrainSettings
from epigone.starting_point import StartingPoint
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


TEACHER = "teacher"
"""Folder of the teacher's model in the run that is distilled from it."""
PASSES = 15
"""Over the text. With 16 and more passes a teacher lowered the loss by 1.9 % at least."""
FIRST_SHARE = 3 / 7
"""Of the minutes for both runs: a step with a teacher takes a third longer, so both make equally many."""
TEACHER_TIME = 1 / 3
"""Of a step of a model of the teacher's size, what the teacher adds to a step."""
DROPOUT_FACTOR = 0.5
"""Dropout with a teacher, as a part of the best dropout without one."""


@dataclass(frozen=True, kw_only=True)
class Distillation(StartingPoint):
    """Random weights, trained on the text and on the predictions of a run that was trained on it from scratch."""

    teacher: RunFolder
    teacher_plan: Plan
    asked: TrainSettings
    """What the user asked for."""

    @classmethod
    def open(cls, asked: TrainSettings) -> Distillation:
        """From the run that `asked.teacher` names. Raises RunNotFound, RunDamaged, SettingsError."""
        folder = RunFolder.open(Path(asked.teacher).expanduser())
        plan = folder.read_manifest().plan
        if fault := folder.find_damage_of_best():
            raise SettingsError(
                f"--teacher {asked.teacher}: {fault}.",
                hint=f"{quote_command('epigone', 'resume', folder.path)} mends it.",
            )
        _check_settings(asked, plan)
        size = plan.model.shape.vocab_size
        block_size = plan.batch.block_size if asked.block_size == "auto" else asked.block_size
        return cls(
            settings=asked.model_copy(update={"base": "none", "vocab_size": size, "block_size": block_size}),
            choice=BaseChoice(
                base=Choice("none", "its teacher was trained from scratch, too"),
                vocab_size=Choice(size, "its teacher's"),
            ),
            teacher=folder,
            teacher_plan=plan,
            asked=asked,
        )

    def load_tokenizer(self) -> BPETokenizer:
        """The teacher's: both have to predict the same tokens."""
        return load_tokenizer(self.teacher.model)

    def load_teacher(self) -> GPT2LMHeadModel:
        """The teacher's best model. Raises RunDamaged."""
        return load_model(self.teacher.model)

    def check_text(self, receipt: Receipt) -> None:
        """What is held out must be unknown to the teacher as well. Raises SettingsError."""
        theirs = self.teacher.read_receipt()
        same = (receipt.fingerprint, receipt.held_out_files, receipt.split) == (
            theirs.fingerprint,
            theirs.held_out_files,
            theirs.split,
        )
        if not same:
            raise SettingsError(
                f"{self.teacher.path} was trained on another text, or holds out another part of it, so it may know "
                "what is held out here.",
                hint="Give the same text, --validation, --split and --seed as there, or leave --teacher out.",
            )

    def adjust(self, plan: Plan) -> Plan:
        """Other random numbers than the teacher had, and less dropout."""
        plan = _with_teacher(plan, self.asked, self.teacher_plan.seed, "its predictions count as much as the text")
        if self.asked.block_size == "auto":
            plan = replace(plan, reasons=plan.reasons | {"block_size": "its teacher's"})
        return plan

    def keep(self, run: RunFolder) -> None:
        """Copy the teacher's model into the run, which then needs nothing else. Raises OutputError."""
        keep_teacher(self.teacher, run)


def _with_teacher(plan: Plan, asked: TrainSettings, seed: int, why: str) -> Plan:
    reasons, dropout = {"teacher": why}, plan.model.dropout
    if asked.dropout == "auto" and dropout:
        dropout = round(DROPOUT_FACTOR * dropout, 2)
        reasons["dropout"] = f"half of {plan.model.dropout:g}: a teacher itself works against overfitting"
    return replace(
        plan,
        teacher=asked.teacher,
        seed=(seed + 1) % 2**32,
        model=replace(plan.model, dropout=dropout),
        reasons=plan.reasons | reasons,
    )


def keep_teacher(teacher: RunFolder, run: RunFolder) -> None:
    """Copy the model of a run into one that learns from it. Raises OutputError."""
    weights = teacher.model / WEIGHTS
    check_room(run.path, weights.stat().st_size, "The teacher")
    try:
        make_folder(run.path / TEACHER)
        for file in (teacher.model / CONFIG, weights):
            run.write_known(run.path / TEACHER / file.name, file.read_bytes())
    except OSError as error:
        raise OutputError(f"{run.path / TEACHER} cannot be written: {error}.", hint="Free some space.") from None


# -- two runs in one


def check_two_runs(asked: TrainSettings, n_processes: int) -> None:
    """Raise SettingsError where one command is to make two runs and cannot."""
    if asked.teacher != SELF:
        return
    if n_processes > 1:
        raise SettingsError(
            f"--teacher {SELF} makes two runs in one process, and there are {n_processes}.",
            hint="Make the first run without it, then the second with --teacher and the first one's folder.",
        )
    if asked.lora != "none":
        raise SettingsError(f"--teacher {SELF} does not go with --lora.", hint="Leave one of them out.")


def divide_settings(asked: TrainSettings) -> TrainSettings:
    """Those of the first of two runs."""
    minutes = asked.minutes if asked.minutes == "none" else FIRST_SHARE * asked.minutes
    return asked.model_copy(update={"teacher": "none", "minutes": minutes})


def plan_second(first: Plan, asked: TrainSettings, n_bytes: int, seconds: float, bits_per_byte: float) -> Plan:
    """The plan of the second of two runs over `n_bytes` of text.

    The first one took so many seconds, and came to so many bits per byte.
    """
    why = f"its first run, in first/, reached {bits_per_byte:.3f} bits per byte; its predictions count as the text does"
    left = None
    if asked.minutes != "none":
        left = max(asked.minutes - seconds / 60, (1 - FIRST_SHARE) * asked.minutes / 2)
    first = replace(first, schedule=replace(first.schedule, minutes=left))
    return _with_teacher(_enlarge(first, asked, n_bytes, seconds), asked, first.seed, why)


def _enlarge(plan: Plan, asked: TrainSettings, n_bytes: int, seconds: float) -> Plan:
    """The plan with the next size and its dropout, where a teacher and the minutes allow them.

    `seconds` is what the first run took, which had the same plan but for the minutes.
    """
    passes = plan.schedule.n_steps / plan.batch.steps_per_epoch
    if not plan.model.fresh or asked.size != "auto" or round(passes) < PASSES:
        return plan
    shape = choose_larger(plan.model.shape, n_bytes, passes)
    if shape is None or not _has_time(plan, shape, seconds / passes):
        return plan
    dropout = resolve(asked.dropout, choose_dropout(passes, shape.n_parameters / n_bytes))
    reasons = {"size": "larger than its teacher, which keeps it from overfitting", "dropout": dropout.reason}
    model = replace(plan.model, shape=shape, dropout=dropout.value)
    return replace(plan, model=model, reasons=plan.reasons | reasons)


def _has_time(plan: Plan, larger: Shape, seconds_per_pass: float) -> bool:
    """Whether the minutes are enough for a larger model. `seconds_per_pass`: of the planned one without a teacher."""
    if plan.schedule.minutes is None:
        return True
    flops, before = (shape.count_flops(plan.batch.block_size) for shape in (larger, plan.model.shape))
    return PASSES * seconds_per_pass * (flops / before + TEACHER_TIME) <= 60 * plan.schedule.minutes


def _check_settings(asked: TrainSettings, plan: Plan) -> None:
    """Raise SettingsError where the settings do not go with a teacher of this plan."""
    name, shape = asked.teacher, plan.model.shape
    if not plan.model.fresh or asked.base not in ("auto", "none"):
        start, what = (asked.base, "this") if plan.model.fresh else (plan.model.base, "that")
        raise SettingsError(
            f"--teacher {name} needs models trained from scratch, and {what} one starts from {start}.",
            hint="Leave one of them out.",
        )
    if asked.vocab_size not in ("auto", shape.vocab_size):
        raise SettingsError(
            f"--vocab-size {asked.vocab_size} is not that of --teacher {name}, which has {shape.vocab_size:,} entries.",
            hint="Leave --vocab-size out.",
        )
    if asked.block_size != "auto" and asked.block_size > shape.n_positions:
        raise SettingsError(
            f"--block-size {asked.block_size} is more than the {shape.n_positions} tokens that --teacher {name} sees "
            "at once.",
            hint=f"Use {shape.n_positions} or less.",
        )


def load_kept_teacher(run: RunFolder) -> GPT2LMHeadModel:
    """The teacher that a run has kept. Raises RunDamaged."""
    place = run.path / TEACHER
    faults = (run.checksums.find_damage(place / name) for name in (CONFIG, WEIGHTS))
    if fault := next(filter(None, faults), None):
        raise RunDamaged(
            f"{run.path}: {fault}.",
            hint="Put it back: it is a copy of model/ of the run given as --teacher. The best model so far is intact.",
        )
    return load_model(place)


def can_teach(plan: Plan, reason: str) -> bool:
    """Whether a run that ended for this reason is worth distilling: trained from scratch, with enough passes."""
    return plan.model.fresh and not plan.teacher and reason in ("done", "patience") and plan.schedule.epochs >= PASSES
