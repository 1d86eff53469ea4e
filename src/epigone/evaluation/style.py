"""A text, an author's own and others' in; whether it sounds like him, as a verdict, out.

Every part is a ruler on which other authors' median is 0 and his own held-out text is 100, and the verdict is the least
of them. What each kind of text reaches is in docs/dev/attribution.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigone.errors import TextTooShort
from epigone.evaluation.baselines import (
    FunctionWordMask,
    NgramModel,
    number_characters,
    sample_ngram_text,
    shuffle,
    split_words,
)
from epigone.evaluation.stylometry import (
    WINDOW,
    AuthorCounts,
    Counts,
    DeltaSpace,
    cut_evenly,
    load_authors,
    measure_distance,
    normalise_for_counting,
    read_authors,
)
from epigone.evaluation.verdict import HELD_OUT, Measure, Reference, Verdict
from epigone.training.events import LEAST_LIKENESS, Grade

Values = NDArray[np.float64]
PIECE = 2_500
"""Characters that are drawn together, for the band: within them one sentence hangs on another."""
N_DRAWS = 200
MOST_WINDOWS = 8
"""Of a text are judged, at most: a longer one would say no more."""
MOST_OWN_WINDOWS = 40
COMPRESSION_ORDER = 6
CHARACTERS_READ = 1_000_000
"""Of the author's text for compression, at most, from its end."""


@dataclass(frozen=True, slots=True)
class TextSample:
    """A normalised text in pieces, and how often each piece stands in windows that are drawn anew from them."""

    pieces: tuple[str, ...]
    draws: Values
    """[1 + draw, window, piece]: first as the text is."""

    def average(self, totals: Values, sizes: Values) -> Values:
        """A sum over pieces by another, for the text and for each draw: [1 + draw]."""
        drawn = self.draws.sum(1)
        return np.asarray((drawn @ totals) / (drawn @ sizes))

    def measure(self, counts: Counts, space: DeltaSpace, author: Values) -> Values:
        """The mean distance of the windows from an author: [1 + draw]."""
        n_draws, n_windows, n_pieces = self.draws.shape
        windows = self.draws.reshape(-1, n_pieces) @ counts
        distances = measure_distance(space.place_texts(windows), author)[:, 0]
        return np.asarray(distances.reshape(n_draws, n_windows).mean(1))


