"""The bytes of a text, the time and the machine in; how large a fresh model should be and how to train it, out.

The numbers were fitted on trials with texts of many authors; docs/findings.md has them. Each answer comes with its
reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable

SIZES_BY_BYTES = {
    True: (("pico", "nano", "micro", "mini", "small"), (20_000, 200_000, 600_000, 20_000_000)),
    False: (("pico", "micro", "small", "medium", "gpt2"), (20_000, 200_000, 5_000_000, 100_000_000)),
}
"""By whether a processor computes: sizes, and the bytes of text from which on the next one is taken."""
FEWEST_PASSES = 5
"""Under a time limit a smaller model that reads the text so often learns more than a larger one that does not."""


def choose_vocabulary(n_bytes: int) -> tuple[int, str]:
    """Entries of the vocabulary."""
    for limit, size in ((20_000, 320), (300_000, 512), (3_000_000, 1024), (10_000_000, 2048)):
        if n_bytes < limit:
            return size, f"enough examples of each entry in {n_bytes:,} bytes"
    return 4096, "a text this long has enough examples of each entry"


def choose_block(n_bytes: int, on_processor: bool) -> int:
    """Tokens that the model sees at once."""
    return 128 if on_processor and n_bytes < 3_000_000 else 256


def choose_size(n_bytes: int, on_processor: bool, count_passes: Callable[[str], float]) -> tuple[str, str]:
    """The size. `count_passes` says how often a model of a size would read the text in the time; inf if it is open."""
    sizes, limits = SIZES_BY_BYTES[on_processor]
    place = sum(n_bytes >= limit for limit in limits)
    reason = f'"{sizes[place]}" suits {n_bytes:,} bytes of text'
    while place and count_passes(sizes[place]) < FEWEST_PASSES:
        place -= 1
        reason = f"a larger one would read the text fewer than {FEWEST_PASSES} times in the minutes"
    return sizes[place], reason


def choose_epochs(n_bytes: int) -> float:
    """The most passes that help: more over a short text, which is soon learned by heart all the same."""
    most: float = round(36 * (1e5 / n_bytes) ** 0.35)
    return min(60.0, max(2.0, most))


def choose_dropout(passes: float, parameters_per_byte: float) -> tuple[float, str]:
    """Share of activations to drop: more where a large model reads a short text often."""
    dropout = min(0.3, round(0.003 * passes * math.sqrt(parameters_per_byte), 2))
    if dropout < 0.03:
        return 0.0, "the text is read a few times only"
    return dropout, f"against learning by heart what is read some {passes:.0f} times"
