"""Stylometry: word and character n-gram frequencies, reference authors, and Cosine Delta between texts and authors.

Cosine Delta (Evert et al. 2017) between relative frequencies, improved in two ways. Frequencies enter as square roots,
which makes the noise of rare and of common words equal. And instead of z-scores, features are whitened by how much the
reference authors' own books differ among themselves (within-class covariance with shrinkage), which also accounts for
features that vary together. Texts are only compared at one size: a small sample is far from everything, even its own
author.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from epigone.corpus.words import STYLOMETRY_WORD, UNSPACED_CHARACTER
from epigone.files import write_whole

Counts = NDArray[np.float64]
Vectors = NDArray[np.float64]
BUNDLE = "authors.safetensors"
WINDOW = 50_000
"""Characters that are counted together: at this size attribution has been shown to be right."""
WINDOWS = 8
"""Windows of each author, from as many books as there are."""
N_WORDS, N_GRAMS = 800, 1_000
COMMONEST = 100
LEAST_SHARED = 0.35
"""A text in the reference authors' language has this share of its words among their hundred commonest; half is
usual."""
ROOT_STEPS = 8.0
"""A count is stored as its root in eighths, in a byte: small ones exactly, large ones more finely than their noise."""
SHRINKAGE = 0.3
"""Of 0.1, 0.3 and 0.5 the best, or as good as the best, for words and for n-grams."""
LEAST_SPREAD = 0.25
"""Half the sampling noise of the root of a frequency, for a text of one word: no feature counts as steadier."""

PLAIN_FORMS = str.maketrans("\u2019\u2018\u201c\u201d\u2014\u2013", "''\"\"--", "_")
"""How an edition prints quotation marks, dashes and italics is not the author's style."""


def normalise_for_counting(text: str) -> str:
    """The text in lower case, with plain quotation marks and dashes, 0 for every digit, one space for white space."""
    text = re.sub(r"-+", "-", text.translate(PLAIN_FORMS).casefold())
    return " ".join(re.sub(r"\d", "0", text).split())