def draw_text_sample(text: str, size: int, source: np.random.Generator) -> TextSample:
    """Cut a normalised text into windows of about `size` characters and those into pieces; draw others like it."""
    windows = cut_evenly(text, size)
    n_kept = min(len(windows), MOST_WINDOWS)
    kept = [windows[place * len(windows) // n_kept][:size] for place in range(n_kept)]
    cut = [cut_evenly(window, PIECE) for window in kept]
    pieces = tuple(piece for window in cut for piece in window)
    draws = np.zeros((1 + N_DRAWS, n_kept, len(pieces)))
    start = 0
    for window, several in enumerate(cut):
        draws[0, window, start : start + len(several)] = 1
        start += len(several)
        for draw in range(1, 1 + N_DRAWS):
            drawn = source.integers(len(pieces), size=len(several))
            draws[draw, window] = np.bincount(drawn, minlength=len(pieces))
    return TextSample(pieces, draws)


@dataclass(frozen=True, slots=True)
class ScaleScore:
    """Where a text lies on a ruler."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scale:
    """One part of the verdict."""

    name: str
    floor_name: str
    floor: float
    """What is 0, as the part measures it."""
    ceilings: Values
    """What is 100: the author's held-out text [1 + draw]."""
    take: Callable[[TextSample], Values]
    """How the part measures a text: smaller is nearer [1 + draw]."""

    @property
    def tells(self) -> bool:
        """Whether held-out text is surely nearer than what is 0. Readings mean something only then."""
        return bool(np.quantile(self.ceilings[1:], 0.975) < self.floor)

    def read(self, sample: TextSample) -> ScaleScore:
        """Where the sample lies, with a band for the chance in it and in the held-out text."""
        lengths = np.maximum(self.floor - self.ceilings, 0.2 * (self.floor - self.ceilings[0]))
        scores = 100 * (self.floor - self.take(sample)) / lengths
        low, high = np.quantile(scores[1:] - scores[1:].mean(), [0.025, 0.975])
        return ScaleScore(float(scores[0]), float(scores[0] + low), float(scores[0] + high))


# -- frequencies


def make_frequency_scales(
    authors: AuthorCounts, train: str, held_out: TextSample, size: int, source: np.random.Generator
) -> tuple[list[Scale], dict[str, float]]:
    """Rulers for words and n-grams, and where each of the other authors is on them, in the mean."""
    counts = authors.features.count(window[:size] for window in cut_evenly(train, size)[:MOST_OWN_WINDOWS])
    held_counts = authors.features.count(held_out.pieces)
    rulers, scores = [], np.zeros(len(authors.names))
    n_words = authors.features.n_words
    for name, columns in {"words": slice(0, n_words), "character n-grams": slice(n_words, counts.shape[1] - 2)}.items():
        space = DeltaSpace(authors, columns, size, source)
        author = space.place_author(counts)
        windows = measure_distance(space.windows, author)[:, 0]
        distances = np.array([windows[space.owners == owner].mean() for owner in range(len(authors.names))])
        ceilings = held_out.measure(held_counts, space, author)
        floor = float(np.median(distances))
        scores += 50 * (floor - distances) / max(1e-9, floor - ceilings[0])
        rulers.append(Scale(name, "other authors' median", floor, ceilings, _take_distance(authors, space, author)))
    return rulers, dict(zip(authors.names, scores.tolist(), strict=True))


def _take_distance(authors: AuthorCounts, space: DeltaSpace, author: Values) -> Callable[[TextSample], Values]:
    return lambda sample: sample.measure(authors.features.count(sample.pieces), space, author)


# -- chains


def make_compression_scale(
    train: str, held_out: TextSample, others: Mapping[str, Sequence[str]], source: np.random.Generator
) -> Scale:
    """Bits for a character, given the author's text; 0 is what others need, or else his own words shuffled."""
    chain = _learn_characters(train[-CHARACTERS_READ:])

    def take(sample: TextSample) -> Values:
        bits = [chain.measure_bits(number_characters(piece))[-1].sum() for piece in sample.pieces]
        return sample.average(np.array(bits), np.array([len(piece) for piece in sample.pieces]))

    if others:
        floor = float(np.median([_take_once(take, "\n".join(texts)) for texts in others.values()]))
        return Scale("compression", "other authors' median", floor, take(held_out), take)
    words = shuffle(split_words("\n".join(held_out.pieces)), source)
    return Scale("compression", "his own words shuffled", _take_once(take, " ".join(words)), take(held_out), take)


def make_word_order_scale(train: str, held_out: TextSample, size: int, source: np.random.Generator) -> Scale:
    """How much worse two words tell the kind of the next one than the last word does, in bits; 0 is a bigram model."""
    words, skeleton, chain = _learn_order(train)

    def take(sample: TextSample) -> Values:
        bits = [chain.measure_bits(skeleton.number(split_words(piece))) for piece in sample.pieces]
        worse = np.array([(piece[2] - piece[1]).sum() for piece in bits])
        return sample.average(worse, np.array([piece.shape[1] for piece in bits]))

    n_words = max(1, len(words) * size // len(train))
    floor = _take_once(take, " ".join(sample_ngram_text(words, n_words, 1, source)))
    return Scale("order of words", "a bigram model of his text", floor, take(held_out), take)


@lru_cache(maxsize=1)  # a model and its base are held against the same author, in texts of different sizes
def _learn_characters(train: str) -> NgramModel:
    symbols = number_characters(train)
    return NgramModel(symbols, COMPRESSION_ORDER, 1 + len(np.unique(symbols)))


@lru_cache(maxsize=1)
def _learn_order(train: str) -> tuple[list[str], FunctionWordMask, NgramModel]:
    words = split_words(train)
    skeleton = FunctionWordMask(words)
    return words, skeleton, NgramModel(skeleton.number(words), 3, skeleton.n_symbols)


def _take_once(take: Callable[[TextSample], Values], text: str) -> float:
    pieces = tuple(cut_evenly(normalise_for_counting(text)[:100_000], PIECE))
    return float(take(TextSample(pieces, np.ones((1, 1, len(pieces)))))[0])


Texts = Mapping[str, Sequence[str]]
LEAST = 25_000
"""Characters of the text that is judged, and of held-out text."""
LEAST_TRAINING = 60_000
"""Characters of the author's text beside what is held out."""
SAME_AUTHOR = 100.0
"""An author who is nearer than held-out text is the author himself."""
LONELY, LEAD = 50.0, 20.0
"""So is one who is half as near, and nearer than the next one by so much."""
GOOD = BAD = LEAST_LIKENESS
"""Good: the whole band lies above; bad: the score itself lies below."""
NO_SERVICE = (
    "The other authors to compare with do not write the language of this text: "
    "0 is what models of its own letters write, and its own words shuffled."
)
BORROWED = "Too little is held out: the end of the text that was learned from stands for the author's held-out text."


@dataclass(frozen=True, slots=True)
class StyleScales:
    """Rulers for one author and one size of text, to judge any number of texts by."""

    rulers: tuple[Scale, ...]
    size: int
    """Characters of a window."""
    scores: Mapping[str, float]
    """Where each of the other authors is on the rulers of frequencies, in the mean."""
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def read(self, text: str, seed: int = 0) -> dict[str, ScaleScore]:
        """Where a text lies on each ruler."""
        sample = draw_text_sample(normalise_for_counting(text), self.size, np.random.default_rng(seed))
        return {ruler.name: ruler.read(sample) for ruler in self.rulers}


def judge_style(
    text: str, train_documents: Sequence[str], held_out: str, others: Texts | None = None, *, seed: int = 0
) -> Verdict:
    """Judge whether a text sounds like the author.

    `train_documents` is what was learned from and `held_out` what was not; `others`: texts of other authors by their
    names, in place of the ones that come with the package; who has fewer than 25,000 characters does not count, and
    TextTooShort is raised if nobody does. Facts: "score", "low" and "high" of the least part,
    which is "least"; "nearest" of the other authors, "left_out", "n_others", "size_needed" and "notes".
    """
    own, held, borrowed = split_own_text(train_documents, held_out)
    n_characters = len(normalise_for_counting(text))
    lacking = _find_lack(n_characters, len(own), len(held))
    if lacking:
        facts = {"size_needed": LEAST, "training_needed": LEAST_TRAINING, "notes": []}
        return Verdict(topic="sounds like", tone="unsure", sentence=lacking, facts=facts)
    yardstick = make_style_scales(own, held, choose_size(n_characters, len(held)), others, seed=seed)
    readings = yardstick.read(text, seed)
    return decide_grade(yardstick, readings, [BORROWED] if borrowed else [])


def split_own_text(train_documents: Sequence[str], held_out: str) -> tuple[str, str, bool]:
    """Normalised text to learn the author from and to hold him against; whether the second was taken from the first."""
    own, held = normalise_for_counting("\n".join(train_documents)), normalise_for_counting(held_out)
    if len(held) >= LEAST:
        return own, held, False
    n_borrowed = min(WINDOW, max(LEAST, len(own) // 4))
    return own[:-n_borrowed], own[-n_borrowed:], True


def choose_size(n_characters: int, n_held_out: int) -> int:
    """Of windows: the text and the held-out text each have one or more, none longer than the other authors' are."""
    return n_characters // math.ceil(n_characters / min(WINDOW, n_held_out))


def _find_lack(n_characters: int, n_own: int, n_held: int) -> str:
    if n_characters < LEAST:
        return f"Not enough text to say: {n_characters:,} characters; {LEAST:,} are needed."
    if n_own < LEAST_TRAINING or n_held < LEAST:
        needed = LEAST_TRAINING + LEAST
        return (
            f"Not enough text to say: the author's own text has {n_own + n_held:,} characters; {needed:,} are needed."
        )
    return ""


def make_style_scales(own: str, held_out: str, size: int, others: Texts | None = None, *, seed: int = 0) -> StyleScales:
    """Make the rulers from normalised text of the author, to judge texts in windows of `size` characters."""
    source = np.random.default_rng(seed)
    held = draw_text_sample(held_out, size, source)
    others = _drop_small(others) if others else {}
    authors = read_authors(others) if others else load_authors()
    serves = authors.serves(own)
    authors = authors if serves else make_synthetic_authors(own, source)
    rulers, scores = make_frequency_scales(authors, own, held, size, source)
    left_out = tuple(name for name in find_same_author(scores) if serves and len(scores) > 1)
    if left_out:
        rulers, scores = make_frequency_scales(authors.without(left_out), own, held, size, source)
    readable = {name: texts for name, texts in others.items() if serves and name not in left_out}
    rulers += [make_compression_scale(own, held, readable, source), make_word_order_scale(own, held, size, source)]
    if not serves:
        rulers = [_rename(ruler) for ruler in rulers]
    return StyleScales(tuple(rulers), size, scores, left_out, () if serves else (NO_SERVICE,))


def _drop_small(others: Texts) -> Texts:
    kept = {name: texts for name, texts in others.items() if sum(map(len, texts)) >= LEAST}
    if not kept:
        hint = "Give more of their texts, or none: then those that come with epigone are taken."
        raise TextTooShort(f"None of the other authors has {LEAST:,} characters.", hint=hint)
    return kept


def find_same_author(scores: Mapping[str, float]) -> list[str]:
    """The other authors who are so near that they must be the author."""
    ranked = sorted(scores.items(), key=lambda one: -one[1])
    same = [name for name, score in ranked if score > SAME_AUTHOR]
    if same or len(ranked) < 3:
        return same
    (first, score), (_, second) = ranked[:2]
    return [first] if score >= LONELY and score - second >= LEAD else []


def make_synthetic_authors(own: str, source: np.random.Generator) -> AuthorCounts:
    """In place of other authors: what models of pairs and triples of the author's own letters write."""
    texts = {}
    for order, name in enumerate(("a model of letter pairs", "a model of letter triples"), 1):
        texts[name] = ["".join(sample_ngram_text(own[:200_000], 4 * WINDOW, order, source))]
    return read_authors(texts)


def _rename(ruler: Scale) -> Scale:
    name = ruler.floor_name.replace("other authors' median", "models of its letters")
    return Scale(ruler.name, name, ruler.floor, ruler.ceilings, ruler.take)


# -- the verdict


def decide_grade(yardstick: StyleScales, readings: Mapping[str, ScaleScore], notes: Sequence[str] = ()) -> Verdict:
    """The verdict that readings on a yardstick come to."""
    measures = tuple(_show(ruler, readings[ruler.name]) for ruler in yardstick.rulers if ruler.tells)
    untold = [ruler.name for ruler in yardstick.rulers if not ruler.tells]
    facts = _list_facts(yardstick, notes)
    if not measures:
        return Verdict(topic="sounds like", tone="unsure", sentence=_UNTOLD.format(" and ".join(untold)), facts=facts)
    least = min(measures, key=lambda measure: measure.value).name
    reading = readings[least]
    tone = grade(reading)
    if untold and tone != "bad":
        tone, sentence = "unsure", _UNTOLD.format(" and ".join(untold))
    else:
        sentence = _SENTENCES[tone].format(_describe(reading, least))
    facts |= {"least": least, "score": reading.score, "low": reading.low, "high": reading.high}
    return Verdict(topic="sounds like", tone=tone, sentence=sentence, measures=measures, facts=facts)


def _list_facts(yardstick: StyleScales, notes: Sequence[str]) -> dict[str, Any]:
    nearest = sorted(yardstick.scores, key=lambda name: -yardstick.scores[name])[:3]
    others = {"nearest": nearest, "left_out": list(yardstick.left_out), "n_others": len(yardstick.scores)}
    needed = {"size_needed": LEAST, "training_needed": LEAST_TRAINING}
    return others | needed | {"notes": [*yardstick.notes, *notes]}


def grade(reading: ScaleScore) -> Grade:
    """What the least part comes to."""
    if reading.score < BAD:
        return "bad"
    return "good" if reading.low >= GOOD else "fair"


_SENTENCES = {
    "good": "It sounds like the author: {}.",
    "fair": "It sounds somewhat like the author: {}.",
    "bad": "It does not sound like the author: {}.",
}
_UNTOLD = "Not enough text to say: by {}, the author's own held-out text is not surely nearer to him than what is 0."


def _describe(reading: ScaleScore, least: str) -> str:
    return f"{reading.score:.0f} of 100 ({reading.low:.0f} to {reading.high:.0f}) in the least part, {least}"


def _show(ruler: Scale, reading: ScaleScore) -> Measure:
    floor, ceiling = Reference(name=ruler.floor_name, value=0.0), Reference(name=HELD_OUT, value=100.0)
    return Measure(
        name=ruler.name,
        value=reading.score,
        unit="of 100",
        floor=floor,
        ceiling=ceiling,
        low=reading.low,
        high=reading.high,
    )
