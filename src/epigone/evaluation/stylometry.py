"""Other authors' counts and an author's own in; how far a text of some size is from him, in each kind of feature, out.

Cosine Delta (Evert and others 2017) between relative frequencies, in two steps beyond z-scores. Frequencies enter as
square roots, which makes the noise of rare words and of common ones alike. And a feature counts for less where the
other authors' own books differ among themselves: not only one by one, as a standard deviation has it, but in all
the directions in which they do (within-class whitening, with shrinkage). Everything is compared at one size: a small
sample is far from everything, its own author included.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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

PLAIN_FORMS = str.maketrans("\u2019\u2018\u201c\u201d\u2014\u2013", "''\"\"--", "_")
"""How an edition prints quotation marks, dashes and italics is not the author's doing."""


def normalise_for_counting(text: str) -> str:
    """The text in lower case, with plain quotation marks and dashes, 0 for every digit, one space for white space."""
    text = re.sub(r"-+", "-", text.translate(PLAIN_FORMS).casefold())
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
        words = STYLOMETRY_WORD.findall(text)
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
        found = Counter(STYLOMETRY_WORD.findall(text))
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
    return 2 if 2 * len(UNSPACED_CHARACTER.findall(text[:20_000])) > len(text[:20_000]) else 4


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


BUNDLE = "authors.safetensors"
WINDOW = 50_000
"""Characters that are counted together: the size at which the ruler has been shown to be right."""
WINDOWS = 8
"""Of each author, from as many of his books as there are."""
N_WORDS = 800
N_GRAMS = 1_000
COMMONEST = 100
STEPS = 8.0
"""A count is kept as its root in eighths, in a byte: small ones are exact, and large ones nearer than chance."""
LEAST_SHARED = 0.35
"""Of a text's words, as many as this are among the hundred commonest of others in its language: half is usual."""


@dataclass(frozen=True, slots=True)
class AuthorCounts:
    """Several authors, and how often each feature stands in windows of their texts."""

    names: tuple[str, ...]
    features: Features
    counts: Counts
    """[window, feature + 2], as Features.count gives them."""
    owners: tuple[int, ...]
    """Of each window, the place of its author in `names`."""

    def without(self, names: Sequence[str]) -> AuthorCounts:
        """The same without some."""
        kept = [name for name in self.names if name not in names]
        rows = [row for row, owner in enumerate(self.owners) if self.names[owner] in kept]
        owners = tuple(kept.index(self.names[self.owners[row]]) for row in rows)
        return AuthorCounts(tuple(kept), self.features, self.counts[rows], owners)

    def serves(self, text: str) -> bool:
        """Whether a normalised text is in the language of these authors, by its commonest words."""
        words = STYLOMETRY_WORD.findall(text[:200_000])
        common = set(self.features.words[:COMMONEST])
        return sum(word in common for word in words) >= LEAST_SHARED * len(words) > 0


def read_authors(texts: Mapping[str, Sequence[str]]) -> AuthorCounts:
    """Choose what to count in the texts, given by their author's name, and count it. Texts may be short."""
    windows = {name: pick_windows(several) for name, several in texts.items()}
    features = choose_features(("\n".join(several) for several in windows.values()), N_WORDS, N_GRAMS)
    counts = features.count(window for several in windows.values() for window in several)
    owners = tuple(place for place, several in enumerate(windows.values()) for _ in several)
    return AuthorCounts(tuple(windows), features, counts, owners)


