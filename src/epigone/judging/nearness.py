"""Other authors' counts and an author's own in; how far a text of some size is from him, in each kind of feature, out.

Cosine Delta (Evert and others 2017) between relative frequencies, in two steps beyond z-scores. Frequencies enter as
square roots, which makes the noise of rare words and of common ones alike. And a feature counts for less where the
other authors' own books differ among themselves: not only one by one, as a standard deviation has it, but in all
the directions in which they do (within-class whitening, with shrinkage). Everything is compared at one size: a small
sample is far from everything, its own author included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epigone.judging.authors import Authors
from epigone.judging.frequencies import Counts

Vectors = NDArray[np.float64]
SHRINKAGE = 0.3
"""Of 0.1, 0.3 and 0.5 the best or as good as it for words and for n-grams."""
LEAST_SPREAD = 0.25
"""Half of the noise that a root of a frequency has by chance, for a text of one word: no feature is steadier."""


class Space:
    """A space of vectors, one for each text, in which the directions of the angle between two say who wrote them."""

    def __init__(self, authors: Authors, columns: slice, size: float, source: np.random.Generator) -> None:
        """`columns`: the features that count; `size`: characters of the texts that will be compared."""
        self.columns, self.total = columns, -2 if columns.start in (None, 0) else -1
        rooted = self._root(thin(authors.counts, size, source))
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


def measure(vectors: Vectors, author: Vectors) -> Vectors:
    """Cosine distance of each unit vector from one, or from each of several, of an author: 0 near, 1 neither, 2 far."""
    return np.asarray(1 - vectors @ author.T)


def thin(counts: Counts, size: float, source: np.random.Generator) -> Counts:
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
