"""What training starts from and how long a text is, in; how fast and how carefully to learn, with reasons, out.

The numbers are from trials; docs/findings.md has them.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from epigone.model import rule
from epigone.model.hub import SMALL
from epigone.model.shape import Shape

Optimizer = Literal["adamw", "muon"]


class Recipe(NamedTuple):
    """What is best where nothing is asked for, each with its reason."""

    optimizer: tuple[Optimizer, str]
    rates: dict[Optimizer, float]
    """Peak learning rate by optimizer."""
    rate_reason: str
    dropout: tuple[float, str]
    weight_decay: tuple[float, str]
    beta2: float
    embedding_share: float = 1.0
    """With Muon, the embeddings' rate as a multiple of the rest's."""
    momentum: float = 0.95
    """Muon's."""


def choose_recipe(base: str, shape: Shape, n_bytes: int, passes: float, *, lora: bool) -> Recipe:
    """For a fresh model, the small base, or another one; `passes` over the text are what time and epochs allow."""
    if base == "none":
        return _learn_afresh(shape, n_bytes, passes)
    return _tune_small(n_bytes) if base == SMALL else _tune_other(lora=lora)


def _learn_afresh(shape: Shape, n_bytes: int, passes: float) -> Recipe:
    return Recipe(
        optimizer=("muon", "learns most in a step from scratch"),
        rates={"muon": 1e-2, "adamw": min(3e-3, 3e-3 * 192 / shape.n_embd)},
        rate_reason="measured best",
        dropout=rule.choose_dropout(passes, shape.n_parameters / n_bytes),
        weight_decay=(0.1, "usual"),
        beta2=0.95,
        embedding_share=3.0,
        momentum=0.9,
    )


def _tune_small(n_bytes: int) -> Recipe:
    """Dropout was seen to cost it more than it saves: it was made without."""
    rate = rule.choose_rate_for_small(n_bytes)
    return Recipe(
        optimizer=("muon", "the small base was made with it"),
        rates={"muon": rate, "adamw": rate / 2},
        rate_reason="measured best for a text of this length",
        dropout=(0.0, "the small base was made without"),
        weight_decay=(0.1, "as it was made"),
        beta2=0.95,
    )


def _tune_other(*, lora: bool) -> Recipe:
    return Recipe(
        optimizer=("adamw", "GPT-2 was made with it"),
        rates=dict.fromkeys(("adamw", "muon"), 2e-4 if lora else 5e-5),  # the first is Hu et al.'s for GPT-2
        rate_reason="gentle, to keep what is known",
        dropout=(0.1, "as GPT-2 was made"),
        weight_decay=(0.01, "gentle"),
        beta2=0.999,
    )


def choose_epochs(base: str, n_bytes: int) -> float:
    """Passes over the text, at most."""
    if base == "none":
        return rule.choose_epochs(n_bytes)
    if base == SMALL:
        return rule.choose_epochs_for_small(n_bytes)
    return min(10.0, max(2.0, round(4 * math.sqrt(1e6 / n_bytes))))
