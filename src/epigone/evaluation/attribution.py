"""Who wrote a text? The probability of each candidate, by their model's likelihood and by stylometry, and of none.

The candidates' models are compared word by word with the mean of them all, and each with how it predicts the other
candidates' held-out text (score normalisation, as in speaker recognition): a run that has learned long or badly
predicts the text of any author worse, and what a run gains on its base depends on what the base has read.
Stylometry says how near the text's words and character n-grams are to what the candidate wrote. Both become one score,
and the scores probabilities, with weights that were fitted to passages of known authors (docs/dev/findings.md). "None
of these" is likely where the first candidate's model is hardly ahead of the others', where it gains little more on its
base than on text by others, and where the text is not nearer to them than to the other candidates or to the reference
authors. Before the text is read, it counts as likely as all candidates together.
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
HELD_READ = 40_000
"""Characters of held-out text, of all candidates together, that say how each model predicts other authors' text."""
LEAST_HELD_READ, MOST_HELD_READ = 4_000, 20_000
"""Of each candidate."""
MOST_OWN_WINDOWS = 40
WORD_LIMIT = 0.5
"""Nats; no word counts for more, so that names and phrases which one of the models happens to know do not decide."""
LEAST_GAIN = 0.03
"""Bits a byte; a model that gains less on its own author's text than on others' is taken to gain this much."""
WRAP = 72
"""Characters of the lines in which a base may have read books: one that knows only wrapped lines would otherwise seem
to be beaten by any model that has seen whole paragraphs."""
ROWS = 16
"""Blocks that are read at once."""
WHITE = b" \t\n\r\v\f"


class Weights(NamedTuple):
    """Weights of the evidence for a text of `FULL` characters; they grow with the root of its length."""

    lead: float
    """Of a bit a byte by which a candidate's model is ahead of them all."""
    style: float
    """Of a standard deviation of the reference authors' distances."""


class NoneWeights(NamedTuple):
    """Weights of the evidence that one of the candidates is the author, whatever the length of the text."""

    constant: float = 0.0
    lead: float = 0.0
    """Of a bit a byte by which the first candidate's model is ahead of the others' mean."""
    gain: float = 0.0
    """Of the first candidate's gain, as a part of that on their own text."""
    style: float = 0.0
    """Of a standard deviation by which the text is nearer to the first candidate than to the others."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """All weights for a number of candidates.

    Fitted to passages of 2,000 to 25,000 characters by twelve novelists and bloggers, from works that their runs had
    not learned, with and without these runs, and to passages by authors without a run; of novelists with both bundled
    bases. Rules fitted without an author hold for this author's passages as well (docs/dev/findings.md).
    """

    choice: Weights
    by_both: NoneWeights
    by_gain: NoneWeights
    """In a language that the reference authors do not write."""
    by_style: NoneWeights
    """Of models without a base."""
    by_lead: NoneWeights
    """With neither."""


ALONE = Rule(
    choice=Weights(lead=0.0, style=0.0),
    by_both=NoneWeights(constant=-0.07, gain=5.47, style=0.39),
    by_gain=NoneWeights(constant=1.22, gain=5.81),
    by_style=NoneWeights(constant=-1.42, style=0.45),
    by_lead=NoneWeights(),
)
"""One candidate: their model's gain is compared with none, since there is no text by others."""
OF_TWO = Rule(
    choice=Weights(lead=164.5, style=3.35),
    by_both=NoneWeights(constant=-2.24, gain=4.86, style=1.01),
    by_gain=NoneWeights(constant=-1.01, gain=4.38),
    by_style=NoneWeights(constant=-1.24, style=1.08),
    by_lead=NoneWeights(),
)
"""Of two models it cannot be told whether one is weak or the other's text is difficult: a lead says less."""
OF_MORE = Rule(
    choice=Weights(lead=881.0, style=2.01),
    by_both=NoneWeights(constant=-3.83, lead=123.8, gain=5.68, style=0.8),
    by_gain=NoneWeights(constant=-3.28, lead=154.1, gain=5.82),
    by_style=NoneWeights(constant=-3.24, lead=171.5, style=0.85),
    by_lead=NoneWeights(constant=-2.63, lead=201.7),
)


