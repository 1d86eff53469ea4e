"""A text in; the bits that a chain of words or characters learned from it needs for another, and texts it makes, out.

The chain predicts each symbol from those before it, mixing orders by how often a context led to something new
(Witten and Bell 1991): what an arithmetic coder would need that had read the first text, as in prediction by partial
matching.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.int64]
Hashes = NDArray[np.uint64]
TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:'[^\W_]+)*|[^\w\s]")
"""A word, a character that is a word, or a mark."""
N_KEPT = {0: 20, 90_000: 80}
"""From so many words of the author's on: how many words and marks count as themselves where order is judged.

The others are a few kinds, by their endings. Of 10 to 150 these tell a bigram model best from held-out text.
"""
ENDINGS = ("ing", "ed", "ly", "s")


class Chain:
    """How often each symbol followed each context, for contexts of 0 to `order` - 1 symbols."""

    def __init__(self, symbols: Symbols, order: int, n_symbols: int) -> None:
        self.n_symbols, self.order = n_symbols, order
        hashes = list(_hash(symbols, order))
        self.tables = [_tabulate(*pair) for pair in pairwise(hashes)]

    def measure_bits(self, symbols: Symbols) -> NDArray[np.float64]:
        """Bits for each symbol of another text by chains of each order: [order, symbol]."""
        chance = np.full(len(symbols), 1.0 / self.n_symbols)
        found = []
        hashes = pairwise(_hash(symbols, self.order))
        for length, (table, (starts, whole)) in enumerate(zip(self.tables, hashes, strict=True), 1):
            grams, numbers, contexts, followed, kinds = table
            seen, known = _look_up(grams, numbers, whole), _find(contexts, starts[: len(whole)])
            n, new = _take(followed, known), np.maximum(1, _take(kinds, known))
            chance = chance.copy()
            chance[length - 1 :] = (seen + new * chance[length - 1 :]) / (n + new)
            found.append(-np.log2(chance))
        return np.array(found)


def _tabulate(starts: Hashes, whole: Hashes) -> tuple[Hashes, Symbols, Hashes, Symbols, Symbols]:
    """Grams of one length with their numbers; their contexts, how often each was followed and by how many kinds."""
    order = whole.argsort()  # np.unique would sort stably, in three times the time
    edges = np.flatnonzero(np.diff(whole[order], prepend=~whole[order[:1]]))
    contexts, followed = np.unique(starts[: len(whole)], return_counts=True)
    kinds = np.bincount(contexts.searchsorted(np.sort(starts[order[edges]])), minlength=len(contexts))
    return whole[order[edges]], np.diff(edges, append=len(whole)), contexts, followed, kinds


def _hash(symbols: Symbols, order: int) -> Iterator[Hashes]:
    """The hash of each window of 0, 1 ... `order` symbols."""
    hashed = np.zeros(len(symbols) + 1, np.uint64)
    yield hashed
    for length in range(1, order + 1):
        n = max(0, len(symbols) - length + 1)
        hashed = (hashed[:n] + symbols[length - 1 :].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
        yield hashed


def _look_up(keys: Hashes, values: Symbols, wanted: Hashes) -> Symbols:
    return _take(values, _find(keys, wanted))


def _find(keys: Hashes, wanted: Hashes) -> Symbols:
    """The place of each wanted key, or else -1."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def _take(values: Symbols, places: Symbols) -> Symbols:
    return np.where(places >= 0, values[places], 0)


# -- symbols


def split_words(normalised: str) -> list[str]:
    """The words and marks of a normalised text."""
    return TOKEN.findall(normalised)


class Skeleton:
    """What stays of a text when all but the author's commonest words are only known by their kind."""

    def __init__(self, words: Sequence[str]) -> None:
        n_kept = max(n for least, n in N_KEPT.items() if len(words) >= least)
        common = (word for word, _ in Counter(words).most_common(n_kept))
        self.places = {word: place for place, word in enumerate(common, len(ENDINGS) + 2)}
        self.n_symbols = len(self.places) + len(ENDINGS) + 2

    def number(self, words: Sequence[str]) -> Symbols:
        """One symbol for each word."""
        known = {word: self.places.get(word, _name_kind(word)) for word in set(words)}
        return np.array([known[word] for word in words], np.int64)


def _name_kind(word: str) -> int:
    if not word[0].isalnum():
        return 1
    return next((kind for kind, ending in enumerate(ENDINGS, 2) if word.endswith(ending)), 0)


def number_characters(normalised: str) -> Symbols:
    """One symbol for each character."""
    return np.frombuffer(normalised.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)


# -- texts that must not pass


def shuffle(words: Sequence[str], source: np.random.Generator) -> list[str]:
    """The same words in another order: every frequency stays."""
    return [words[place] for place in source.permutation(len(words))]


def write_chain(parts: Sequence[str], n_parts: int, order: int, source: np.random.Generator) -> list[str]:
    """So many words or characters from a chain: each as it followed the `order` before it somewhere in `parts`."""
    followers: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for place in range(len(parts) - order):
        followers[tuple(parts[place : place + order])].append(parts[place + order])
    start = int(source.integers(len(parts) - order))
    written = list(parts[start : start + order])
    for draw in source.random(n_parts):
        choices = followers.get(tuple(written[-order:])) or parts
        written.append(choices[int(draw * len(choices))])
    return written
