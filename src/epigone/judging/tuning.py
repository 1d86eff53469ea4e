"""A model and held-out text in; the temperature at which it writes as variedly as its author, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epigone.judging.repetition import Range, check_repetition, measure_range
from epigone.settings import WritingSettings
from epigone.tokens.vocabulary import Vocabulary
from epigone.writing.decoder import make_decoder
from epigone.writing.engine import Writer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

TEMPERATURES = tuple(round(0.5 + 0.05 * step, 2) for step in range(15))
COUNT, LENGTH = 16, 256
"""Texts, and tokens of each, that are written at a temperature."""
FEWEST_CHARACTERS = 6_000
"""Of held-out text, to know the author's own range by."""
MOST_PARAMETERS = 200_000_000
"""A larger model would take longer over this than it is worth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a model writes at a temperature, as in `Repetition`."""

    temperature: float
    compression: float
    repeated: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The temperature that was chosen, the most that the author's own text comes to, and what was tried."""

    temperature: float
    most_compression: float
    most_repeated: float
    trials: tuple[Trial, ...]


def choose_temperature(
    model: GPT2LMHeadModel, vocabulary: Vocabulary, held_out: Sequence[str], start_text: str, seed: int
) -> Tuning | None:
    """The lowest temperature at which what the model writes is no more repetitive than its author's text.

    Pages of it can be compressed no further than 95 of a hundred of his, which shows its entropy, and no more of its
    passages of four words come again. None where too little is held out to say, or the model is too large.
    """
    if sum(map(len, held_out)) < FEWEST_CHARACTERS or model.num_parameters() > MOST_PARAMETERS:
        return None
    writer, usual = Writer(make_decoder(model), vocabulary, start_text=start_text), measure_range("\n".join(held_out))
    trials: list[Trial] = []
    first, last = 0, len(TEMPERATURES) - 1
    while first < last:  # both fall as the temperature rises
        middle = (first + last) // 2
        trials.append(_try(writer, usual, TEMPERATURES[middle], seed))
        first, last = (first, middle) if _fits(trials[-1], usual) else (middle + 1, last)
    return Tuning(
        temperature=TEMPERATURES[first],
        most_compression=usual.compression[1],
        most_repeated=usual.repeated[1],
        trials=tuple(trials),
    )


def _try(writer: Writer, usual: Range, temperature: float, seed: int) -> Trial:
    settings = WritingSettings(temperature=temperature, length=LENGTH, count=COUNT, seed=seed)
    found, _ = check_repetition("\n".join(writer.write("", settings)), usual)
    return Trial(temperature=temperature, compression=found.mean_compression, repeated=found.mean_repeated)


def _fits(trial: Trial, usual: Range) -> bool:
    return trial.compression <= usual.compression[1] and trial.repeated <= usual.repeated[1]