class LanguageModel(NamedTuple):
    """A model with its tokenizer."""

    decoder: Decoder
    tokenizer: BPETokenizer

    @torch.inference_mode()
    def measure_words(self, text: str) -> Values:
        """Nats of each word of a text with the white space before it, read in blocks that do not overlap.

        Words are what tokenizers agree on: all use GPT-2's pattern, which ends a token where white space begins.
        """
        ids = [self.tokenizer.end_of_text_id, *encode(text, self.tokenizer)]
        sizes = [len(self.tokenizer.backend.id_to_token(number) or "") for number in ids[1:]]  # a character is a byte
        words = number_words(text)
        starts = np.minimum(np.cumsum([0, *sizes[:-1]]), len(words) - 1)
        nats = self._measure_tokens(torch.tensor(ids))
        return np.asarray(np.bincount(words[starts], weights=nats, minlength=int(words[-1]) + 1), dtype=np.float64)

    def _measure_tokens(self, ids: torch.Tensor) -> Values:
        """Nats of each token but the first."""
        ids, length, n_targets = ids.to(self.decoder.device), self.decoder.n_positions, len(ids) - 1
        found: list[Values] = []
        for start in range(0, n_targets, length * ROWS):
            end = min(start + length * ROWS, n_targets)
            n_whole = (end - start) // length * length
            for first, last, size in ((start, start + n_whole, length), (start + n_whole, end, end - start - n_whole)):
                if last > first:
                    logits = self.decoder.read_all(ids[first:last].view(-1, size))
                    nats = functional.cross_entropy(logits, ids[first + 1 : last + 1], reduction="none")
                    found.append(nats.double().cpu().numpy())
        return np.concatenate(found)

    def measure_bits(self, text: str) -> float:
        """Bits a byte of a text."""
        return float(to_bits(self.measure_words(text), text))


def number_words(text: str) -> NDArray[np.int64]:
    """The number of the word that each byte of a text belongs to; a word begins with the white space before it."""
    white = np.isin(np.frombuffer(text.encode(), np.uint8), np.frombuffer(WHITE, np.uint8))
    begins = white & ~np.roll(white, 1)
    begins[0] = False
    return np.cumsum(begins)


def to_bits(nats: Values, text: str) -> Values:
    """Bits a byte of a text whose words have these nats."""
    return np.asarray(nats.sum(-1) / math.log(2) / len(text.encode()))


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
    lead: float | None
    """Bits a byte by which that model is ahead of the mean of all, beyond what it is on text by the other candidates,
    where no word counts for much. A mean of models predicts well, so this is about 0 for a text's author and below for
    others. None for one candidate alone."""
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
    readings = read_with_all(read, candidates)
    styles = measure_styles(read, candidates)
    evidence = Evidence(leads=measure_leads(readings), gains=measure_gain_shares(readings.gains), styles=styles)
    probabilities, none = find_probabilities(len(read), evidence)
    found = [
        CandidateEvidence(
            name=candidate.name,
            probability=float(probabilities[place]),
            bits_per_byte=float(readings.bits[place]),
            lead=None if evidence.leads is None else float(evidence.leads[place]),
            gain=_or_none(readings.gains[-1, place]),
            own_gain=_or_none(readings.gains[place, place]),
            style=None if styles is None else float(styles[place]),
        )
        for place, candidate in enumerate(candidates)
    ]
    notes = [] if styles is not None else [OTHER_LANGUAGE]
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


@dataclass(frozen=True, kw_only=True)
class Readings:
    """How the candidates' models predict each candidate's held-out text and, last, the text that is asked of.

    A row for each text, NaN where a candidate has none; a column for each model.
    """

    bits: Values
    """Bits a byte of the text that is asked of."""
    leads: Values
    """`compare_words` of each text."""
    gains: Values
    """Bits a byte of each text by which a model is ahead of its base; NaN without one."""


