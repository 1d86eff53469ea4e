"""What training tells the world: each event is one frozen value; surfaces show them, a run records them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal["done", "time", "patience", "interrupted"]
Grade = Literal["good", "fair", "bad", "unsure"]
"""As it should be; to be looked at; not as it should be; not enough to say."""
LEAST_LIKENESS = 40.0
"""Of 100: what is further from the author than this does not sound like him."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What was measured on a few steps, and what follows from it for the whole run."""

    seconds_per_step: float
    seconds_per_evaluation: float
    """With its samples."""
    n_evaluations: int
    seconds: float
    memory_bytes: int
    """Largest memory of this process, or of the GPU, so far."""
    compile_seconds: float = 0.0
    """What torch.compile took; it counts as time of training."""
    parts: int = 1
    """In so many parts a batch had to be computed to fit into memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A text that the model wrote: `text` follows `prompt` and does not repeat it."""

    prompt: str
    text: str
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleStats:
    """What is to be said of a model's samples."""

    n_characters: int
    """Of the samples, and of what else it wrote to be judged."""
    copied: float
    """Share of them in passages of 50 characters or more that stand in the text that is learned from."""
    longest_copied: int
    """Characters of the longest passage that stands there, whatever its length."""
    copying: Grade
    """What these two come to; unsure where the samples are short."""
    repeated: float
    """Share of passages of four words that came before within 256 words."""
    repeating: Grade
    """What this and the compression of the samples come to, beside the author's own range."""
    sounds_like: float | None
    """Likeness to the author, 0 that of others and 100 his own; None where it was not measured."""

    @property
    def spoiled(self) -> bool:
        """Whether the samples plainly copy, repeat themselves or, where that was measured, sound like somebody else."""
        unlike = self.sounds_like is not None and self.sounds_like < LEAST_LIKENESS
        return unlike or "bad" in (self.copying, self.repeating)


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """Training begins, or goes on after a resume (`step` > 0)."""

    step: int
    n_steps: int
    epochs: float
    """Passes over the text that are planned."""
    timed: bool = False
    """Whether a time limit may end it before; steps and epochs are estimates then."""
    resumed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """A report on the steps since the last one. Loss in nats per token, averaged over them, under any dropout."""

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
    """Training seconds so far, evaluations and samples included, those before a resume too."""
    seconds_left: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSplit:
    """Memory ran out in a step; it was taken again, and so are those to come, with each batch in smaller parts."""

    step: int
    batch_size: int
    """Blocks of a batch in each process, which stay what they were."""
    parts: int
    """In how many parts it is computed from now on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The held-out text was read, every token once."""

    step: int
    epoch: float
    training_loss: float | None
    """Nats per token over the steps since the last evaluation, under any dropout; None before the first step."""
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
    """The best so far, by its loss and, if so asked, its samples; the model folder now holds it."""
    spoiled: bool = False
    """Whether its samples are no good, where those were asked to count: any other is better, then."""
    share: float = 1.0
    """Of the way from the base to what was learned; below 1 once at the end, where part of the way back was better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """The model wrote, always from the same prompts and seeds."""

    step: int
    epoch: float
    samples: tuple[Sample, ...]
    found: SampleStats | None = None
    share: float = 1.0
    """That of the evaluation beside it."""


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


Event = Started | StepReport | BatchSplit | Evaluated | Sampled | CheckpointSaved | Finished


def effective_history(events: Iterable[Event]) -> list[Event]:
    """The events of one unbroken course: what a crash undid is left out, because a resume goes over it again."""
    course: list[Event] = []
    for event in events:
        if isinstance(event, Started):
            course = [past for past in course if event.resumed and past.step <= event.step]
        course.append(event)
    return course


def same_weights(samples: Sampled, evaluation: Evaluated) -> bool:
    """Whether both are of the same weights."""
    return (samples.step, samples.share) == (evaluation.step, evaluation.share)


def find_best(evaluations: Sequence[Evaluated]) -> Evaluated | None:
    """The evaluation whose weights were kept: of those that were the best so far the best, as training ranks them."""
    kept = (item for item in evaluations if item.best and math.isfinite(item.loss))
    return min(kept, key=lambda item: (item.spoiled, item.loss), default=None)
