"""Does a text sound like the author? 0–100 style scales for one author, and the verdict that they lead to.

On each scale 0 is the median of other authors and 100 is the author's own held-out text. Four scales: word frequencies;
character n-gram frequencies; compression (cross-entropy under a character n-gram model of the author); word order (how
much better a trigram context predicts than a bigram context). The last one catches text whose frequencies are right but
whose syntax is not, such as the output of a bigram model. The verdict follows the lowest scale. docs/dev/attribution.md
shows what each kind of text reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigone.errors import TextTooShort
from epigone.evaluation.ngram_model import (
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
    cosine_distance,
    count_authors,
    cut_evenly,
    load_authors,
    normalise_for_counting,
)
from epigone.evaluation.verdict import HELD_OUT, WORD_ORDER, Measure, Reference, Verdict
from epigone.training.events import LEAST_LIKENESS, Grade

Values = NDArray[np.float64]
Texts = Mapping[str, Sequence[str]]
"""Texts by the name of their author."""

LEAST = 25_000
"""Characters of the text that is judged, and of held-out text."""
LEAST_TRAINING = 50_000
"""Characters of the author's text besides what is held out."""
N_FOLDS = 3
"""Where too little is held out, the author's text is divided into so many parts, from its beginning to its end."""
WORD_ORDER_TRAINING = 100_000
"""Characters that each part's rest needs for word order to be measured: with 57,000, two of eight authors failed."""
PIECE = 2_500
"""Characters that are resampled together, for the band: sentences within them depend on one another."""
N_DRAWS = 200
MOST_WINDOWS = 8
"""Windows of a text that are judged; more would say no more."""
MOST_OWN_WINDOWS = 40
COMPRESSION_ORDER = 6
CHARACTERS_READ = 1_000_000
"""Characters of the author's text that the compression scale reads, from its end."""
FLOOR_CHARACTERS = 100_000
SAME_AUTHOR = 100.0
"""A reference author closer than the author's own held-out text must be the author."""
NEAREST_AUTHOR, NEAREST_LEAD = 50.0, 20.0
"""So must one who scores this much, if the next one scores this much less."""
GOOD = BAD = LEAST_LIKENESS
"""Good: the whole band is above; bad: the score itself is below."""
OTHER_LANGUAGE = (
    "The reference authors do not write the language of this text. In their place stand random texts from letter "
    "n-gram models of the author, and the author's own words shuffled: they are 0 on the scales."
)
ROTATED = (
    "Too little text is held out to compare with, so each third of the author's text in turn is compared with the rest."
)
NO_WORD_ORDER = "Word order cannot be measured with so little text, so words in a wrong order could pass here."

# -- the text on a scale


@dataclass(frozen=True, slots=True)
class TextSample:
    """A normalised text in pieces, and bootstrap samples of it: windows that are drawn from the pieces."""

    pieces: tuple[str, ...]
    draws: Values
    """How often each piece stands in each window, [1 + draw, window, piece]; the first is the text itself."""

    def average(self, totals: Values, sizes: Values) -> Values:
        """One sum over the pieces divided by another, for the text and for each draw: [1 + draw]."""
        drawn = self.draws.sum(1)
        return np.asarray((drawn @ totals) / (drawn @ sizes))

    def delta(self, counts: Counts, space: DeltaSpace, author: Values) -> Values:
        """The mean distance of the windows from an author: [1 + draw]."""
        n_draws, n_windows, n_pieces = self.draws.shape
        windows = self.draws.reshape(-1, n_pieces) @ counts
        distances = cosine_distance(space.embed_texts(windows), author)[:, 0]
        return np.asarray(distances.reshape(n_draws, n_windows).mean(1))


