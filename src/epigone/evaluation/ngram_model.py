"""Witten–Bell n-gram model of words, characters or bytes, for the baselines and for two of the style scales.

The probability of a symbol is interpolated from the shortest context to the longest: (count + kinds * shorter) /
(total + kinds), where `kinds` is how many different symbols followed the context (Witten and Bell 1991). A context that
was never seen changes nothing. Everything is sorted arrays and binary search, so a million characters take a second.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from epigone.corpus.words import WORD_OR_MARK

Symbols = NDArray[np.int64]
Keys = NDArray[np.uint64]
Probabilities = NDArray[np.float64]

# -- the model


@dataclass(frozen=True, slots=True)
class NgramTable:
    """Counts of the n-grams of one length."""

    grams: Keys
    """Sorted, each once; any number that names an n-gram."""
    counts: Symbols
    contexts: Keys
    """Sorted, each once."""
    totals: Symbols
    """How often each context was followed by anything."""
    kinds: Symbols
    """By how many different symbols it was."""

    @classmethod
    def build(cls, grams: Keys, counts: Symbols, contexts: Keys) -> NgramTable:
        """From sorted unique n-grams, how often each occurs, and the context of each."""
        unique, place, kinds = np.unique(contexts, return_inverse=True, return_counts=True)
        totals = np.bincount(place, counts, len(unique)).astype(np.int64)
        return cls(grams, counts, unique, totals, kinds)

    def refine(self, shorter: Probabilities, contexts: Keys, grams: Keys) -> Probabilities:
        """Probabilities of n-grams, from those under contexts that are one symbol shorter."""
        known = _find_keys(self.contexts, contexts)
        counts, totals = _values_at(self.counts, _find_keys(self.grams, grams)), _values_at(self.totals, known)
        kinds = np.maximum(1, _values_at(self.kinds, known))
        return np.asarray((counts + kinds * shorter) / (totals + kinds))


class NgramModel:
    """How often each symbol followed each context of 0 to `order` - 1 symbols. Windows are named by their hashes."""

    def __init__(self, symbols: Symbols, order: int, n_symbols: int) -> None:
        self.n_symbols, self.order = n_symbols, order
        self.tables = [_count_windows(*pair) for pair in pairwise(_hash_windows(symbols, order))]

    def measure_bits(self, symbols: Symbols) -> Probabilities:
        """Bits for each symbol of another text, under contexts of each length: [order, symbol]."""
        probability = np.full(len(symbols), 1.0 / self.n_symbols)
        bits = []
        hashes = pairwise(_hash_windows(symbols, self.order))
        for length, (table, (contexts, grams)) in enumerate(zip(self.tables, hashes, strict=True), 1):
            probability = probability.copy()
            probability[length - 1 :] = table.refine(probability[length - 1 :], contexts[: len(grams)], grams)
            bits.append(-np.log2(probability))
        return np.array(bits)


def measure_byte_bits(train: bytes, text: bytes, order: int) -> float:
    """Mean bits per byte of a text under the counts of another, with contexts of 0 to `order` bytes, at most 7.

    The same model with exact n-grams, one length in memory at a time; zeros stand before both texts.
    """
    known, asked = (np.frombuffer(data, np.uint8).astype(np.uint64) for data in (train, text))
    probability = np.full(len(asked), 1 / 256)
    for n_context in range(order + 1):
        grams, counts = np.unique(_pack_bytes(known, n_context), return_counts=True)
        table = NgramTable.build(grams, counts, grams >> np.uint64(8))
        wanted = _pack_bytes(asked, n_context)
        probability = table.refine(probability, wanted >> np.uint64(8), wanted)
    return float(-np.log2(probability).mean())


def _pack_bytes(text: Keys, n_context: int) -> Keys:
    """Each byte and the `n_context` before it in one number."""
    grams = text.copy()
    for distance in range(1, n_context + 1):
        grams[distance:] |= text[:-distance] << np.uint64(8 * distance)
    return grams


def _hash_windows(symbols: Symbols, order: int) -> Iterator[Keys]:
    """The hash of every window of 0, 1 ... `order` symbols."""
    hashed = np.zeros(len(symbols) + 1, np.uint64)
    yield hashed
    for length in range(1, order + 1):
        n = max(0, len(symbols) - length + 1)
        hashed = (hashed[:n] + symbols[length - 1 :].astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
        yield hashed


def _count_windows(contexts: Keys, grams: Keys) -> NgramTable:
    order = grams.argsort()  # np.unique with an index would sort stably, in three times the time
    edges = np.flatnonzero(np.diff(grams[order], prepend=~grams[order[:1]]))
    return NgramTable.build(grams[order[edges]], np.diff(edges, append=len(grams)), contexts[order[edges]])


def _find_keys(keys: Keys, wanted: Keys) -> Symbols:
    """The place of each wanted key among sorted ones, or else -1."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def _values_at(values: Symbols, places: Symbols) -> Symbols:
    return np.where(places >= 0, values[places], 0)


