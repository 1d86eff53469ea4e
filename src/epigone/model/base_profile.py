"""Profiles of the bases that come with the package: how each is fine-tuned best, as data beside its weights.

Each folder in `epigone/bases` with a profile.toml is a base of that name; no code names one.
"""

from __future__ import annotations

import json
import math
import tomllib
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict

PROFILE, BOOKS = "profile.toml", "books.safetensors"
MANIFEST = "run.json"
"""Of a run, which says what it was tuned from; read here as far as that."""
PLACE = Path(__file__).parents[1] / "bases"


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PowerLaw(_Values):
    """A number that grows or falls with the length of the text: at * (n_bytes / bytes) ^ power, within bounds."""

    at: float
    bytes: float
    power: float
    least: float
    most: float

    def __call__(self, n_bytes: int) -> float:
        """Its value for a text of so many bytes."""
        value = self.at * math.exp(self.power * math.log(n_bytes / self.bytes))
        return min(self.most, max(self.least, value))


class StepSize(_Values):
    """Tokens in a step, for texts below a length."""

    tokens: int
    below_bytes: float = math.inf


class BaseProfile(_Values):
    """What the plan has to know of a bundled base."""

    folder: Path
    """config.json, weights and tokenizer; if it has them, kept samples, a filter of the books it was trained on, and a
    list of words in place of the one that lies beside the folders."""
    automatic: bool
    """Whether the plan may choose it when the user names no base."""
    longest_bytes: int
    """For longer texts a new model is better than this base."""
    fewest_blocks: int
    """The text is cut into at least this many blocks."""
    optimizer: Literal["adamw", "muon"]
    optimizer_reason: str
    learning_rate: PowerLaw
    """Peak, with Muon."""
    adamw_share: float
    """AdamW's peak learning rate as a part of that."""
    epochs: PowerLaw
    """The most passes over the text that help."""
    tokens_per_step: tuple[StepSize, ...]
    beta2: float
    momentum: float
    weight_decay: float
    dropout: float
    patience: int | Literal["none"]

    @property
    def name(self) -> str:
        """Its name for --base."""
        return self.folder.name

    @cached_property
    def n_positions(self) -> int:
        """Context length in tokens."""
        return int(json.loads((self.folder / "config.json").read_text("utf-8"))["n_positions"])

    def choose_tokens_per_step(self, n_bytes: int) -> int:
        """Tokens in a step for a text of so many bytes."""
        return next(size.tokens for size in self.tokens_per_step if n_bytes < size.below_bytes)


def read_profile(folder: Path) -> BaseProfile:
    """The profile in a base's folder. Raises OSError, ValueError."""
    return BaseProfile(folder=folder, **tomllib.loads((folder / PROFILE).read_text("utf-8")))


BASES = {path.parent.name: read_profile(path.parent) for path in sorted(PLACE.glob(f"*/{PROFILE}"))}
"""The bundled bases by name. A user's folder of the same name is given as ./NAME."""


def find_root(base: str) -> str:
    """The base that a base was tuned from in the end: itself, unless it is the folder of a run or of a run's model."""
    seen = set[str]()
    while base not in (*BASES, "none", *seen):
        seen.add(base)
        base = read_base_of_run(base) or base
    return base


def name_base(base: str) -> str:
    """A base as people call it: without the folders around one, which say whose machine it lies on."""
    return PurePath(base).name if PurePath(base).is_absolute() else base


def read_base_of_run(base: str) -> str:
    """What a base was tuned from if it is a run or the model of one; "" where that is not known."""
    folder = Path(base)
    for place in (folder, folder.parent) if folder.name == "model" else (folder,):
        with suppress(OSError, RuntimeError, ValueError, LookupError, TypeError):
            return str(json.loads((place.expanduser() / MANIFEST).read_text("utf-8"))["plan"]["model"]["base"])
    return ""


def find_profile(base: str) -> BaseProfile | None:
    """The profile of a bundled base, or of the one that a run was tuned from; None for any other base."""
    return BASES.get(find_root(base))


def automatic_bases() -> list[BaseProfile]:
    """The bases that the plan may choose when the user names none, the largest first."""
    return sorted(
        (profile for profile in BASES.values() if profile.automatic),
        key=lambda profile: (profile.folder / "model.safetensors").stat().st_size,
        reverse=True,
    )