def read_with_all(text: str, candidates: Sequence[Candidate]) -> Readings:
    """Read the text and the candidates' held-out texts with each of their models and bases."""
    n_each = min(MOST_HELD_READ, max(LEAST_HELD_READ, HELD_READ // len(candidates)))
    texts = [*(candidate.held_out[:n_each] for candidate in candidates), text]
    bases = {id(one.base.decoder): one.base for one in candidates if one.base is not None}
    bits, leads, gains = np.full((3, len(texts), len(candidates)), np.nan)
    for row, one in enumerate(texts):
        if not one.strip():
            continue
        nats = np.array([candidate.model.measure_words(one) for candidate in candidates])
        bits[row], leads[row] = to_bits(nats, one), compare_words(nats) / len(one.encode())
        of_base = {key: min(base.measure_bits(one), base.measure_bits(wrap(one))) for key, base in bases.items()}
        for place, candidate in enumerate(candidates):
            if candidate.base is not None:
                gains[row, place] = of_base[id(candidate.base.decoder)] - bits[row, place]
    return Readings(bits=bits[-1], leads=leads, gains=gains)


def compare_words(nats: Values) -> Values:
    """Bits by which each model predicts a text better than the mean of all models' probabilities of its words."""
    mean = math.log(len(nats)) - np.logaddexp.reduce(-nats, axis=0)
    return np.asarray(np.clip(mean - nats, -WORD_LIMIT, WORD_LIMIT).sum(1) / math.log(2))


def measure_leads(readings: Readings) -> Values | None:
    """By how much each model is ahead on the text, beyond what it is on text by others; None for one model alone."""
    if len(readings.bits) == 1:
        return None
    return np.asarray(readings.leads[-1] - fit_offsets(readings.leads[:-1]))


def fit_offsets(table: Values) -> Values:
    """What each model (a column) is ahead on everything, from the candidates' texts (rows) without its own author's.

    Least squares: a model's offset and a text's add up. Of two models they cannot be told apart; models' are taken.
    """
    n = len(table)
    rows, columns = np.nonzero(np.isfinite(table) & ~np.eye(n, dtype=bool))
    if not len(rows):
        return np.zeros(n)
    of_models, of_texts = np.eye(n)[columns], np.eye(n)[rows] * 0.01  # the shortest solution has little of the texts
    solution, *_ = np.linalg.lstsq(np.hstack([of_models, of_texts]), table[rows, columns], rcond=None)
    return np.asarray(solution[:n] - solution[:n].mean())


def measure_gain_shares(table: Values) -> Values:
    """Each model's gain on the text (the last row), from 0 for what it gains on others' text to 1 on its own author's.

    NaN where it has no base. One candidate alone has no others; then it is counted from a gain of 0.
    """
    shares = np.full(len(table) - 1, np.nan)
    for place, own in enumerate(np.diagonal(table)):
        others = np.delete(table[:-1, place], place)
        others = others[np.isfinite(others)]
        usual = float(np.median(others)) if len(others) else 0.0
        shares[place] = np.clip((table[-1, place] - usual) / max(own - usual, LEAST_GAIN), -1.0, 1.5)
    return shares


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


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What speaks for each candidate; None, or NaN, where it cannot be measured."""

    leads: Values | None
    gains: Values
    styles: Values | None


def find_probabilities(n_characters: int, evidence: Evidence) -> tuple[Values, float]:
    """The probability of each candidate, and of none of them."""
    leads, styles, n = evidence.leads, evidence.styles, len(evidence.gains)
    rule = ALONE if n == 1 else OF_TWO if n == 2 else OF_MORE
    scores = np.zeros(n)
    if leads is not None:
        scores = scores + rule.choice.lead * leads
    if styles is not None:
        scores = scores + rule.choice.style * styles
    scores = scores * math.sqrt(min(n_characters, FULL) / FULL)
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    first = int(shares.argmax())
    gain = float(evidence.gains[first])
    has_gain = math.isfinite(gain)
    if styles is None:
        weights = rule.by_gain if has_gain else rule.by_lead
    else:
        weights = rule.by_both if has_gain else rule.by_style
    score = weights.constant + weights.gain * (gain if has_gain else 0.0)
    if leads is not None:
        score += weights.lead * float(leads[first] - np.delete(leads, first).mean())
    if styles is not None:
        score += weights.style * _measure_margin(styles, first)
    none = 1 / (1 + math.exp(min(500.0, score)))
    return np.asarray((1 - none) * shares), none


def _measure_margin(styles: Values, first: int) -> float:
    """How much nearer to the first candidate a text is than to the other ones, or to the reference authors.

    Where all candidates are nearer than those, as bloggers are who all live today, that one of them is says nothing.
    """
    others = np.delete(styles, first)
    return float(styles[first] - max(0.0, others.mean() if len(others) else 0.0))
