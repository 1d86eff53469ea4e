"""A normalised text in, a number for each of its windows out: equal windows have equal ones, others hardly ever."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from epigone.text.folding import list_codes

Hashes = npt.NDArray[np.uint64]
BASE = 0x9E3779B97F4A7C15
"""Of the polynomials. 2^64 over the golden ratio spreads neighbours (Knuth 1973); it is odd, so it has an inverse."""
MODULUS = 1 << 64
FULL = MODULUS - 1
WINDOWS_AT_ONCE = 1 << 14
"""What is computed of so many stays in the processor's cache: six times as fast as a million at once."""


def hash_windows(text: str, size: int) -> Hashes:
    """The hash of every window of `size` characters: uint64 [len(text) - size + 1].

    A window's hash is the sum of its codes times falling powers of BASE, the last times BASE itself (Karp and Rabin
    1987). With sums of codes times powers of the inverse, it is a difference times a power.
    """
    codes = list_codes(text)
    hashes = np.empty(max(0, len(codes) - size + 1), np.uint64)
    n_at_once = min(WINDOWS_AT_ONCE, len(hashes))
    falling = _list_powers(pow(BASE, -1, MODULUS), n_at_once + size - 1)
    rising = _list_powers(BASE, n_at_once + size)[size:]
    sums = np.zeros(n_at_once + size, np.uint64)
    for first in range(0, len(hashes), WINDOWS_AT_ONCE):
        block = codes[first : first + n_at_once + size - 1]
        np.cumsum(block * falling[: len(block)], out=sums[1 : len(block) + 1])
        differences = sums[size : len(block) + 1] - sums[: len(block) + 1 - size]
        hashes[first : first + n_at_once] = differences * rising[: len(differences)]
    return hashes


def mark(hashes: Hashes, n_bits: int) -> npt.NDArray[np.bool_]:
    """For each value of the first bits, whether a hash has it."""
    marks = np.zeros(1 << n_bits, np.bool_)
    marks[hashes >> np.uint64(64 - n_bits)] = True
    return marks


@lru_cache(maxsize=16)
def _list_powers(base: int, count: int) -> Hashes:
    """Powers 0 to count - 1, modulo 2^64."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)