def draw_text_sample(text: str, size: int, rng: np.random.Generator) -> TextSample:
    """Cut a normalised text into windows of about `size` characters and those into pieces, and resample the pieces."""
    windows = cut_evenly(text, size)
    n_kept = min(len(windows), MOST_WINDOWS)
    kept = [windows[place * len(windows) // n_kept][:size] for place in range(n_kept)]
    by_window = [cut_evenly(window, PIECE) for window in kept]
    pieces = tuple(piece for window in by_window for piece in window)
    draws = np.zeros((1 + N_DRAWS, n_kept, len(pieces)))
    start = 0
    for window, several in enumerate(by_window):
        draws[0, window, start : start + len(several)] = 1
        start += len(several)
        for draw in range(1, 1 + N_DRAWS):
            drawn = rng.integers(len(pieces), size=len(several))
            draws[draw, window] = np.bincount(drawn, minlength=len(pieces))
    return TextSample(pieces, draws)


def measure_whole(distance: Callable[[TextSample], Values], text: str) -> float:
    """The distance of a text as a whole, without a band."""
    pieces = tuple(cut_evenly(text, PIECE))
    return float(distance(TextSample(pieces, np.ones((1, 1, len(pieces)))))[0])


@dataclass(frozen=True, slots=True)
class ScaleScore:
    """A text's score on a scale, with its 95 % band."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scale:
    """One style scale."""

    name: str
    floor_name: str
    floor: float
    """The distance that scores 0."""
    ceilings: Values
    """The distance that scores 100, that of the author's held-out text: [1 + draw]."""
    distance: Callable[[TextSample], Values]
    """A text's distance from the author, smaller is closer: [1 + draw]."""
    is_enough: bool = True
    """Whether there is enough text to measure this at all."""

    @property
    def is_reliable(self) -> bool:
        """Whether held-out text is certainly closer than the floor. Only then do scores mean anything."""
        return self.is_enough and bool(np.quantile(self.ceilings[1:], 0.975) < self.floor)

    def place(self, text: str) -> float:
        """The score of a whole text, without its band."""
        distance = measure_whole(self.distance, text)
        return float(100 * (self.floor - distance) / (self.floor - self.ceilings[0]))

    def score(self, sample: TextSample) -> ScaleScore:
        """The sample's score; the band covers the chance in the sample and in the held-out text."""
        lengths = np.maximum(self.floor - self.ceilings, 0.2 * (self.floor - self.ceilings[0]))
        scores = 100 * (self.floor - self.distance(sample)) / lengths
        low, high = np.quantile(scores[1:] - scores[1:].mean(), [0.025, 0.975])
        return ScaleScore(float(scores[0]), float(scores[0] + low), float(scores[0] + high))


# -- the four scales


def make_frequency_scales(
    authors: AuthorCounts, train: str, held_out: TextSample, size: int, rng: np.random.Generator
) -> tuple[list[Scale], dict[str, float]]:
    """The scales of words and of n-grams, and each reference author's mean score on the two."""
    counts = authors.features.count(window[:size] for window in cut_evenly(train, size)[:MOST_OWN_WINDOWS])
    held_counts = authors.features.count(held_out.pieces)
    scales, scores = [], np.zeros(len(authors.names))
    n_words = authors.features.n_words
    for name, columns in {"words": slice(0, n_words), "character n-grams": slice(n_words, counts.shape[1] - 2)}.items():
        space = DeltaSpace(authors, columns, size, rng)
        author = space.embed_author(counts)
        windows = cosine_distance(space.windows, author)[:, 0]
        distances = np.array([windows[space.owners == owner].mean() for owner in range(len(authors.names))])
        ceilings = held_out.delta(held_counts, space, author)
        floor = float(np.median(distances))
        scores += 50 * (floor - distances) / max(1e-9, floor - ceilings[0])
        scales.append(Scale(name, "other authors' median", floor, ceilings, _delta_from(authors, space, author)))
    return scales, dict(zip(authors.names, scores.tolist(), strict=True))


def _delta_from(authors: AuthorCounts, space: DeltaSpace, author: Values) -> Callable[[TextSample], Values]:
    return lambda sample: sample.delta(authors.features.count(sample.pieces), space, author)


def make_compression_scale(train: str, held_out: TextSample, others: Texts, rng: np.random.Generator) -> Scale:
    """Bits per character under a model of the author. The floor is other authors' texts or, without any, the author's
    words shuffled."""
    model = _train_character_model(train[-CHARACTERS_READ:])

    def distance(sample: TextSample) -> Values:
        bits = [model.measure_bits(number_characters(piece))[-1].sum() for piece in sample.pieces]
        return sample.average(np.array(bits), np.array([len(piece) for piece in sample.pieces]))

    if others:
        floor = float(np.median([_measure_floor(distance, "\n".join(texts)) for texts in others.values()]))
        return Scale("compression", "other authors' median", floor, distance(held_out), distance)
    words = shuffle(split_words("\n".join(held_out.pieces)), rng)
    floor = _measure_floor(distance, " ".join(words))
    return Scale("compression", "the author's words shuffled", floor, distance(held_out), distance)


def make_word_order_scale(train: str, held_out: TextSample, size: int, rng: np.random.Generator) -> Scale:
    """Bits per word that the kind of the next word costs more after two words than after one. The floor is a bigram
    model of the author."""
    words, mask, model = _train_word_order_model(train)

    def distance(sample: TextSample) -> Values:
        bits = [model.measure_bits(mask.number(split_words(piece))) for piece in sample.pieces]
        worse = np.array([(piece[2] - piece[1]).sum() for piece in bits])
        return sample.average(worse, np.array([piece.shape[1] for piece in bits]))

    n_words = max(1, len(words) * size // len(train))
    floor = _measure_floor(distance, " ".join(sample_ngram_text(words, n_words, 1, rng)))
    return Scale(WORD_ORDER, "a bigram model of the author", floor, distance(held_out), distance)


@lru_cache(maxsize=N_FOLDS)  # a model and its base are compared with the same author, in texts of different sizes
def _train_character_model(train: str) -> NgramModel:
    symbols = number_characters(train)
    return NgramModel(symbols, COMPRESSION_ORDER, 1 + len(np.unique(symbols)))


@lru_cache(maxsize=N_FOLDS)
def _train_word_order_model(train: str) -> tuple[list[str], FunctionWordMask, NgramModel]:
    words = split_words(train)
    mask = FunctionWordMask(words)
    return words, mask, NgramModel(mask.number(words), 3, mask.n_symbols)


def _measure_floor(distance: Callable[[TextSample], Values], text: str) -> float:
    return measure_whole(distance, normalise_for_counting(text)[:FLOOR_CHARACTERS])


# -- all scales for one author


@dataclass(frozen=True, slots=True)
class StyleScales:
    """The scales for one author and one size of text. Any number of texts can be scored on them."""

    scales: tuple[Scale, ...]
    size: int
    """Characters of a window."""
    scores: Mapping[str, float]
    """Each reference author's mean score on the frequency scales."""
    left_out: tuple[str, ...]
    """Reference authors who turned out to be the author."""
    notes: tuple[str, ...]

    def score(self, text: str, seed: int = 0) -> dict[str, ScaleScore]:
        """A text's score on each scale, by the scale's name."""
        sample = draw_text_sample(normalise_for_counting(text), self.size, np.random.default_rng(seed))
        return {scale.name: scale.score(sample) for scale in self.scales}


def make_style_scales(own: str, held_out: str, size: int, others: Texts | None = None, *, seed: int = 0) -> StyleScales:
    """Make the scales from normalised text of the author, to judge texts in windows of `size` characters."""
    rng = np.random.default_rng(seed)
    held = draw_text_sample(held_out, size, rng)
    others = _drop_small(others) if others else {}
    authors = count_authors(others) if others else load_authors()
    is_known = authors.shares_language(own)
    authors = authors if is_known else make_synthetic_authors(own, rng)
    scales, scores = make_frequency_scales(authors, own, held, size, rng)
    left_out = tuple(name for name in find_same_author(scores) if is_known and len(scores) > 1)
    if left_out:
        scales, scores = make_frequency_scales(authors.without(left_out), own, held, size, rng)
    readable = {name: texts for name, texts in others.items() if is_known and name not in left_out}
    scales += [make_compression_scale(own, held, readable, rng), make_word_order_scale(own, held, size, rng)]
    if not is_known:
        scales = [_name_synthetic(scale) for scale in scales]
    return StyleScales(tuple(scales), size, scores, left_out, () if is_known else (OTHER_LANGUAGE,))


def choose_size(n_characters: int, n_held_out: int) -> int:
    """The size of windows such that the text and the held-out text fill one or more, none longer than WINDOW."""
    return n_characters // math.ceil(n_characters / min(WINDOW, n_held_out))


def _drop_small(others: Texts) -> Texts:
    kept = {name: texts for name, texts in others.items() if sum(map(len, texts)) >= LEAST}
    if not kept:
        raise TextTooShort(
            f"None of the other authors has {LEAST:,} characters of text.",
            hint="Give more of their text, or no other authors: then the bundled ones are used.",
        )
    return kept


def find_same_author(scores: Mapping[str, float]) -> list[str]:
    """The reference authors who score so high that they must be the author."""
    ranked = sorted(scores.items(), key=lambda one: -one[1])
    same = [name for name, score in ranked if score > SAME_AUTHOR]
    if same or len(ranked) < 3:
        return same
    (first, score), (_, second) = ranked[:2]
    return [first] if score >= NEAREST_AUTHOR and score - second >= NEAREST_LEAD else []


def make_synthetic_authors(own: str, rng: np.random.Generator) -> AuthorCounts:
    """In place of reference authors: random texts from letter bigram and trigram models of the author."""
    texts = {}
    for order, name in enumerate(("a model of letter pairs", "a model of letter triples"), 1):
        texts[name] = ["".join(sample_ngram_text(own[:200_000], 4 * WINDOW, order, rng))]
    return count_authors(texts)


def _name_synthetic(scale: Scale) -> Scale:
    return replace(scale, floor_name=scale.floor_name.replace("other authors' median", "letter n-gram models"))


# -- the verdict


def judge_style(
    text: str, train_documents: Sequence[str], held_out: str, others: Texts | None = None, *, seed: int = 0
) -> Verdict:
    """Judge whether a text sounds like the author, as `StyleJudge` does."""
    return StyleJudge(train_documents, held_out, others, seed=seed).judge(text)


class StyleJudge:
    """Judges whether texts sound like one author. What is measured of the author is measured once."""

    def __init__(
        self,
        train_documents: Sequence[str],
        held_out: str,
        others: Texts | None = None,
        *,
        least: int = LEAST,
        seed: int = 0,
    ) -> None:
        """`others`: texts of reference authors in place of the bundled ones. Those with fewer than 25,000 characters
        are ignored. `least`: characters that a text needs; with fewer than `LEAST` the bands are wider."""
        self.folds = divide_own_text(train_documents, held_out, least)
        self.others, self.least, self.seed = others, least, seed
        self.scales: StyleScales | None = None
        """Made for the first text that is long enough."""

    def judge(self, text: str) -> Verdict:
        """The verdict on a text; the first one decides how long the windows are in which all are compared.

        Facts: "score", "low" and "high" on the lowest scale, which is "least"; "nearest" of the reference authors,
        "left_out", "n_others", "size_needed" and "notes". Raises TextTooShort if no reference author has enough text.
        """
        n_characters = len(normalise_for_counting(text))
        lacking = _describe_lack(n_characters, self.folds, self.least)
        if lacking:
            facts = {"size_needed": self.least, "training_needed": LEAST_TRAINING, "notes": []}
            return Verdict(topic="sounds like", grade="unsure", sentence=lacking, facts=facts)
        if self.scales is None:
            self.scales = make_author_scales(self.folds, n_characters, self.others, seed=self.seed)
        notes = [ROTATED] if len(self.folds) > 1 else []
        scores = self.scales.score(text, self.seed)
        return decide_grade(self.scales, scores, notes, must_be_certain=self.least < LEAST)


Folds = Sequence[tuple[str, str]]
"""Each of the author's normalised text that scales are made from, and of the text that says where 100 is on them."""


def divide_own_text(train_documents: Sequence[str], held_out: str, least: int = LEAST) -> Folds:
    """The author's training text and held-out text or, if that is too short, each third of all and the rest.

    No text is on both sides, and every character counts.
    """
    own, held = normalise_for_counting("\n".join(train_documents)), normalise_for_counting(held_out)
    return divide_in_folds(own, held, least)


def divide_in_folds(own: str, held_out: str, least: int) -> Folds:
    """Two texts or, if the second has fewer than `least` characters, each third of both and the rest."""
    if len(held_out) >= least:
        return [(own, held_out)]
    whole = " ".join(filter(None, (own, held_out)))
    edges = [len(whole) * edge // N_FOLDS for edge in range(N_FOLDS + 1)]
    return [(whole[:start] + whole[end:], whole[start:end]) for start, end in pairwise(edges)]


def make_author_scales(folds: Folds, n_characters: int, others: Texts | None = None, *, seed: int = 0) -> StyleScales:
    """The scales to judge texts of `n_characters` on: those of the folds, averaged."""
    size = choose_size(n_characters, min(len(held) for _, held in folds))
    made = [make_style_scales(own, held, size, others, seed=seed + fold) for fold, (own, held) in enumerate(folds)]
    scales = [average_scales(several) for several in zip(*(one.scales for one in made), strict=True)]
    if len(folds) > 1 and len(folds[0][0]) < WORD_ORDER_TRAINING:
        scales = [replace(scale, is_enough=scale.name != WORD_ORDER) for scale in scales]
    names = [name for name in made[0].scores if all(name in one.scores for one in made)]
    return StyleScales(
        scales=tuple(scales),
        size=size,
        scores={name: sum(one.scores[name] for one in made) / len(made) for name in names},
        left_out=tuple(dict.fromkeys(name for one in made for name in one.left_out)),
        notes=made[0].notes,
    )


def average_scales(scales: Sequence[Scale]) -> Scale:
    """One scale on which distances, floors and ceilings are the means of those on several of one name."""
    return replace(
        scales[0],
        floor=sum(scale.floor for scale in scales) / len(scales),
        ceilings=np.mean([scale.ceilings for scale in scales], axis=0),
        distance=lambda sample: np.mean([scale.distance(sample) for scale in scales], axis=0),
    )


def _describe_lack(n_characters: int, folds: Folds, least: int) -> str:
    if n_characters < least:
        return f"Too short to say: the text has {n_characters:,} characters, and {least:,} are needed."
    n_own, n_held = (min(map(len, parts)) for parts in zip(*folds, strict=True))
    if n_own < LEAST_TRAINING or n_held < least:
        # where too little is held out, two thirds have to be enough, and so has the third
        needed = LEAST_TRAINING + least if len(folds) == 1 else max(LEAST_TRAINING * N_FOLDS // 2, least * N_FOLDS)
        return f"Too short to say: the author's own text has {n_own + n_held:,} characters, and {needed:,} are needed."
    return ""


_SENTENCES = {
    "good": "It sounds like the author: {}.",
    "fair": "It sounds somewhat like the author: {}.",
    "bad": "It does not sound like the author: {}.",
}
_DOUBTFUL = "It may not sound like the author, but there is too little text to say: {}."
_UNRELIABLE = (
    "Too short to say: measured by {}, even the author's own held-out text is not certainly closer to the author than "
    "others are."
)


def decide_grade(
    scales: StyleScales,
    scores: Mapping[str, ScaleScore],
    notes: Sequence[str] = (),
    *,
    must_be_certain: bool = False,
) -> Verdict:
    """The verdict for a text with these scores; `must_be_certain`: bad only where the whole band is, else unsure."""
    measures = tuple(measure_scale(scale, scores[scale.name]) for scale in scales.scales if scale.is_reliable)
    unreliable = [scale.name for scale in scales.scales if not scale.is_reliable]
    facts = _list_facts(scales, notes)
    if not measures:
        sentence = _UNRELIABLE.format(" and ".join(unreliable))
        return Verdict(topic="sounds like", grade="unsure", sentence=sentence, facts=facts)
    least = min(measures, key=lambda measure: measure.value).name
    score = scores[least]
    grade = grade_score(score)
    if must_be_certain and grade == "bad" and score.high >= BAD:
        grade, sentence = "unsure", _DOUBTFUL.format(describe_score(score, least))
    elif unreliable == [WORD_ORDER] and grade != "bad":
        grade, sentence = "fair", f"{_SENTENCES[grade].format(describe_score(score, least))} {NO_WORD_ORDER}"
    elif unreliable and grade != "bad":
        grade, sentence = "unsure", _UNRELIABLE.format(" and ".join(unreliable))
    else:
        sentence = _SENTENCES[grade].format(describe_score(score, least))
    facts |= {"least": least, "score": score.score, "low": score.low, "high": score.high}
    return Verdict(topic="sounds like", grade=grade, sentence=sentence, measures=measures, facts=facts)


def grade_score(score: ScaleScore) -> Grade:
    """The grade for a score on the lowest scale."""
    if score.score < BAD:
        return "bad"
    return "good" if score.low >= GOOD else "fair"


def describe_score(score: ScaleScore, least: str) -> str:
    """A score and its band in words, with the name of the scale that it is lowest on."""
    value, low, high = (f"{min(100.0, max(0.0, end)):.0f}" for end in (score.score, score.low, score.high))
    band = "" if low == high else f" ({low} to {high})"
    return f"{value} of 100{band} on its lowest scale, {least}"


def _list_facts(scales: StyleScales, notes: Sequence[str]) -> dict[str, Any]:
    nearest = sorted(scales.scores, key=lambda name: -scales.scores[name])[:3]
    others = {"nearest": nearest, "left_out": list(scales.left_out), "n_others": len(scales.scores)}
    needed = {"size_needed": LEAST, "training_needed": LEAST_TRAINING}
    return others | needed | {"notes": [*scales.notes, *notes]}


def measure_scale(scale: Scale, score: ScaleScore) -> Measure:
    """A score as a number of a verdict."""
    return Measure(
        name=scale.name,
        value=score.score,
        unit="of 100",
        floor=Reference(name=scale.floor_name, value=0.0),
        ceiling=Reference(name=HELD_OUT, value=100.0),
        low=score.low,
        high=score.high,
    )
