"""Who wrote a text? The probability of each candidate, by their model's likelihood and by stylometry, and of none.

A candidate's model says how much better it predicts the text than the base that it was tuned from did; stylometry says
how near the text's words and character n-grams are to what the candidate wrote. Both become one score, and the scores
probabilities, with weights that were fitted to passages of known authors (docs/dev/findings.md). "None of these" is
likely where the best candidate's model gains less than it does on its own author's text, and where the text is not
nearer to them than to the other candidates or to the reference authors. Before the text is read, it counts as likely as
all candidates together.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch.nn import functional

from epigone.corpus.large_text import Text, read_some
from epigone.errors import TextTooShort
from epigone.evaluation.stylometry import (
    AuthorCounts,
    DeltaSpace,
    cosine_distance,
    cut_evenly,
    load_authors,
    normalise_for_counting,
    subsample_counts,
)
from epigone.model.decoder import Decoder
from epigone.tokens.tokenizer import BPETokenizer, encode

Values = NDArray[np.float64]
LEAST = 1_000
"""Characters of a text whose author is asked for."""
FULL = 25_000
"""Characters from which on more text counts as no more evidence: the weights were fitted to texts up to this length."""
MOST_READ = 50_000
"""Characters of a long text that are read, in pieces taken evenly from it."""
OWN_READ = 20_000
"""Characters of a candidate's held-out text that say what their model gains on it."""
MOST_OWN_WINDOWS = 40
LEAST_GAIN = 0.02
"""Bits a byte; a model that gains less on its own author's text has learned too little to compare with."""
WRAP = 72
"""Characters of the lines in which a base may have read books: one that knows only wrapped lines would otherwise seem
to be beaten by any model that has seen whole paragraphs."""
ROWS = 16
"""Blocks that are read at once."""


class Weights(NamedTuple):
    """Weights of the evidence for a text of `FULL` characters; they grow with the root of its length."""

    gain: float
    """Of a bit a byte that a candidate's model gains over its base."""
    style: float
    """Of a standard deviation of the reference authors' distances."""


class NoneWeights(NamedTuple):
    """Weights of the evidence that one of the candidates is the author, whatever the length of the text."""

    constant: float
    gain: float
    """Of the best candidate's gain, as a part of that on their own text."""
    style: float


CHOICE = Weights(gain=250.0, style=3.6)
"""Fitted to passages of 2,000 to 25,000 characters by twelve novelists and bloggers, from works that their runs had not
learned, with both bundled bases (findings)."""
BY_BOTH = NoneWeights(constant=-1.4, gain=4.35, style=1.06)
BY_MODEL = NoneWeights(constant=0.5, gain=4.7, style=0.0)
BY_STYLE = NoneWeights(constant=-1.2, gain=0.0, style=0.85)
"""Fitted to the same passages with and without their authors' runs, and to passages by authors without a run."""


class LanguageModel(NamedTuple):
    """A model with its tokenizer."""

    decoder: Decoder
    tokenizer: BPETokenizer

    @torch.inference_mode()
    def measure_bits(self, text: str) -> float:
        """Bits a byte of a text, read in blocks of the context that do not overlap."""
        ids = torch.tensor([self.tokenizer.end_of_text_id, *encode(text, self.tokenizer)], device=self.decoder.device)
        length, n_targets = self.decoder.n_positions, len(ids) - 1
        nats = 0.0
        for start in range(0, n_targets, length * ROWS):
            end = min(start + length * ROWS, n_targets)
            n_whole = (end - start) // length * length
            for first, last, size in ((start, start + n_whole, length), (start + n_whole, end, end - start - n_whole)):
                if last > first:
                    logits = self.decoder.read_all(ids[first:last].view(-1, size))
                    nats += functional.cross_entropy(logits, ids[first + 1 : last + 1], reduction="sum").item()
        return nats / math.log(2) / len(text.encode())


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Someone who may have written a text: what they wrote, and a model that has learned it."""

    name: str
    documents: Sequence[Text]
    held_out: str
    """Text by the same author that the model has not learned."""
    model: LanguageModel
    base: LanguageModel | None
    """What the model was tuned from; None for one that was trained from scratch."""


class CandidateEvidence(BaseModel):
    """What speaks for a candidate."""

    model_config = ConfigDict(frozen=True)

    name: str
    probability: float
    bits_per_byte: float
    """Of the text, under the candidate's model."""
    gain: float | None
    """Bits a byte by which that is less than under its base; None without one."""
    own_gain: float | None
    """The same on the candidate's own held-out text."""
    style: float | None
    """How much nearer to the candidate the text is than to other authors, in standard deviations of their distances.
    None where the reference authors do not write its language."""


class Attribution(BaseModel):
    """Who wrote a text: the candidates, the most probable first, and the probability that it was none of them."""

    model_config = ConfigDict(frozen=True)

    candidates: tuple[CandidateEvidence, ...]
    none: float
    n_characters: int
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> CandidateEvidence | None:
        """The candidate who is more probable than all others and than none of them; None where there is none such."""
        first = self.candidates[0]
        return first if first.probability > self.none else None


