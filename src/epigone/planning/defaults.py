"""What training starts from and how long a text is, in; how fast and how carefully to learn, with reasons, out.

The numbers are from trials; docs/dev/findings.md has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from epigone.model.base_profile import BASES, BaseProfile
from epigone.model.size import Shape

SIZES_BY_BYTES = {
    True: (("2x64", "2x128", "2x192", "4x192", "6x256", "6x384"), (100_000, 500_000, 800_000, 2_500_000, 20_000_000)),
    False: (("pico", "micro", "small", "medium", "gpt2"), (20_000, 200_000, 5_000_000, 100_000_000)),
}
"""By whether a processor computes: sizes, and the bytes of text from which on the next one may be taken."""
SECONDS_FOR_LONG_BLOCKS = 360
"""Of a run on two cores that compute in bf16."""
FEWEST_TOKENS_PER_PARAMETER = 2
"""A model that would see fewer in the time learns less than a smaller one that sees more."""


def choose_vocab_size(n_bytes: int) -> tuple[int, str]:
    """Entries of the vocabulary."""
    for limit, size in ((20_000, 320), (400_000, 512), (6_000_000, 1024), (20_000_000, 2048)):
        if n_bytes < limit:
            return size, f"enough examples of each entry in {n_bytes:,} bytes"
    return 4096, "a text this long has enough examples of each entry"


def choose_block(n_bytes: int, on_processor: bool, seconds: float) -> int:
    """Tokens that the model sees at once. Short blocks teach faster; long ones pay when there is time.

    `seconds` is the time allowed, inf if it is open.
    """
    if not on_processor:
        return 256
    short = n_bytes < 400_000 or seconds < SECONDS_FOR_LONG_BLOCKS
    return 64 if short else 128 if n_bytes < 20_000_000 else 256


def choose_size(n_bytes: int, on_processor: bool, count_tokens: Callable[[str], float]) -> tuple[str, str]:
    """The size. `count_tokens` says how many tokens for each of its parameters a model of a size would see."""
    sizes, limits = SIZES_BY_BYTES[on_processor]
    place = sum(n_bytes >= limit for limit in limits)
    reason = f'"{sizes[place]}" suits {n_bytes:,} bytes of text'
    while place and count_tokens(sizes[place]) < FEWEST_TOKENS_PER_PARAMETER:
        place -= 1
        reason = "a larger one would see too few tokens for its parameters in the time"
    return sizes[place], reason


def choose_epochs_from_scratch(n_bytes: int) -> float:
    """The most passes that help: more over a short text, which is soon learned by heart all the same."""
    most: float = round(36 * (1e5 / n_bytes) ** 0.35)
    return min(60.0, max(2.0, most))


def choose_dropout(passes: float, parameters_per_byte: float) -> tuple[float, str]:
    """Share of activations to drop: more where a large model reads a short text often."""
    dropout = min(0.2, round(0.0035 * passes * math.sqrt(parameters_per_byte), 2))
    if dropout < 0.02:
        return 0.0, "the text is read a few times only"
    return dropout, f"against learning by heart what is read some {passes:.0f} times"


Optimizer = Literal["adamw", "muon"]


class TrainingDefaults(NamedTuple):
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
    patience: tuple[int | Literal["none"], str] | None = None
    """None where it follows from the number of epochs."""


def choose_defaults(base: str, shape: Shape, n_bytes: int, passes: float, *, lora: bool) -> TrainingDefaults:
    """For a new model, a bundled base, or another one; `passes` over the text are what time and epochs allow."""
    if base == "none":
        return _defaults_from_scratch(shape, n_bytes, passes)
    return _defaults_for_bundled(BASES[base], n_bytes) if base in BASES else _defaults_for_other_base(lora=lora)


def _defaults_from_scratch(shape: Shape, n_bytes: int, passes: float) -> TrainingDefaults:
    return TrainingDefaults(
        optimizer=("muon", "learns most in a step from scratch"),
        rates={"muon": 1e-2, "adamw": min(3e-3, 3e-3 * 192 / shape.n_embd)},
        rate_reason="measured best",
        dropout=choose_dropout(passes, shape.n_parameters / n_bytes),
        weight_decay=(0.1, "usual"),
        beta2=0.95,
        embedding_share=3.0,
        momentum=0.9,
    )


def _defaults_for_bundled(profile: BaseProfile, n_bytes: int) -> TrainingDefaults:
    rate = profile.learning_rate(n_bytes)
    return TrainingDefaults(
        optimizer=(profile.optimizer, profile.optimizer_reason),
        rates={"muon": rate, "adamw": rate * profile.adamw_share},
        rate_reason="measured best for a text of this length",
        dropout=(profile.dropout, f"measured best for {profile.name}"),
        weight_decay=(profile.weight_decay, f"measured best for {profile.name}"),
        beta2=profile.beta2,
        momentum=profile.momentum,
        patience=(profile.patience, "part of the way back to the base is tried from the last weights"),
    )


def _defaults_for_other_base(*, lora: bool) -> TrainingDefaults:
    return TrainingDefaults(
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
        return choose_epochs_from_scratch(n_bytes)
    if base in BASES:
        return float(round(BASES[base].epochs(n_bytes)))
    return min(10.0, max(2.0, round(4 * math.sqrt(1e6 / n_bytes))))
