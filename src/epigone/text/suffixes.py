"""The codes of two texts in; for each place of the first, how far the second has the same somewhere, and where, out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int32]


def match_suffixes(codes: Integers, n_ours: int) -> tuple[Integers, Integers]:
    """For each of the first `n_ours` places: how much of what begins there begins at a later place too, and at which.

    Both are int64 [n_ours]. Later places are those from `n_ours` on, which there must be. The last code must be one
    that stands nowhere else, and so must one be before place `n_ours`. What begins at a place has its longest match
    right before or after itself in the order of all (Manber and Myers 1990).
    """
    levels = _rank_suffixes(codes)
    order = np.empty(len(codes), np.int64)
    order[levels[-1]] = np.arange(len(codes))
    numbers, theirs = np.arange(len(codes)), order >= n_ours
    before = np.maximum.accumulate(np.where(theirs, numbers, -1))
    after = np.minimum.accumulate(np.where(theirs, numbers, len(codes))[::-1])[::-1]
    ours, last = levels[-1][:n_ours], len(codes) - 1  # with the last code nothing is common
    earlier = np.where(before[ours] >= 0, order[before[ours]], last)
    later = np.where(after[ours] <= last, order[np.minimum(after[ours], last)], last)
    n_earlier, n_later = _count_common(levels, earlier), _count_common(levels, later)
    return np.maximum(n_earlier, n_later), np.where(n_earlier > n_later, earlier, later)


def _rank_suffixes(codes: Integers) -> list[Ranks]:
    """For 1, 2, 4 ... characters from each place, their number in the order of all such; until no two are the same."""
    levels = [np.unique(codes, return_inverse=True)[1].astype(np.int32)]
    while levels[-1].max() + 1 < len(codes):
        size = 1 << len(levels) - 1
        keys = levels[-1].astype(np.int64) * (len(codes) + 1)
        keys[:-size] += levels[-1][size:] + 1
        order = np.argsort(keys)
        ranks = np.empty(len(codes), np.int32)
        ranks[order] = np.concatenate([[0], np.cumsum(np.diff(keys[order]) != 0)])
        levels.append(ranks)
    return levels


def _count_common(levels: list[Ranks], others: Integers) -> Integers:
    """How many characters are the same from the first places on and from the other ones."""
    places, others, lengths = np.arange(len(others)), others.copy(), np.zeros(len(others), np.int64)
    for number in reversed(range(len(levels) - 1)):
        step = (levels[number][places] == levels[number][others]).astype(np.int64) << number
        places += step
        others += step
        lengths += step
    return lengths
