"""An author's text, held-out text of his and other authors in; rulers, from 0 for others to 100 for him, out.

Four of them. Two see which words and which character n-grams he uses how often; one sees how well his text helps to
compress another; and one, to which frequencies are nothing, sees the order of words: how much better the two words
before a word tell what kind of word it is than the one word does. In a bigram model's text they tell it worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from epigone.judging.authors import Authors
from epigone.judging.chains import Chain, Skeleton, number_characters, shuffle, split_words, write_chain
from epigone.judging.frequencies import Counts, cut_evenly, normalise
from epigone.judging.nearness import Space, measure

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
class Sample:
    """A normalised text in pieces, and how often each piece stands in windows that are drawn anew from them."""

    pieces: tuple[str, ...]
    draws: Values
    """[1 + draw, window, piece]: first as the text is."""

    def average(self, totals: Values, sizes: Values) -> Values:
        """A sum over pieces by another, for the text and for each draw: [1 + draw]."""
        drawn = self.draws.sum(1)
        return np.asarray((drawn @ totals) / (drawn @ sizes))

    def measure(self, counts: Counts, space: Space, author: Values) -> Values:
        """The mean distance of the windows from an author: [1 + draw]."""
        n_draws, n_windows, n_pieces = self.draws.shape
        windows = self.draws.reshape(-1, n_pieces) @ counts
        distances = measure(space.place_texts(windows), author)[:, 0]
        return np.asarray(distances.reshape(n_draws, n_windows).mean(1))


def draw_sample(text: str, size: int, source: np.random.Generator) -> Sample:
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
    return Sample(pieces, draws)


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a text lies on a ruler."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ruler:
    """One part of the verdict."""

    name: str
    floor_name: str
    floor: float
    """What is 0, as the part measures it."""
    ceilings: Values
    """What is 100: the author's held-out text [1 + draw]."""
    take: Callable[[Sample], Values]
    """How the part measures a text: smaller is nearer [1 + draw]."""

    @property
    def tells(self) -> bool:
        """Whether held-out text is surely nearer than what is 0. Readings mean something only then."""
        return bool(np.quantile(self.ceilings[1:], 0.975) < self.floor)

    def read(self, sample: Sample) -> Reading:
        """Where the sample lies, with a band for the chance in it and in the held-out text."""
        lengths = np.maximum(self.floor - self.ceilings, 0.2 * (self.floor - self.ceilings[0]))
        scores = 100 * (self.floor - self.take(sample)) / lengths
        low, high = np.quantile(scores[1:] - scores[1:].mean(), [0.025, 0.975])
        return Reading(float(scores[0]), float(scores[0] + low), float(scores[0] + high))


# -- frequencies


def make_frequency_rulers(
    authors: Authors, train: str, held_out: Sample, size: int, source: np.random.Generator
) -> tuple[list[Ruler], dict[str, float]]:
    """Rulers for words and n-grams, and where each of the other authors is on them, in the mean."""
    counts = authors.features.count(window[:size] for window in cut_evenly(train, size)[:MOST_OWN_WINDOWS])
    held_counts = authors.features.count(held_out.pieces)
    rulers, scores = [], np.zeros(len(authors.names))
    n_words = authors.features.n_words
    for name, columns in {"words": slice(0, n_words), "character n-grams": slice(n_words, counts.shape[1] - 2)}.items():
        space = Space(authors, columns, size, source)
        author = space.place_author(counts)
        windows = measure(space.windows, author)[:, 0]
        distances = np.array([windows[space.owners == owner].mean() for owner in range(len(authors.names))])
        ceilings = held_out.measure(held_counts, space, author)
        floor = float(np.median(distances))
        scores += 50 * (floor - distances) / max(1e-9, floor - ceilings[0])
        rulers.append(Ruler(name, "other authors' median", floor, ceilings, _take_distance(authors, space, author)))
    return rulers, dict(zip(authors.names, scores.tolist(), strict=True))


def _take_distance(authors: Authors, space: Space, author: Values) -> Callable[[Sample], Values]:
    return lambda sample: sample.measure(authors.features.count(sample.pieces), space, author)


# -- chains


def make_compression_ruler(
    train: str, held_out: Sample, others: Mapping[str, Sequence[str]], source: np.random.Generator
) -> Ruler:
    """Bits for a character, given the author's text; 0 is what others need, or else his own words shuffled."""
    chain = _learn_characters(train[-CHARACTERS_READ:])

    def take(sample: Sample) -> Values:
        bits = [chain.measure_bits(number_characters(piece))[-1].sum() for piece in sample.pieces]
        return sample.average(np.array(bits), np.array([len(piece) for piece in sample.pieces]))

    if others:
        floor = float(np.median([_take_once(take, "\n".join(texts)) for texts in others.values()]))
        return Ruler("compression", "other authors' median", floor, take(held_out), take)
    words = shuffle(split_words("\n".join(held_out.pieces)), source)
    return Ruler("compression", "his own words shuffled", _take_once(take, " ".join(words)), take(held_out), take)


def make_order_ruler(train: str, held_out: Sample, size: int, source: np.random.Generator) -> Ruler:
    """How much worse two words tell the kind of the next one than the last word does, in bits; 0 is a bigram model."""
    words, skeleton, chain = _learn_order(train)

    def take(sample: Sample) -> Values:
        bits = [chain.measure_bits(skeleton.number(split_words(piece))) for piece in sample.pieces]
        worse = np.array([(piece[2] - piece[1]).sum() for piece in bits])
        return sample.average(worse, np.array([piece.shape[1] for piece in bits]))

    n_words = max(1, len(words) * size // len(train))
    floor = _take_once(take, " ".join(write_chain(words, n_words, 1, source)))
    return Ruler("order of words", "a bigram model of his text", floor, take(held_out), take)


@lru_cache(maxsize=1)  # a model and its base are held against the same author, in texts of different sizes
def _learn_characters(train: str) -> Chain:
    symbols = number_characters(train)
    return Chain(symbols, COMPRESSION_ORDER, 1 + len(np.unique(symbols)))


@lru_cache(maxsize=1)
def _learn_order(train: str) -> tuple[list[str], Skeleton, Chain]:
    words = split_words(train)
    skeleton = Skeleton(words)
    return words, skeleton, Chain(skeleton.number(words), 3, skeleton.n_symbols)


def _take_once(take: Callable[[Sample], Values], text: str) -> float:
    pieces = tuple(cut_evenly(normalise(text)[:100_000], PIECE))
    return float(take(Sample(pieces, np.ones((1, 1, len(pieces)))))[0])
