"""Default hyperparameters (size, epochs, learning rate, dropout …) by base and length of text, each with its reason.

The numbers are from trials; docs/dev/findings.md has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from epigone.model.base_profile import BaseProfile, find_profile
from epigone.model.size import Shape, make_shape
from epigone.planning.choice import Choice
from epigone.planning.specs import OptimizerName
from epigone.settings import parse_size

SIZES_BY_BYTES = {
    True: (("2x64", "2x128", "2x192", "4x192", "6x256", "6x384"), (100_000, 500_000, 800_000, 2_500_000, 20_000_000)),
    False: (("pico", "micro", "small", "medium", "gpt2"), (20_000, 200_000, 5_000_000, 100_000_000)),
}
"""By whether the device is a CPU: sizes, and the bytes of text from which the next size may be taken."""
SECONDS_FOR_LONG_BLOCKS = 360
"""Time limit below which short blocks are better, on two cores with native bf16."""
FEWEST_TOKENS_PER_PARAMETER = 2
"""A model that would see fewer tokens in the time learns less than a smaller one that sees more."""

MOST_WITH_TEACHER = 100
"""Passes times the root of the parameters for each byte, above which a model overfits though it has a teacher."""
RATE_AGAIN, PASSES_AGAIN = 0.5, 0.5
"""For a run that has read the text among others, as those of voices begin: its learning rate as a part of that of the
run before, and passes as a part of those over a new text (docs/dev/findings.md)."""


def choose_vocab_size(n_bytes: int) -> Choice[int]:
    """Entries of the vocabulary."""
    for limit, size in ((20_000, 320), (400_000, 512), (6_000_000, 1024), (20_000_000, 2048)):
        if n_bytes < limit:
            return Choice(size, f"enough examples of each entry in {n_bytes:,} bytes")
    return Choice(4096, "a text this long has enough examples of each entry")


def choose_block(n_bytes: int, on_processor: bool, seconds: float) -> int:
    """Context length in tokens. Short blocks train faster; long ones pay off when there is time.

    `seconds` is the time allowed, inf if it is open.
    """
    if not on_processor:
        return 256
    short = n_bytes < 400_000 or seconds < SECONDS_FOR_LONG_BLOCKS
    return 64 if short else 128 if n_bytes < 20_000_000 else 256


def choose_size(n_bytes: int, on_processor: bool, count_tokens: Callable[[str], float]) -> Choice[str]:
    """Model size. `count_tokens`: tokens per parameter that a model of a size would see."""
    sizes, limits = SIZES_BY_BYTES[on_processor]
    place = sum(n_bytes >= limit for limit in limits)
    reason = f'"{sizes[place]}" suits {n_bytes:,} bytes of text'
    while place and count_tokens(sizes[place]) < FEWEST_TOKENS_PER_PARAMETER:
        place -= 1
        reason = "a larger one would see too few tokens for its parameters in the time"
    return Choice(sizes[place], reason)


def choose_larger(shape: Shape, n_bytes: int, passes: float) -> Shape | None:
    """The shape for a model whose teacher has this one; None where a larger one brought nothing, or would overfit."""
    if (shape.n_layer, shape.n_embd) != parse_size("2x64"):
        return None
    found = make_shape("2x128", block_size=shape.n_positions, vocab_size=shape.vocab_size)
    return found if passes * math.sqrt(found.n_parameters / n_bytes) <= MOST_WITH_TEACHER else None


def choose_epochs_from_scratch(n_bytes: int) -> float:
    """The most passes that help: more over a short text, though it is soon memorized."""
    return min(60.0, max(2.0, float(round(36 * (1e5 / n_bytes) ** 0.35))))


def choose_dropout(passes: float, parameters_per_byte: float) -> Choice[float]:
    """Share of activations to drop: more if a large model reads a short text often."""
    dropout = min(0.2, round(0.0035 * passes * math.sqrt(parameters_per_byte), 2))
    if dropout < 0.02:
        return Choice(0.0, "the text is read only a few times")
    return Choice(dropout, f"against overfitting: the text is read about {passes:.0f} times")


class TrainingDefaults(NamedTuple):
    """The recommended hyperparameters."""

    optimizer: Choice[OptimizerName]
    rates: dict[OptimizerName, float]
    """Peak learning rate by optimizer."""
    rate_reason: str
    dropout: Choice[float]
    weight_decay: Choice[float]
    beta2: float
    patience: Choice[int | Literal["none"]]
    embedding_share: float = 1.0
    """With Muon, the embeddings' learning rate as a multiple of the rest's."""
    momentum: float = 0.95
    """Muon's."""


def choose_defaults(
    base: str, shape: Shape, n_bytes: int, *, epochs: float, passes: float, lora: bool
) -> TrainingDefaults:
    """Defaults for a new model, a bundled base or another base. `passes`: over the text, as time and epochs allow."""
    if profile := find_profile(base):
        return _defaults_for_bundled(profile, n_bytes)
    soon = Choice(max(3, min(10, round(epochs / 3))), "once a model overfits, later epochs are rarely better")
    if base == "none":
        return _defaults_from_scratch(shape, n_bytes, passes, soon)
    return _defaults_for_other_base(soon, lora=lora)


def _defaults_from_scratch(shape: Shape, n_bytes: int, passes: float, patience: Choice[int]) -> TrainingDefaults:
    return TrainingDefaults(
        optimizer=Choice("muon", "learns most per step from scratch"),
        rates={"muon": 1e-2, "adamw": min(3e-3, 3e-3 * 192 / shape.n_embd)},
        rate_reason="measured best",
        dropout=choose_dropout(passes, shape.n_parameters / n_bytes),
        weight_decay=Choice(0.1, "usual"),
        beta2=0.95,
        patience=patience,
        embedding_share=3.0,
        momentum=0.9,
    )


def _defaults_for_bundled(profile: BaseProfile, n_bytes: int) -> TrainingDefaults:
    rate = profile.learning_rate(n_bytes)
    return TrainingDefaults(
        optimizer=Choice(profile.optimizer, profile.optimizer_reason),
        rates={"muon": rate, "adamw": rate * profile.adamw_share},
        rate_reason="measured best for a text of this length",
        dropout=Choice(profile.dropout, f"measured best for {profile.name}"),
        weight_decay=Choice(profile.weight_decay, f"measured best for {profile.name}"),
        beta2=profile.beta2,
        patience=Choice(profile.patience, "all epochs: at the end the last weights are interpolated with the base's"),
        momentum=profile.momentum,
    )


def _defaults_for_other_base(patience: Choice[int], *, lora: bool) -> TrainingDefaults:
    return TrainingDefaults(
        optimizer=Choice("adamw", "GPT-2 was trained with it"),
        rates=dict.fromkeys(("adamw", "muon"), 2e-4 if lora else 5e-5),  # the first is Hu et al.'s for GPT-2
        rate_reason="low, to keep what the base knows",
        dropout=Choice(0.1, "as GPT-2 was trained"),
        weight_decay=Choice(0.01, "low, to stay close to the base"),
        beta2=0.999,
        patience=patience,
    )


def choose_epochs(base: str, n_bytes: int) -> float:
    """Passes over the text, at most."""
    if base == "none":
        return choose_epochs_from_scratch(n_bytes)
    if profile := find_profile(base):
        return float(round(profile.epochs(n_bytes)))
    return min(10.0, max(2.0, float(round(4 * math.sqrt(1e6 / n_bytes)))))