# -- text as symbols


def split_words(normalised: str) -> list[str]:
    """The words and punctuation marks of a normalised text."""
    return WORD_OR_MARK.findall(normalised)


def number_characters(normalised: str) -> Symbols:
    """The code point of each character."""
    return np.frombuffer(normalised.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)


N_KEPT = {0: 20, 90_000: 80}
"""From so many words of the author on: how many words and marks keep their identity in the model of word order.

Of 10 to 150 these separate held-out text best from a bigram model's.
"""
ENDINGS = ("ing", "ed", "ly", "s")
N_KINDS = len(ENDINGS) + 2
"""Words by their endings, other words, and marks."""


class FunctionWordMask:
    """Keeps the author's most frequent words and marks, and replaces every other by its kind: what it ends in."""

    def __init__(self, words: Sequence[str]) -> None:
        n_kept = max(n for least, n in N_KEPT.items() if len(words) >= least)
        common = (word for word, _ in Counter(words).most_common(n_kept))
        self.places = {word: place for place, word in enumerate(common, N_KINDS)}
        self.n_symbols = len(self.places) + N_KINDS

    def number(self, words: Sequence[str]) -> Symbols:
        """One symbol for each word."""
        known = {word: self.places.get(word, number_kind(word)) for word in set(words)}
        return np.array([known[word] for word in words], np.int64)


def number_kind(word: str) -> int:
    """The kind of a word or mark that does not keep its identity, below `N_KINDS`."""
    if not word[0].isalnum():
        return 1
    return next((kind for kind, ending in enumerate(ENDINGS, 2) if word.endswith(ending)), 0)


# -- negative controls: texts with the author's frequencies that must not pass for the author's


def shuffle(words: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The same words in another order: every frequency stays."""
    return [words[place] for place in rng.permutation(len(words))]


def sample_ngram_text(parts: Sequence[str], n_parts: int, order: int, rng: np.random.Generator) -> list[str]:
    """Sample words or characters, each as it followed the `order` before it somewhere in `parts`."""
    followers: defaultdict[tuple[str, ...] | str, list[str]] = defaultdict(list)
    contexts: Iterable[tuple[str, ...] | str] = parts
    if order > 1:
        contexts = zip(*(parts[place:] for place in range(order)), strict=False)
    for context, follower in zip(contexts, parts[order:], strict=False):
        followers[context].append(follower)
    start = int(rng.integers(len(parts) - order))
    sampled = list(parts[start : start + order])
    draws = rng.random(n_parts).tolist()
    if order == 1:  # without tuples it takes half the time
        last = sampled[0]
        for draw in draws:
            choices = followers.get(last) or parts
            last = choices[int(draw * len(choices))]
            sampled.append(last)
        return sampled
    for draw in draws:
        choices = followers.get(tuple(sampled[-order:])) or parts
        sampled.append(choices[int(draw * len(choices))])
    return sampled
