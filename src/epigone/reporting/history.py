"""Events in, what they come to out: the course that counts, its best evaluation, the table of epochs, words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from epigone.reporting.harmless import on_one_line
from epigone.training.events import Criticism, Divided, Evaluated, Event, Finished, Sampled, Started, Stepped

NOTHING = "–"
"""Stands where there is no number."""


def follow_course(events: Iterable[Event]) -> list[Event]:
    """The events of one unbroken course: what a crash undid is left out, because a resume goes over it again."""
    course: list[Event] = []
    for event in events:
        if isinstance(event, Started):
            course = [past for past in course if event.resumed and past.step <= event.step]
        course.append(event)
    return course


def is_beside(samples: Sampled, evaluation: Evaluated) -> bool:
    """Whether both are of the same weights."""
    return (samples.step, samples.share) == (evaluation.step, evaluation.share)


def find_best(evaluations: Sequence[Evaluated]) -> Evaluated | None:
    """The evaluation whose weights were kept: of those that were the best so far the best, as training ranks them."""
    kept = (item for item in evaluations if item.best and math.isfinite(item.loss))
    return min(kept, key=lambda item: (item.spoiled, item.loss), default=None)


# -- numbers in words


def format_seconds(seconds: float) -> str:
    """A duration as one says it: "1 h 02 min", "3 min 12 s", "42 s"."""
    if not math.isfinite(seconds):
        return NOTHING
    whole = round(max(seconds, 0))
    if whole >= 3600:
        minutes = round(whole / 60)
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"


def format_epoch(epoch: float) -> str:
    """A number of epochs for a sentence: "3", "2.5", "0.25"."""
    return f"{epoch:.2f}".rstrip("0").rstrip(".") if math.isfinite(epoch) else NOTHING


def name_moment(epoch: float, share: float) -> str:
    """Which weights: "epoch 3", or "62 % of the way from the base to epoch 3"."""
    way = "" if share == 1 else f"{share:.0%} of the way from the base to ".replace("%", " %")
    return f"{way}epoch {format_epoch(epoch)}"


def format_rate(rate: float) -> str:
    """A learning rate, three digits of it: "4.75e-5"."""
    if rate == 0 or not math.isfinite(rate):
        return "0" if rate == 0 else NOTHING
    digits, exponent = f"{rate:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def format_perplexity(perplexity: float) -> str:
    """A perplexity in at most seven characters: "61.7", "50,257", "1.2e+09"."""
    if perplexity < 1000:
        return f"{perplexity:.1f}"
    return f"{perplexity:,.0f}" if perplexity < 1e6 else f"{perplexity:.1e}"


# -- the table of epochs


@dataclass(frozen=True)
class Column:
    """One column: its name in full, a heading and a width in letters where room is short, and what stands in it."""

    name: str
    heading: str
    width: int
    format: Callable[[Evaluated], str]


COLUMNS = (
    Column("epoch", "epoch", 6, lambda item: f"{item.epoch:.2f}"),
    Column("step", "step", 8, lambda item: f"{item.step:,}"),
    Column("training loss", "training", 8, lambda item: format_loss(item.training_loss)),
    Column("validation loss", "validation", 10, lambda item: format_loss(item.loss)),
    Column("accuracy", "accuracy", 8, lambda item: f"{item.accuracy:.1%}".replace("%", " %")),
    Column("perplexity", "perplexity", 10, lambda item: format_perplexity(item.perplexity)),
    Column("bits per byte", "bits/byte", 9, lambda item: f"{item.bits_per_byte:.3f}"),
    Column("learning rate", "rate", 7, lambda item: format_rate(item.learning_rate)),
    Column("time", "time", 11, lambda item: format_seconds(item.seconds)),
)


def format_loss(loss: float | None) -> str:
    """A loss in nats per token, or a dash before the first step."""
    return NOTHING if loss is None else f"{loss:.3f}"


def epoch_table(evaluations: Sequence[Evaluated]) -> list[dict[str, str]]:
    """One row of words per evaluation, keyed by the names in `COLUMNS`; "best" is "best" in one row, else empty."""
    best = find_best(evaluations)
    return [
        {column.name: column.format(item) for column in COLUMNS} | {"best": "best" if item is best else ""}
        for item in evaluations
    ]


# -- events in words


def describe_start(event: Started) -> str:
    """One sentence on what is about to be done."""
    epochs = format_epoch(event.epochs)
    about = "about " if event.timed else ""
    whole = f"{about}{event.n_steps:,} steps, {about}{epochs} epoch" + ("" if epochs == "1" else "s")
    return f"Going on after step {event.step:,} of {whole}." if event.resumed else f"Learning: {whole}."


def describe_step(event: Stepped) -> list[str]:
    """Where training is, in short pieces: epoch, loss, learning rate, speed and time left."""
    return [
        f"epoch {event.epoch:.2f}",
        f"loss {format_loss(event.loss)}",
        f"rate {format_rate(event.learning_rate)}",
        f"{event.tokens_per_second:,.0f} tokens/s",
        f"{format_seconds(event.seconds_left)} left",
    ]


def describe_division(event: Divided) -> str:
    """What was done when memory ran out."""
    at_once = -(-event.batch_size // event.parts)
    return (
        f"Memory ran out in step {event.step:,}, which was taken again: a batch of {event.batch_size} blocks is now "
        f"computed in {event.parts} parts of {at_once} at most. What is learned stays the same."
    )


def describe_criticism(found: Criticism) -> str:
    """One line on what the samples copy and repeat, and whether they sound like the author."""
    parts = [
        f"copied {found.copied:.1%}, the longest passage {found.longest_copied} characters",
        f"repeated {found.repeated:.1%}",
    ]
    if found.sounds_like is not None:
        parts.append(f"sounds like the author: {found.sounds_like:.0f} of 100")
    return "; ".join(parts).replace("%", " %")


COPYING = "It begins to copy: passages of its samples stand word for word in the text. The best epoch so far is kept."

WHY_ENDED = {
    "done": "Done in {time}.",
    "time": "Time was up after {time}.",
    "patience": "Stopped after {time}: it no longer got better.",
    "interrupted": "Interrupted after {time}.",
}


def describe_end(event: Finished) -> str:
    """One sentence on why training ended and one on what was kept, and why that."""
    why = WHY_ENDED[event.reason].format(time=format_seconds(event.seconds))
    if not math.isfinite(event.best_loss):
        return f"{why} Nothing was kept: no evaluation gave a number."
    kept = name_moment(event.best_epoch, event.best_share)
    of_all = f" of {format_epoch(event.epoch)}" if event.best_share == 1 else ""
    return f"{why} Kept {kept}{of_all}: validation loss {event.best_loss:.3f}, the best."


def describe_share(event: Evaluated) -> str:
    """What was evaluated, where that is neither the base nor an epoch."""
    return f"{name_moment(event.epoch, event.share)}, which foretells the held-out text better than either"


def name_sample(event: Sampled, number: int) -> str:
    """Which sample this is, and what it was asked to follow."""
    prompt = shorten(on_one_line(event.samples[number - 1].prompt), 40, placeholder="…")
    where = f"sample {number} of {len(event.samples)} at {name_moment(event.epoch, event.share)}"
    return f'{where}, after "{prompt}"' if prompt else where
