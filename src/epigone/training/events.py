"""Events of training, as frozen values: shown by the command line, recorded in the run, passed to callbacks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal["done", "time", "patience", "interrupted"]
Grade = Literal["good", "fair", "bad", "unsure"]
"""Good, worth a look, bad, or too little text to say."""
LEAST_LIKENESS = 40.0
"""On the scale from 0 to 100: a text below this does not sound like the author."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Time and memory measured on a few steps, and the time of the whole run estimated from them."""

    seconds_per_step: float
    seconds_per_evaluation: float
    """Including its samples."""
    n_evaluations: int
    seconds: float
    memory_bytes: int
    """Largest memory of this process, or of the GPU, so far."""
    compile_seconds: float = 0.0
    """Time that torch.compile took; it counts as training time."""
    parts: int = 1
    """Parts in which a batch had to be computed to fit into memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A text that the model wrote: `text` follows `prompt` and does not repeat it."""

    prompt: str
    text: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleStats:
    """Checks of a model's samples: copying, repetition and style."""

    n_characters: int
    """Of the samples, and of further text that was generated for the checks."""
    copied: float
    """Share of them in passages of 50 characters or more that are in the training text."""
    longest_copied: int
    """Characters of the longest passage that is in the training text."""
    copying: Grade
    """Grade of these two; unsure if the samples are short."""
    repeated: float
    """Share of four-word passages that occurred before within 256 words."""
    repeating: Grade
    """Grade of this and of the samples' compression, compared with the author's own range."""
    sounds_like: float | None
    """Style score: 0 is the median of other authors, 100 the author's own text; None if it was not measured."""

    @property
    def spoiled(self) -> bool:
        """Whether the samples clearly copy, repeat themselves or, if style was measured, sound unlike the author."""
        unlike = self.sounds_like is not None and self.sounds_like < LEAST_LIKENESS
        return unlike or "bad" in (self.copying, self.repeating)


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """Training starts, or continues after a resume (`step` > 0)."""

    step: int
    n_steps: int
    epochs: float
    """Passes over the text that are planned."""
    timed: bool = False
    """Whether a time limit may end it earlier; steps and epochs are then estimates."""
    resumed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """A report on the steps since the last one. Loss in nats per token, averaged over them, with dropout active."""

    step: int
    n_steps: int
    """Steps in the whole run; under a time limit the estimate so far."""
    epoch: float
    """Passes over the text so far."""
    progress: float
    """Share of the run that is done, 0 to 1: of its steps, or of its minutes."""
    loss: float
    learning_rate: float
    tokens_per_second: float
    seconds: float
    """Training seconds so far, including evaluations, samples and the time before a resume."""
    seconds_left: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSplit:
    """Memory ran out in a step; from this step on, each batch is computed in smaller parts."""

    step: int
    batch_size: int
    """Blocks of a batch in each process; unchanged."""
    parts: int
    """Parts in which a batch is computed from now on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The model was evaluated on the held-out text, every token predicted once."""

    step: int
    epoch: float
    training_loss: float | None
    """Nats per token over the steps since the last evaluation, with dropout active; None before the first step."""
    loss: float
    """Nats per held-out token."""
    accuracy: float
    """Share of held-out tokens whose likeliest prediction was right."""
    perplexity: float
    bits_per_byte: float
    """Bits per byte of the held-out text in UTF-8."""
    n_tokens: int
    learning_rate: float
    seconds: float
    best: bool
    """Whether it is the best so far, by loss and, with --keep-best quality, samples; model/ then holds its weights."""
    spoiled: bool = False
    """With --keep-best quality: whether its samples are bad, so that any other evaluation is better."""
    share: float = 1.0
    """Share of the trained weights in an interpolation with the base's; below 1 only at the end, if that was better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Samples from the model, always with the same prompts and seeds."""

    step: int
    epoch: float
    samples: tuple[Sample, ...]
    found: SampleStats | None = None
    share: float = 1.0
    """As in the `Evaluated` of the same weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """Training is over."""

    step: int
    epoch: float
    reason: Reason
    best_step: int
    best_epoch: float
    best_loss: float
    """Infinite where training was interrupted before the first evaluation."""
    seconds: float
    best_share: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointSaved:
    """A checkpoint has been saved."""

    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What is being done from now on, between two steps or at the end; only shown, not recorded."""

    what: str


Event = Started | StepReport | BatchSplit | Evaluated | Sampled | CheckpointSaved | Finished


def effective_history(events: Iterable[Event]) -> list[Event]:
    """The events without those that a crash undid, which the resumed run produced again."""
    history: list[Event] = []
    for event in events:
        if isinstance(event, Started):
            history = [past for past in history if event.resumed and past.step <= event.step]
        history.append(event)
    return history


def same_weights(samples: Sampled, evaluation: Evaluated) -> bool:
    """Whether samples and evaluation are of the same weights."""
    return (samples.step, samples.share) == (evaluation.step, evaluation.share)


def find_best(evaluations: Sequence[Evaluated]) -> Evaluated | None:
    """The evaluation whose weights were kept, by the same ranking as in training; None if there is none."""
    kept = (item for item in evaluations if item.best and math.isfinite(item.loss))
    return min(kept, key=lambda item: (item.spoiled, item.loss), default=None)