def attribute(text: str, candidates: Sequence[Candidate]) -> Attribution:
    """The probability of each candidate. Raises TextTooShort."""
    if len(text) < LEAST:
        raise TextTooShort(
            f"The text has {len(text):,} characters; {LEAST:,} are needed to tell its author.", hint="Give more of it."
        )
    read = "\n".join(map(str, read_some([text], MOST_READ)))
    bits = np.array([candidate.model.measure_bits(read) for candidate in candidates])
    gains, own = measure_gains(read, candidates, bits)
    styles = measure_styles(read, candidates)
    notes = [] if styles is not None else [OTHER_LANGUAGE]
    probabilities, none = find_probabilities(len(read), bits, gains, own, styles)
    found = [
        CandidateEvidence(
            name=candidate.name,
            probability=float(probabilities[place]),
            bits_per_byte=float(bits[place]),
            gain=_or_none(gains[place]),
            own_gain=_or_none(own[place]),
            style=None if styles is None else float(styles[place]),
        )
        for place, candidate in enumerate(candidates)
    ]
    if len(read) < 5_000:
        notes.append(SHORT)
    found.sort(key=lambda one: -one.probability)
    return Attribution(candidates=tuple(found), none=none, n_characters=len(text), notes=tuple(notes))


OTHER_LANGUAGE = "The reference authors do not write this language: by the models' likelihood alone."
SHORT = "Fewer than 5,000 characters: a guess."


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def wrap(text: str) -> str:
    """The text with its paragraphs in lines, as books have them."""
    lines = text.split("\n")
    return "\n".join(textwrap.fill(line, WRAP, break_long_words=False, break_on_hyphens=False) for line in lines)


def measure_gains(text: str, candidates: Sequence[Candidate], bits: Values) -> tuple[Values, Values]:
    """Bits a byte that each model gains over its base, on the text and on its author's own; NaN without a base."""
    known: dict[tuple[int, str], float] = {}

    def measure_base(base: LanguageModel, one: str) -> float:
        key = (id(base.decoder), one)
        if key not in known:
            known[key] = min(base.measure_bits(one), base.measure_bits(wrap(one)))
        return known[key]

    gains, own = np.full((2, len(candidates)), np.nan)
    for place, candidate in enumerate(candidates):
        if candidate.base is not None:
            gains[place] = measure_base(candidate.base, text) - bits[place]
            held_out = candidate.held_out[:OWN_READ]
            if held_out:
                gain = measure_base(candidate.base, held_out) - candidate.model.measure_bits(held_out)
                own[place] = gain if gain >= LEAST_GAIN else np.nan
    return gains, own


def measure_styles(text: str, candidates: Sequence[Candidate], authors: AuthorCounts | None = None) -> Values | None:
    """How much nearer to each candidate a text is than to the reference authors, in standard deviations of theirs.

    None where these do not write its language.
    """
    authors, read = authors or load_authors(), normalise_for_counting(text)
    if not authors.shares_language(read):
        return None
    size = min(FULL, len(read))
    counted = authors.features.count(cut_evenly(read, size))
    owns = [_count_own(candidate, authors, size) for candidate in candidates]
    n_words, n_all = authors.features.n_words, authors.counts.shape[1] - 2
    nearness = np.zeros(len(candidates))
    others = np.zeros(len(authors.names))
    for columns in (slice(0, n_words), slice(n_words, n_all)):
        space = DeltaSpace(authors, columns, size, np.random.default_rng(0))
        vectors = space.embed_texts(counted)
        others += cosine_distance(vectors, space.centres).mean(0)
        for place, own in enumerate(owns):
            nearness[place] += cosine_distance(vectors, space.embed_author(own)).mean()
    return np.asarray((others.mean() - nearness) / others.std())


def _count_own(candidate: Candidate, authors: AuthorCounts, size: int) -> Values:
    """The counts of windows of what a candidate wrote, as if they had `size` characters."""
    own = normalise_for_counting("\n".join(map(str, candidate.documents)))
    counts = authors.features.count(cut_evenly(own, max(size, FULL * 2))[:MOST_OWN_WINDOWS])
    return subsample_counts(counts, size, np.random.default_rng(0))


def find_probabilities(
    n_characters: int, bits: Values, gains: Values, own: Values, styles: Values | None
) -> tuple[Values, float]:
    """The probability of each candidate and of none, from the evidence: `bits` a byte, gains in bits a byte, styles."""
    certainty = math.sqrt(min(n_characters, FULL) / FULL)
    of_model = gains if np.isfinite(gains).all() else -bits
    scores = CHOICE.gain * certainty * of_model
    if styles is not None:
        scores = scores + CHOICE.style * certainty * styles
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    first = int(shares.argmax())
    ratio = gains[first] / own[first]
    weights = BY_STYLE if not math.isfinite(ratio) else BY_MODEL if styles is None else BY_BOTH
    if not math.isfinite(ratio) and styles is None:
        return np.asarray(shares / 2), 0.5  # nothing is known of how it would be for another author
    evidence = weights.constant + weights.gain * (ratio if math.isfinite(ratio) else 0.0)
    evidence += weights.style * (0.0 if styles is None else _measure_margin(styles, first))
    none = 1 / (1 + math.exp(min(500.0, evidence)))
    return np.asarray((1 - none) * shares), none


def _measure_margin(styles: Values, first: int) -> float:
    """How much nearer to the first candidate a text is than to the other ones, or to the reference authors.

    Where all candidates are nearer than those, as bloggers are who all live today, that one of them is says nothing.
    """
    others = np.delete(styles, first)
    return float(styles[first] - max(0.0, others.mean() if len(others) else 0.0))
