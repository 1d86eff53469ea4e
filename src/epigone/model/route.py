"""Settings, the size of a text and a machine in; from which weights to start, and with which vocabulary, out.

The first half of a plan: tokens depend on it, and the rest of the plan on tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from epigone.errors import SettingsError
from epigone.model.hardware import Hardware
from epigone.model.rule import choose_vocabulary
from epigone.settings import Settings

SLOWEST_EPOCH_SECONDS = 900
"""Fine-tuning is only chosen unasked where a pass over the text takes less than this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """From which weights to start, and with which vocabulary. `base` is "none" for a fresh model."""

    base: str
    vocabulary_size: int
    """Entries to learn for a fresh model; 0 where the base brings its own."""
    reason: str
    vocabulary_reason: str


class Chooser:
    """Takes what was asked, or else what is best here, and keeps the reason."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reasons: dict[str, str] = {}

    def choose(self, name: str, best: Any, reason: str) -> Any:
        """The value of a setting: the asked one unless it is "auto"."""
        asked = getattr(self.settings, name)
        self.reasons[name] = reason if asked == "auto" else "as asked"
        return best if asked == "auto" else asked


def choose_route(
    settings: Settings,
    *,
    n_bytes: int,
    bytes_per_gpt2_token: Callable[[], float],
    gpt2_at_hand: bool,
    hardware: Hardware,
) -> Route:
    """Fine-tune or learn from scratch. `bytes_per_gpt2_token` is asked only where GPT-2's weights are at hand."""
    base, reason = settings.base, "as asked"
    if base == "auto":
        base, reason = _choose_base(n_bytes, bytes_per_gpt2_token, gpt2_at_hand, hardware)
    if base != "none":
        if settings.vocabulary != "auto":
            raise SettingsError(
                f"--vocabulary {settings.vocabulary} needs a fresh model, but {base} brings its own vocabulary.",
                hint="Add --base none, or leave --vocabulary out.",
            )
        return Route(base=base, vocabulary_size=0, reason=reason, vocabulary_reason=f"{base}'s own")
    chooser = Chooser(settings)
    size = chooser.choose("vocabulary", *choose_vocabulary(n_bytes))
    return Route(base="none", vocabulary_size=size, reason=reason, vocabulary_reason=chooser.reasons["vocabulary"])


def _choose_base(
    n_bytes: int, bytes_per_gpt2_token: Callable[[], float], gpt2_at_hand: bool, hardware: Hardware
) -> tuple[str, str]:
    if not gpt2_at_hand:
        return "none", "GPT-2's weights are not on this machine; --base gpt2 fetches them once (0.5 GB)"
    fit = bytes_per_gpt2_token()
    if fit < 2.5:
        return "none", f"GPT-2's vocabulary does not fit this text ({fit:.1f} bytes per token; English has about 4)"
    seconds = n_bytes / fit / _guess_tokens_per_second(hardware)
    if seconds > SLOWEST_EPOCH_SECONDS:
        return "none", f"a pass of GPT-2 over this text would take about {seconds / 60:.0f} minutes here"
    return "gpt2", "GPT-2's weights are on this machine, and a text learns best from more than itself"


def _guess_tokens_per_second(hardware: Hardware) -> float:
    """GPT-2 124M: 600 tokens per second were measured on two cores with bf16, 350,000 on one H100."""
    if hardware.device == "cuda":
        return 50_000
    return hardware.n_threads * (300 if hardware.bf16 else 80) if hardware.device == "cpu" else 1_000
