"""Texts in; how often each of some words and character n-grams stands in their pieces, as tables of counts, out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+(?:'[^\W\d_]+)*")
"""A Chinese or Japanese character is a word: no space says where theirs end."""
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
ONE_DRESS = str.maketrans("\u2019\u2018\u201c\u201d\u2014\u2013", "''\"\"--", "_")
"""How an edition prints quotation marks, dashes and italics is not the author's doing."""


def normalise(text: str) -> str:
    """The text in lower case, with plain quotation marks and dashes, 0 for every digit, one space for white space."""
    text = re.sub(r"-+", "-", text.translate(ONE_DRESS).casefold())
    return " ".join(re.sub(r"\d", "0", text).split())


def cut_evenly(text: str, n_characters: int) -> list[str]:
    """The text in equal pieces of at least `n_characters`, or whole if it is shorter than two."""
    n_pieces = max(1, len(text) // n_characters)
    edges = [len(text) * edge // n_pieces for edge in range(n_pieces + 1)]
    return [text[start:end] for start, end in pairwise(edges)]


@dataclass(frozen=True, slots=True)
class Features:
    """What is counted: words, and n-grams of UTF-16 units in a normalised text."""

    words: tuple[str, ...]
    grams: tuple[str, ...]
    """All of one length."""

    @property
    def n_words(self) -> int:
        """The first columns of a table of counts; the n-grams follow."""
        return len(self.words)

    def count(self, texts: Iterable[str]) -> Counts:
        """How often each stands in each normalised text, then the words and n-grams in all: [text, feature + 2]."""
        places = {word: place for place, word in enumerate(self.words)}
        codes = np.array([_encode(gram, len(_units(gram)))[0] for gram in self.grams], np.uint64)
        order = np.argsort(codes)
        return np.array([self._count_one(text, places, codes[order], order) for text in texts], np.float64)

    def _count_one(
        self, text: str, places: dict[str, int], codes: NDArray[np.uint64], order: NDArray[np.intp]
    ) -> Counts:
        counts = np.zeros(len(self.words) + len(self.grams) + 2)
        words = WORD.findall(text)
        for word, n in Counter(words).items():
            if word in places:
                counts[places[word]] = n
        found = _encode(text, len(_units(self.grams[0])))
        at = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
        hits = np.bincount(at[codes[at] == found], minlength=len(codes))
        counts[self.n_words + order] = hits
        counts[-2:] = max(1, len(words)), max(1, len(found))
        return counts


def choose_features(texts: Iterable[str], n_words: int, n_grams: int) -> Features:
    """The words and n-grams that are most frequent in normalised texts, each text counting as much as another."""
    words: Counter[str] = Counter()
    grams: dict[int, float] = {}
    length = 0
    for text in texts:
        length = length or choose_length(text)
        found = Counter(WORD.findall(text))
        for word, n in found.items():
            words[word] += n / found.total()  # type: ignore[assignment]  # shares add up as counts do
        codes, numbers = np.unique(_encode(text, length), return_counts=True)
        often = np.argsort(-numbers, kind="stable")[: 4 * n_grams]
        for code, n in zip(codes[often].tolist(), numbers[often].tolist(), strict=True):
            grams[code] = grams.get(code, 0.0) + n / len(text)
    best = sorted(grams, key=lambda code: (-grams[code], code))[:n_grams]
    ranked = sorted(words, key=lambda word: (-words[word], word))[:n_words]
    return Features(tuple(ranked), tuple(_decode(code, length) for code in best))


def choose_length(text: str) -> int:
    """Of the n-grams: four characters, or two of a script in which a character is a word."""
    return 2 if 2 * len(UNSPACED.findall(text[:20_000])) > len(text[:20_000]) else 4


def _units(text: str) -> NDArray[np.uint16]:
    return np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16)


def _encode(text: str, length: int) -> NDArray[np.uint64]:
    units = _units(text).astype(np.uint64)
    n = max(0, len(units) - length + 1)
    codes = np.zeros(n, np.uint64)
    for place in range(length):
        codes = (codes << np.uint64(16)) | units[place : place + n]
    return codes


def _decode(code: int, length: int) -> str:
    units = [(code >> (16 * place)) & 0xFFFF for place in range(length - 1, -1, -1)]
    return np.array(units, np.uint16).tobytes().decode("utf-16-le", "surrogatepass")
