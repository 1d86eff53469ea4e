"""Choice of the base (GPT-2, a bundled base or none) and of the vocabulary, from settings, text and machine.

The first half of a plan: the tokens depend on it, and the rest of the plan depends on the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from epigone.errors import SettingsError
from epigone.hardware import Hardware
from epigone.model.base_profile import BaseProfile, automatic_bases, name_base
from epigone.planning.choice import Choice, resolve
from epigone.planning.defaults import choose_vocab_size
from epigone.settings import TrainSettings, flag_name

SLOWEST_EPOCH_SECONDS = 900
"""The plan chooses GPT-2 only if a pass over the text takes less than this, or than the minutes given."""
CLEARLY = 0.75
"""A new model is chosen if in the trial it needs fewer than this part of the fine-tuned base's bits. One that needed
0.88 of them was behind after a minute."""
FITS = 2.0
"""Bits per byte of a bundled base, before or after a short training, up to which no new model is tried."""
STRANGE = 3.0
"""Bits per byte of an untouched base above which a new model is tried even so: one that began with 9.3, in an alphabet
that it did not know, reached 1.9 and in a longer trial 1.7, a new model in the same time 0.5."""


class BaseChoice(NamedTuple):
    """The base and the vocabulary to start from."""

    base: Choice[str]
    """"none" for a new model."""
    vocab_size: Choice[int]
    """Entries of a new model's vocabulary; 0 if the base has its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseTrial:
    """Bits per byte of held-out text, in a trial of the bundled bases and of a new model."""

    untouched: dict[str, float]
    """Of each bundled base before training, by name."""
    compared: dict[str, float] = field(default_factory=dict)
    """Of each after a few seconds of fine-tuning, the same for all; empty if it was clear which is best."""
    best: str
    """The bundled base that is taken, unless the new model wins."""
    tuned: float = 0.0
    """Of that base after a few seconds of fine-tuning; 0, as `fresh`, if no trial was needed."""
    fresh: float = 0.0
    """Of a new model trained for the same time."""

    @property
    def for_fresh(self) -> bool:
        """Whether the new model clearly wins."""
        return 0 < self.fresh < CLEARLY * self.tuned


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseFit:
    """How well the bases fit the text; measured only when it is needed."""

    gpt2: Callable[[], float] | None
    """Bytes of the text per token of GPT-2's tokenizer; None if its weights are not on this machine."""
    bundled: Callable[[Sequence[str]], BaseTrial]
    """A trial of the bundled bases of these names, the largest first."""


def choose_base(settings: TrainSettings, *, n_bytes: int, fits: BaseFit, hardware: Hardware) -> BaseChoice:
    """Fine-tune a base or train from scratch. Raises SettingsError."""
    base = Choice(settings.base, "as asked")
    if settings.base == "auto":
        base = _choose_automatically(settings, n_bytes, fits, hardware)
    if base.value == "none":
        return BaseChoice(base, resolve(settings.vocab_size, choose_vocab_size(n_bytes)))
    if settings.vocab_size != "auto":
        raise SettingsError(
            f"--vocab-size {settings.vocab_size} needs a new model, but {base.value} brings its own vocabulary.",
            hint="Add --base none, or leave --vocab-size out.",
        )
    return BaseChoice(base, Choice(0, f"{name_base(base.value)}'s own"))


def _choose_automatically(settings: TrainSettings, n_bytes: int, fits: BaseFit, hardware: Hardware) -> Choice[str]:
    for name in ("size", "vocab_size"):
        if getattr(settings, name) != "auto":
            return Choice("none", f"{flag_name(name)} needs a new model")
    bases = automatic_bases()
    roomy = [base for base in bases if settings.block_size == "auto" or settings.block_size <= base.n_positions]
    if not roomy:
        longest = max(base.n_positions for base in bases)
        return Choice("none", f"the bundled bases have a context of only {longest} tokens")
    why_not = _refuse_gpt2(settings, n_bytes, fits, hardware)
    if not why_not:
        return Choice("gpt2", "GPT-2's weights are on this machine, and a pretrained model learns a style best")
    return _choose_bundled(roomy, n_bytes, fits, why_not)


def _choose_bundled(bases: Sequence[BaseProfile], n_bytes: int, fits: BaseFit, why_not: str) -> Choice[str]:
    small_enough = [base.name for base in bases if n_bytes <= base.longest_bytes]
    if not small_enough:
        more = "a new model learns more than the bundled bases know"
        return Choice("none", f"from {n_bytes:,} bytes {more}; {why_not}")
    trial = fits.bundled(small_enough)
    return Choice("none" if trial.for_fresh else trial.best, f"{_describe_trial(trial)}; {why_not}")


def _describe_trial(trial: BaseTrial) -> str:
    bits, when = trial.compared or trial.untouched, "after" if trial.compared else "before"
    others = "".join(f", {name} {value:.2f}" for name, value in bits.items() if name != trial.best)
    seconds = "a few seconds of training" if trial.compared else "training"
    found = f"{when} {seconds} the base {trial.best} needs {bits[trial.best]:.2f} bits per byte of this text{others}"
    if bits[trial.best] > min(bits.values()):
        found += f", but a {'smaller' if trial.best == list(bits)[-1] else 'larger'} base gains more afterwards"
    if not trial.tuned:
        return found
    tuned = f"in a longer trial {trial.best} reached {trial.tuned:.2f}"
    return f"{found}; {tuned}, a new model in the same time {trial.fresh:.2f}"


def _refuse_gpt2(settings: TrainSettings, n_bytes: int, fits: BaseFit, hardware: Hardware) -> str:
    """The reason not to start from GPT-2, or ""."""
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
