"""The bytes of a text, the time and the machine in; how large a fresh model should be and how to train it, out.

The numbers were fitted on trials with texts of many authors; docs/findings.md has them. Each answer comes with its
reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable

SIZES_BY_BYTES = {
    True: (("2x64", "2x128", "2x192", "4x192", "6x256", "6x384"), (100_000, 500_000, 800_000, 2_500_000, 20_000_000)),
    False: (("pico", "micro", "small", "medium", "gpt2"), (20_000, 200_000, 5_000_000, 100_000_000)),
}
"""By whether a processor computes: sizes, and the bytes of text from which on the next one may be taken."""
SECONDS_FOR_LONG_BLOCKS = 360
"""Of a run on two cores that compute in bf16."""
FEWEST_TOKENS_PER_PARAMETER = 2
"""A model that would see fewer in the time learns less than a smaller one that sees more."""


def choose_vocabulary(n_bytes: int) -> tuple[int, str]:
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


def choose_epochs(n_bytes: int) -> float:
    """The most passes that help: more over a short text, which is soon learned by heart all the same."""
    most: float = round(36 * (1e5 / n_bytes) ** 0.35)
    return min(60.0, max(2.0, most))


def choose_dropout(passes: float, parameters_per_byte: float) -> tuple[float, str]:
    """Share of activations to drop: more where a large model reads a short text often."""
    dropout = min(0.2, round(0.0035 * passes * math.sqrt(parameters_per_byte), 2))
    if dropout < 0.02:
        return 0.0, "the text is read a few times only"
    return dropout, f"against learning by heart what is read some {passes:.0f} times"


def choose_rate_for_small(n_bytes: int) -> float:
    """Peak rate of AdamW for the small base, Muon's in proportion: the longer the text, the more it may change."""
    return min(1e-3, max(1.5e-4, 3e-4 * math.exp(0.37 * math.log(n_bytes / 50_000))))


def choose_tokens_per_step_for_small(n_bytes: int) -> int:
    """Few where a pass over the text would otherwise take few steps."""
    return 512 if n_bytes < 200_000 else 2048


def choose_epochs_for_small(n_bytes: int) -> float:
    """The most passes that help the small base."""
    most: float = round(3 * (50_000 / n_bytes) ** 0.35)
    return min(8.0, max(3.0, most))
