"""Settings, the size of a text and a machine in; from which weights to start, and with which vocabulary, out.

The first half of a plan: tokens depend on it, and the rest of the plan on tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from epigone.errors import SettingsError
from epigone.hardware import Hardware
from epigone.model.base_profile import default_base
from epigone.planning.defaults import choose_vocab_size
from epigone.settings import TrainSettings, flag_name

SLOWEST_EPOCH_SECONDS = 900
"""GPT-2 is only chosen unasked where a pass over the text takes less than this, or than the minutes allowed."""
CLEARLY = 0.75
"""Part of the tuned base's bits: a fresh model that needs less than that in the trial is taken. One that needed 0.88 of
them was behind after a minute."""
FITS = 2.0
"""Bits per byte that the untouched small base needs of a text that it fits, so that no trial is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseChoice:
    """From which weights to start, and with which vocabulary. `base` is "none" for a fresh model."""

    base: str
    vocab_size: int
    """Entries to learn for a fresh model; 0 where the base brings its own."""
    reason: str
    vocab_size_reason: str


class SettingResolver:
    """Takes what was asked, or else what is best here, and keeps the reason."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.reasons: dict[str, str] = {}

    def choose(self, name: str, best: Any, reason: str) -> Any:
        """The value of a setting: the asked one unless it is "auto"."""
        asked = getattr(self.settings, name)
        self.reasons[name] = reason if asked == "auto" else "as asked"
        return best if asked == "auto" else asked


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseTrial:
    """Bits per byte of a part of the text that was not learned from, in a trial of the small base and a fresh model."""

    untouched: float
    """By the small base as it comes."""
    tuned: float = 0.0
    """After some seconds of tuning. 0, as below, where the trial was not needed."""
    fresh: float = 0.0
    """By a fresh model that learned for as long."""

    @property
    def for_fresh(self) -> bool:
        """Whether the fresh model clearly wins."""
        return self.untouched > FITS and self.fresh < CLEARLY * self.tuned


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseFit:
    """How well bases fit the text: measured only when it is asked for."""

    gpt2: Callable[[], float] | None
    """Bytes of the text for each token of GPT-2's; None where its weights are not at hand."""
    small: Callable[[], BaseTrial]


def choose_base(settings: TrainSettings, *, n_bytes: int, fits: BaseFit, hardware: Hardware) -> BaseChoice:
    """Fine-tune or learn from scratch. Raises SettingsError."""
    base, reason = settings.base, "as asked"
    if base == "auto":
        base, reason = _choose_automatically(settings, n_bytes, fits, hardware)
    if base != "none":
        if settings.vocab_size != "auto":
            raise SettingsError(
                f"--vocab-size {settings.vocab_size} needs a fresh model, but {base} brings its own vocabulary.",
                hint="Add --base none, or leave --vocab-size out.",
            )
        return BaseChoice(base=base, vocab_size=0, reason=reason, vocab_size_reason=f"{base}'s own")
    chooser = SettingResolver(settings)
    size = chooser.choose("vocab_size", *choose_vocab_size(n_bytes))
    return BaseChoice(base="none", vocab_size=size, reason=reason, vocab_size_reason=chooser.reasons["vocab_size"])


def _choose_automatically(settings: TrainSettings, n_bytes: int, fits: BaseFit, hardware: Hardware) -> tuple[str, str]:
    for name in ("size", "vocab_size"):
        if getattr(settings, name) != "auto":
            return "none", f"{flag_name(name)} asks for a fresh model"
    bundled = default_base()
    if settings.block_size != "auto" and settings.block_size > bundled.n_positions:
        return "none", f"the base {bundled.name} sees {bundled.n_positions} tokens at once"
    why_not = _refuse_gpt2(settings, n_bytes, fits, hardware)
    if not why_not:
        return "gpt2", "GPT-2's weights are on this machine, and a text learns best from more than itself"
    if n_bytes > bundled.longest_bytes:
        return "none", f"{n_bytes:,} bytes teach a new model more than the base {bundled.name} knows; {why_not}"
    trial = fits.small()
    return "none" if trial.for_fresh else bundled.name, f"{_describe_trial(trial, bundled.name)}; {why_not}"


def _describe_trial(trial: BaseTrial, name: str) -> str:
    if trial.untouched <= FITS:
        return f"the base {name} fits this text as it comes ({trial.untouched:.1f} bits a byte)"
    found = f"the base {name} needs {trial.tuned:.1f} bits a byte (untouched {trial.untouched:.1f})"
    return f"after a trial of some seconds {found}, a fresh model that learned for as long {trial.fresh:.1f}"


def _refuse_gpt2(settings: TrainSettings, n_bytes: int, fits: BaseFit, hardware: Hardware) -> str:
    """Why not to start from GPT-2; "" if nothing speaks against it."""
    if fits.gpt2 is None:
        return "GPT-2's weights are not on this machine (--base gpt2 fetches them once, 0.5 GB)"
    fit = fits.gpt2()
    if fit < 2.5:
        return f"GPT-2's vocabulary does not fit this text ({fit:.1f} bytes per token; English has about 4)"
    allowed = SLOWEST_EPOCH_SECONDS if settings.minutes == "none" else 60 * settings.minutes
    seconds = n_bytes / fit / _guess_tokens_per_second(hardware)
    if seconds > allowed:
        return f"a pass of GPT-2 over this text would take about {seconds / 60:.0f} minutes here"
    return ""


def _guess_tokens_per_second(hardware: Hardware) -> float:
    """GPT-2 124M: 600 tokens per second were measured on two cores with bf16, 350,000 on one H100."""
    if hardware.device == "cuda":
        return 50_000
    return hardware.n_threads * (300 if hardware.bf16 else 80) if hardware.device == "cpu" else 1_000