def pick_windows(texts: Sequence[str]) -> list[str]:
    """Up to eight windows of normalised text: of each text in turn, from its middle outwards."""
    cut = [cut_evenly(normalised, WINDOW) for text in texts if (normalised := normalise_for_counting(text))]
    for windows in cut:
        middle = len(windows) // 2
        windows[:] = [window[: WINDOW + WINDOW // 10] for window in windows[middle:] + windows[:middle]]
    cut.sort(key=lambda windows: len(windows[0]) < WINDOW)
    rounds = range(max((len(windows) for windows in cut), default=0))
    return [windows[turn] for turn in rounds for windows in cut if turn < len(windows)][:WINDOWS]


@cache
def load_authors() -> AuthorCounts:
    """The authors that come with the package: English books of about sixty, as counts. See docs/dev/attribution.md."""
    with safe_open(str(files("epigone.evaluation") / BUNDLE), framework="numpy") as file:
        named = json.loads(file.metadata()["names"])
        roots, totals = file.get_tensor("roots").astype(np.float64), file.get_tensor("totals").astype(np.float64)
        owners = tuple(file.get_tensor("owners").tolist())
    features = Features(tuple(named["words"]), tuple(named["grams"]))
    counts = np.hstack([np.round((roots / STEPS) ** 2), totals])
    return AuthorCounts(tuple(named["authors"]), features, counts, owners)


def write_authors(authors: AuthorCounts, path: Path) -> None:
    """Write the file that `load_authors` reads. Equal authors make equal bytes."""
    names = {"authors": authors.names, "words": authors.features.words, "grams": authors.features.grams}
    roots = np.round(np.sqrt(authors.counts[:, :-2]) * STEPS).astype(np.uint8)
    totals = authors.counts[:, -2:].astype(np.uint32)
    tables: dict[str, np.ndarray[Any, Any]] = {"roots": roots, "totals": totals}
    tables["owners"] = np.array(authors.owners, np.uint8)
    data = save(tables, {"names": json.dumps(names)})
    write_whole(path, lambda beside: beside.write_bytes(data))


Vectors = NDArray[np.float64]
SHRINKAGE = 0.3
"""Of 0.1, 0.3 and 0.5 the best or as good as it for words and for n-grams."""
LEAST_SPREAD = 0.25
"""Half of the noise that a root of a frequency has by chance, for a text of one word: no feature is steadier."""


class DeltaSpace:
    """A space of vectors, one for each text, in which the directions of the angle between two say who wrote them."""

    def __init__(self, authors: AuthorCounts, columns: slice, size: float, source: np.random.Generator) -> None:
        """`columns`: the features that count; `size`: characters of the texts that will be compared."""
        self.columns, self.total = columns, -2 if columns.start in (None, 0) else -1
        rooted = self._root(subsample_counts(authors.counts, size, source))
        owners = np.array(authors.owners)
        centres = np.array([rooted[owners == owner].mean(0) for owner in range(len(authors.names))])
        self.middle = centres.mean(0)
        least = LEAST_SPREAD / np.sqrt(np.median(authors.counts[:, self.total]))
        self._whiten(_differ_within(rooted, owners, centres), float(least))
        self.windows, self.owners = self.place(rooted), owners
        self.centres = self.place(centres)

    def _root(self, counts: Counts) -> Vectors:
        return np.sqrt(counts[:, self.columns] / counts[:, [self.total]])

    def _whiten(self, within: Vectors, least: float) -> None:
        self.spread = np.maximum(np.sqrt((within**2).mean(0)), least)
        scaled = within / self.spread / np.sqrt(len(within))
        values, vectors = np.linalg.eigh(scaled @ scaled.T)
        kept = values > 1e-9
        self.axes = (vectors[:, kept].T @ scaled) / np.sqrt(values[kept])[:, None]
        self.gain = np.sqrt(SHRINKAGE / ((1 - SHRINKAGE) * values[kept] + SHRINKAGE)) - 1

    def place(self, rooted: Vectors) -> Vectors:
        """Roots of frequencies [text, feature] as unit vectors."""
        scaled = (rooted - self.middle) / self.spread
        white = scaled + ((scaled @ self.axes.T) * self.gain) @ self.axes
        return np.asarray(white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-12))

    def place_texts(self, counts: Counts) -> Vectors:
        """One unit vector for each row of counts."""
        return self.place(self._root(counts))

    def place_author(self, counts: Counts) -> Vectors:
        """One unit vector [1, feature] for the author of all rows of counts, each of the size that is compared."""
        return self.place(self._root(counts).mean(0, keepdims=True))


def measure_distance(vectors: Vectors, author: Vectors) -> Vectors:
    """Cosine distance of each unit vector from one, or from each of several, of an author: 0 near, 1 neither, 2 far."""
    return np.asarray(1 - vectors @ author.T)


def subsample_counts(counts: Counts, size: float, source: np.random.Generator) -> Counts:
    """The counts of texts as if each had had no more than `size` characters."""
    shares = np.minimum(1.0, size / counts[:, -1:])
    thinned = source.binomial(counts.astype(np.int64), shares).astype(np.float64)
    thinned[:, -2:] = np.maximum(1.0, counts[:, -2:] * shares)
    return thinned


def _differ_within(rooted: Vectors, owners: NDArray[np.int_], centres: Vectors) -> Vectors:
    """How each window differs from the middle of its author's, for those with several; else from the middle of all."""
    n_windows = np.bincount(owners, minlength=len(centres))[owners]
    several = n_windows > 1
    if not several.any():
        return np.asarray(rooted - rooted.mean(0))
    swollen = np.sqrt(n_windows / np.maximum(1, n_windows - 1))[:, None]
    return np.asarray(((rooted - centres[owners]) * swollen)[several])
