"""A model and held-out text in; the temperature at which it writes no more predictably than its author, out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from epigone.judging.repetition import check_repetition, measure_range
from epigone.settings import WritingSettings
from epigone.tokens.vocabulary import encode
from epigone.writing.decoder import make_decoder
from epigone.writing.engine import Writer
from epigone.writing.scoring import score_text

TEMPERATURES = tuple(round(0.5 + 0.05 * step, 2) for step in range(15))
COUNT, LENGTH = 16, 128
"""Texts, and tokens of each, that are written at a temperature; as many pieces of the author's are read."""
FEWEST_PIECES = 5
MOST_PARAMETERS = 200_000_000
"""A larger model would take longer over this than it is worth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a model writes at a temperature. `surprisal` in nats per token under the model itself."""

    temperature: float
    surprisal: float
    repeated: float
    repeats: bool
    """More than its author does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The temperature that was chosen, the author's own range of surprisal, and what was tried."""

    temperature: float
    low: float
    high: float
    trials: tuple[Trial, ...]


def choose_temperature(
    model: GPT2LMHeadModel, vocabulary: PreTrainedTokenizerFast, held_out: Sequence[str], start_text: str, seed: int
) -> Tuning | None:
    """The lowest temperature at which what the model writes lies within the author's own range.

    Its mean surprisal must reach the 5th percentile of held-out pieces that are as long, and it must not repeat itself
    more than they do. None where too little is held out to say, or the model is too large. Texts are drawn with top_p
    at its default.
    """
    pieces = list(islice(_cut_pieces(held_out, vocabulary), COUNT))
    if len(pieces) < FEWEST_PIECES or model.num_parameters() > MOST_PARAMETERS:
        return None
    own = [score_text(model, vocabulary, piece).loss for piece in pieces]
    low, high = np.percentile(own, [5, 95]).tolist()
    writer = Writer(make_decoder(model), vocabulary, start_text=start_text)
    usual = "\n".join(held_out)
    trials: list[Trial] = []
    first, last = 0, len(TEMPERATURES) - 1
    while first < last:  # both grow, or fall, with the temperature
        middle = (first + last) // 2
        trials.append(_try(writer, usual, TEMPERATURES[middle], seed))
        fits = trials[-1].surprisal >= low and not trials[-1].repeats
        first, last = (first, middle) if fits else (middle + 1, last)
    return Tuning(temperature=TEMPERATURES[first], low=low, high=high, trials=tuple(trials))


def _cut_pieces(held_out: Sequence[str], vocabulary: PreTrainedTokenizerFast) -> Iterator[str]:
    """Pieces of `LENGTH` tokens from all over the text."""
    pieces = []
    for document in held_out:
        ids = encode(document, vocabulary)
        pieces += [ids[start : start + LENGTH] for start in range(0, len(ids) - LENGTH + 1, LENGTH)]
    for place in range(0, len(pieces), max(1, len(pieces) // COUNT)):
        yield str(vocabulary.decode(pieces[place]))


def _try(writer: Writer, usual: str, temperature: float, seed: int) -> Trial:
    settings = WritingSettings(temperature=temperature, length=LENGTH, count=COUNT, seed=seed)
    records = list(writer.write_records("", settings))
    n_tokens = sum(record.n_tokens for record in records)
    text = "\n".join(record.text for record in records)
    found, tone = check_repetition(text, measure_range(usual))
    return Trial(
        temperature=temperature,
        surprisal=-sum(record.log_probability for record in records) / max(1, n_tokens),
        repeated=found.mean_repeated,
        repeats=tone == "bad",
    )