def cut_evenly(text: str, n_characters: int) -> list[str]:
    """The text in equal pieces of at least `n_characters`, or whole if it is shorter than two of them."""
    n_pieces = max(1, len(text) // n_characters)
    edges = [len(text) * edge // n_pieces for edge in range(n_pieces + 1)]
    return [text[start:end] for start, end in pairwise(edges)]


# -- features


@dataclass(frozen=True, slots=True)
class Features:
    """What is counted in a normalised text: some words, and some n-grams of UTF-16 units."""

    words: tuple[str, ...]
    grams: tuple[str, ...]
    """All of one length."""

    @property
    def n_words(self) -> int:
        """The words are the first columns of a table of counts; the n-grams follow."""
        return len(self.words)

    def count(self, texts: Iterable[str]) -> Counts:
        """Counts in each normalised text; the last two columns are all its words and n-grams: [text, feature + 2]."""
        places = {word: place for place, word in enumerate(self.words)}
        codes, order = _sort_codes(self.grams)
        return np.array([self._count_one(text, places, codes, order) for text in texts], np.float64)

    def _count_one(
        self, text: str, places: dict[str, int], codes: NDArray[np.uint64], order: NDArray[np.intp]
    ) -> Counts:
        counts = np.zeros(len(self.words) + len(self.grams) + 2)
        words = STYLOMETRY_WORD.findall(text)
        for word, n in Counter(words).items():
            if word in places:
                counts[places[word]] = n
        found = _encode_grams(text, len(_utf16_units(self.grams[0])))
        at = np.minimum(np.searchsorted(codes, found), len(codes) - 1)
        hits = np.bincount(at[codes[at] == found], minlength=len(codes))
        counts[self.n_words + order] = hits
        counts[-2:] = max(1, len(words)), max(1, len(found))
        return counts


def choose_features(texts: Iterable[str], n_words: int, n_grams: int) -> Features:
    """The most frequent words and n-grams of normalised texts, in which every text has equal weight."""
    words: Counter[str] = Counter()
    grams: dict[int, float] = {}
    length = 0
    for text in texts:
        length = length or choose_gram_length(text)
        found = Counter(STYLOMETRY_WORD.findall(text))
        for word, n in found.items():
            words[word] += n / found.total()  # type: ignore[assignment]  # shares add up as counts do
        codes, numbers = np.unique(_encode_grams(text, length), return_counts=True)
        often = np.argsort(-numbers, kind="stable")[: 4 * n_grams]
        for code, n in zip(codes[often].tolist(), numbers[often].tolist(), strict=True):
            grams[code] = grams.get(code, 0.0) + n / len(text)
    best = sorted(grams, key=lambda code: (-grams[code], code))[:n_grams]
    ranked = sorted(words, key=lambda word: (-words[word], word))[:n_words]
    return Features(tuple(ranked), tuple(_decode_gram(code, length) for code in best))


def choose_gram_length(text: str) -> int:
    """Four characters, or two in a script whose characters are words."""
    return 2 if 2 * len(UNSPACED_CHARACTER.findall(text[:20_000])) > len(text[:20_000]) else 4


@lru_cache(maxsize=8)
def _sort_codes(grams: tuple[str, ...]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """The n-grams as numbers, sorted, and their order. It takes longer than to count them in a short text."""
    codes = np.array([_encode_grams(gram, len(_utf16_units(gram)))[0] for gram in grams], np.uint64)
    order = np.argsort(codes)
    return codes[order], order


def _utf16_units(text: str) -> NDArray[np.uint16]:
    return np.frombuffer(text.encode("utf-16-le", "surrogatepass"), np.uint16)


def _encode_grams(text: str, length: int) -> NDArray[np.uint64]:
    """Every n-gram of a text as a number."""
    units = _utf16_units(text).astype(np.uint64)
    n = max(0, len(units) - length + 1)
    codes = np.zeros(n, np.uint64)
    for place in range(length):
        codes = (codes << np.uint64(16)) | units[place : place + n]
    return codes


def _decode_gram(code: int, length: int) -> str:
    units = [(code >> (16 * place)) & 0xFFFF for place in range(length - 1, -1, -1)]
    return np.array(units, np.uint16).tobytes().decode("utf-16-le", "surrogatepass")


# -- reference authors


@dataclass(frozen=True, slots=True)
class AuthorCounts:
    """Several authors, and the counts of each feature in windows of their texts."""

    names: tuple[str, ...]
    features: Features
    counts: Counts
    """[window, feature + 2], as from `Features.count`."""
    owners: tuple[int, ...]
    """For each window, the place of its author in `names`."""

    def without(self, names: Sequence[str]) -> AuthorCounts:
        """The same without some of the authors."""
        kept = [name for name in self.names if name not in names]
        rows = [row for row, owner in enumerate(self.owners) if self.names[owner] in kept]
        owners = tuple(kept.index(self.names[self.owners[row]]) for row in rows)
        return AuthorCounts(tuple(kept), self.features, self.counts[rows], owners)

    def shares_language(self, text: str) -> bool:
        """Whether a normalised text is in the language of these authors, judging by its commonest words."""
        words = STYLOMETRY_WORD.findall(text[:200_000])
        common = set(self.features.words[:COMMONEST])
        return sum(word in common for word in words) >= LEAST_SHARED * len(words) > 0


def count_authors(texts: Mapping[str, Sequence[str]]) -> AuthorCounts:
    """Choose features in the texts, given by their author's name, and count them. Texts may be short."""
    windows = {name: choose_windows(several) for name, several in texts.items()}
    features = choose_features(("\n".join(several) for several in windows.values()), N_WORDS, N_GRAMS)
    counts = features.count(window for several in windows.values() for window in several)
    owners = tuple(place for place, several in enumerate(windows.values()) for _ in several)
    return AuthorCounts(tuple(windows), features, counts, owners)


def choose_windows(texts: Sequence[str]) -> list[str]:
    """Up to eight windows of normalised text: of each text in turn, from its middle on."""
    by_text = [cut_evenly(normalised, WINDOW) for text in texts if (normalised := normalise_for_counting(text))]
    for windows in by_text:
        middle = len(windows) // 2
        windows[:] = [window[: WINDOW + WINDOW // 10] for window in windows[middle:] + windows[:middle]]
    by_text.sort(key=lambda windows: len(windows[0]) < WINDOW)
    rounds = range(max((len(windows) for windows in by_text), default=0))
    return [windows[turn] for turn in rounds for windows in by_text if turn < len(windows)][:WINDOWS]


@cache
def load_authors() -> AuthorCounts:
    """The bundled authors: about sixty who write English, as counts. See docs/dev/attribution.md."""
    with safe_open(str(files("epigone.evaluation") / BUNDLE), framework="numpy") as file:
        named = json.loads(file.metadata()["names"])
        roots, totals = file.get_tensor("roots").astype(np.float64), file.get_tensor("totals").astype(np.float64)
        owners = tuple(file.get_tensor("owners").tolist())
    features = Features(tuple(named["words"]), tuple(named["grams"]))
    counts = np.hstack([np.round((roots / ROOT_STEPS) ** 2), totals])
    return AuthorCounts(tuple(named["authors"]), features, counts, owners)


def write_authors(authors: AuthorCounts, path: Path) -> None:
    """Write the file that `load_authors` reads. Equal authors make equal bytes."""
    names = {"authors": authors.names, "words": authors.features.words, "grams": authors.features.grams}
    roots = np.round(np.sqrt(authors.counts[:, :-2]) * ROOT_STEPS).astype(np.uint8)
    totals = authors.counts[:, -2:].astype(np.uint32)
    tables: dict[str, np.ndarray[Any, Any]] = {"roots": roots, "totals": totals}
    tables["owners"] = np.array(authors.owners, np.uint8)
    data = save(tables, {"names": json.dumps(names)})
    write_whole(path, lambda beside: beside.write_bytes(data))


# -- Delta


class DeltaSpace:
    """A space in which each text is a unit vector, and a small angle between two says that one author wrote both."""

    def __init__(self, authors: AuthorCounts, columns: slice, size: float, rng: np.random.Generator) -> None:
        """`columns`: the features that count; `size`: characters of the texts that will be compared."""
        self.columns, self.total = columns, -2 if columns.start in (None, 0) else -1
        rooted = self._root(subsample_counts(authors.counts, size, rng))
        owners = np.array(authors.owners)
        centres = np.array([rooted[owners == owner].mean(0) for owner in range(len(authors.names))])
        self.middle = centres.mean(0)
        least = LEAST_SPREAD / np.sqrt(np.median(authors.counts[:, self.total]))
        self._whiten(_within_authors(rooted, owners, centres), float(least))
        self.windows, self.owners = self._project(rooted), owners
        self.centres = self._project(centres)

    def _root(self, counts: Counts) -> Vectors:
        return np.sqrt(counts[:, self.columns] / counts[:, [self.total]])

    def _whiten(self, within: Vectors, least: float) -> None:
        self.spread = np.maximum(np.sqrt((within**2).mean(0)), least)
        scaled = within / self.spread / np.sqrt(len(within))
        values, vectors = np.linalg.eigh(scaled @ scaled.T)
        kept = values > 1e-9
        self.axes = (vectors[:, kept].T @ scaled) / np.sqrt(values[kept])[:, None]
        self.gain = np.sqrt(SHRINKAGE / ((1 - SHRINKAGE) * values[kept] + SHRINKAGE)) - 1

    def _project(self, rooted: Vectors) -> Vectors:
        """Roots of frequencies [text, feature] as unit vectors."""
        scaled = (rooted - self.middle) / self.spread
        white = scaled + ((scaled @ self.axes.T) * self.gain) @ self.axes
        return np.asarray(white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-12))

    def embed_texts(self, counts: Counts) -> Vectors:
        """One unit vector for each row of counts."""
        return self._project(self._root(counts))

    def embed_author(self, counts: Counts) -> Vectors:
        """One unit vector [1, feature] for the author of all rows of counts, each of the size that is compared."""
        return self._project(self._root(counts).mean(0, keepdims=True))


def cosine_distance(vectors: Vectors, author: Vectors) -> Vectors:
    """Cosine distance of each unit vector from one of an author, or from each of several: 0 near, 1 neutral, 2 far."""
    return np.asarray(1 - vectors @ author.T)


def subsample_counts(counts: Counts, size: float, rng: np.random.Generator) -> Counts:
    """The counts of texts as if none had more than `size` characters."""
    shares = np.minimum(1.0, size / counts[:, -1:])
    fewer = rng.binomial(counts.astype(np.int64), shares).astype(np.float64)
    fewer[:, -2:] = np.maximum(1.0, counts[:, -2:] * shares)
    return fewer


def _within_authors(rooted: Vectors, owners: NDArray[np.int_], centres: Vectors) -> Vectors:
    """How each window differs from its author's mean, for authors with several; if there are none, from the mean."""
    n_windows = np.bincount(owners, minlength=len(centres))[owners]
    several = n_windows > 1
    if not several.any():
        return np.asarray(rooted - rooted.mean(0))
    unbiased = np.sqrt(n_windows / np.maximum(1, n_windows - 1))[:, None]
    return np.asarray(((rooted - centres[owners]) * unbiased)[several])
