"""Where a run starts: from random weights or from a base, which brings its own tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from epigone.model.hub import Base
from epigone.planning.choose_base import BaseChoice
from epigone.planning.plan import Plan
from epigone.runs.folder import RunFolder
from epigone.runs.records import Receipt
from epigone.settings import TrainSettings
from epigone.tokens.tokenizer import BPETokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """Random weights or a base. `Distillation` is another kind, and changes what the methods here leave alone."""

    settings: TrainSettings
    """What the user asked for, with what the starting point itself decides filled in."""
    choice: BaseChoice
    base: Base | None = None
    """None for random weights."""

    @property
    def folder(self) -> Path | None:
        """The folder of the base's weights; None for random weights."""
        return None if self.base is None else self.base.folder

    def load_tokenizer(self) -> BPETokenizer | None:
        """The tokenizer that comes with the weights; None where one has to be trained on the text."""
        return None if self.base is None else load_tokenizer(self.base.folder)

    def load_teacher(self) -> GPT2LMHeadModel | None:
        """The model to distil from, if any."""
        return None

    def check_text(self, receipt: Receipt) -> None:
        """Raise SettingsError where the text is not one that this starting point can be used with."""

    def adjust(self, plan: Plan) -> Plan:
        """The plan with what is particular to this starting point."""
        return plan

    def keep(self, run: RunFolder) -> None:
        """Copy into the run what it will need besides its own files. Raises OutputError."""
