"""Normalising text for comparison, and rolling hashes of all its windows (Karp and Rabin 1987).

Two passages are the same if they differ only in case and white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from epigone.corpus.large_text import Text

Hashes = npt.NDArray[np.uint64]
BASE = 0x9E3779B97F4A7C15
"""Base of the polynomials: 2^64 over the golden ratio spreads neighbours (Knuth 1973); it is odd, so invertible."""
MODULUS = 1 << 64
FULL = MODULUS - 1
WINDOWS_AT_ONCE = 1 << 14
"""So many stay in the processor's cache: six times as fast as a million at once."""
BLOCK_CHARACTERS = 1 << 17
LAST_SPACE = 0x3000
"""No white space has a greater code point."""
_UNEVEN = re.compile(r"[^\S ]\s*| \s+")
_PLAIN_SPACES = [chr(code) for code in range(128) if chr(code).isspace() and chr(code) != " "]
SEPARATOR = "\n"
"""Put between documents: no normalised text contains it, so no passage extends across two of them."""


# -- normalising


def normalise(text: str) -> str:
    """The text as it is compared: case-folded, and every run of white space one space.

    More text at the end does not change what was normalised before it.
    """
    text = text.casefold()
    if not text.isascii():
        return _UNEVEN.sub(" ", text)
    for space in _PLAIN_SPACES:  # takes two thirds of the time
        text = text.replace(space, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def locate_characters(text: str) -> npt.NDArray[np.int64]:
    """For each character of `normalise(text)`, the place in the text of the character that it came from.

    A space came from the first character of its run.
    """
    folded = text.casefold()
    origins = np.arange(len(text))
    if len(folded) != len(text):
        n_folded = {character: len(character.casefold()) for character in set(text)}
        lengths = np.fromiter(map(n_folded.__getitem__, text), np.int64, len(text))
        origins = np.repeat(origins, lengths)
    spaces = _is_space_table()[np.minimum(code_points(folded), LAST_SPACE + 1)]
    kept = np.ones(len(origins), np.bool_)
    kept[1:] = ~(spaces[1:] & spaces[:-1])
    return origins[kept]


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code point of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def normalise_blocks(document: Text) -> Iterator[str]:
    """The document normalised, in blocks of BLOCK_CHARACTERS characters before normalising."""
    after_space = False
    for origin in range(0, len(document), BLOCK_CHARACTERS):
        block = normalise(document[origin : origin + BLOCK_CHARACTERS])
        if after_space and block.startswith(" "):
            block = block[1:]
        after_space = block.endswith(" ") if block else after_space
        yield block


def locate_in_block(document: Text, origin: int, place: int) -> int:
    """The place of a character in the document, from its place in the normalised block that begins at `origin`."""
    origins = locate_characters(document[origin : origin + BLOCK_CHARACTERS])
    within = document[max(0, origin - 1) : origin + 1]
    is_cut = len(within) == 2 and within.isspace()  # the space belongs to the previous block
    return origin + int(origins[place + is_cut])


@lru_cache(maxsize=1)
def _is_space_table() -> npt.NDArray[np.bool_]:
    """For each code point up to one past LAST_SPACE, whether it is white space."""
    return np.array([chr(code).isspace() for code in range(LAST_SPACE + 2)])


# -- hashing


def hash_windows(text: str, size: int) -> Hashes:
    """The hash of every window of `size` characters: uint64 [len(text) - size + 1].

    A hash is the sum of the window's code points times falling powers of BASE, the last times BASE itself. From
    cumulative sums of code points times powers of the inverse, it is a difference times a power.
    """
    codes = code_points(text)
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


def mark_prefixes(hashes: Hashes, n_bits: int) -> npt.NDArray[np.bool_]:
    """For each value of the first `n_bits` bits, whether a hash begins with it."""
    marks = np.zeros(1 << n_bits, np.bool_)
    marks[hashes >> np.uint64(64 - n_bits)] = True
    return marks


@lru_cache(maxsize=16)
def _list_powers(base: int, count: int) -> Hashes:
    """The powers 0 to count - 1, modulo 2^64."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)
