"""A text in; out goes the text as it is compared with others, and for each character of that where it came from.

Two passages are the same if they differ in nothing but case and white space.
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


BLOCK_CHARACTERS = 1 << 17
LAST_SPACE = 0x3000
"""No white space has a greater code."""
_UNEVEN = re.compile(r"[^\S ]\s*| \s+")
_PLAIN_SPACES = [chr(code) for code in range(128) if chr(code).isspace() and chr(code) != " "]


def normalise(text: str) -> str:
    """The text as it is compared: every character case-folded, every run of white space one space.

    What is normalised stays as it is when more text follows.
    """
    text = text.casefold()
    if not text.isascii():
        return _UNEVEN.sub(" ", text)
    for space in _PLAIN_SPACES:  # in two thirds of the time
        text = text.replace(space, " ")
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def locate_characters(text: str) -> npt.NDArray[np.int64]:
    """For each character of `normalise(text)`, where in the text the one stands that it came from.

    A space came from the first character of its run.
    """
    folded = text.casefold()
    origins = np.arange(len(text))
    if len(folded) != len(text):
        n_folded = {character: len(character.casefold()) for character in set(text)}
        lengths = np.fromiter(map(n_folded.__getitem__, text), np.int64, len(text))
        origins = np.repeat(origins, lengths)
    spaces = _list_spaces()[np.minimum(code_points(folded), LAST_SPACE + 1)]
    kept = np.ones(len(origins), np.bool_)
    kept[1:] = ~(spaces[1:] & spaces[:-1])
    return origins[kept]


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code of each character."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def normalise_blocks(document: Text) -> Iterator[str]:
    """The normalised text of each block of BLOCK_CHARACTERS characters; joined, they are that of the document."""
    after_space = False
    for origin in range(0, len(document), BLOCK_CHARACTERS):
        block = normalise(document[origin : origin + BLOCK_CHARACTERS])
        if after_space and block.startswith(" "):
            block = block[1:]
        after_space = block.endswith(" ") if block else after_space
        yield block


def locate_in_block(document: Text, origin: int, place: int) -> int:
    """Where in a document a character stands, from its place in the normalised block that begins at `origin`."""
    origins = locate_characters(document[origin : origin + BLOCK_CHARACTERS])
    within = document[max(0, origin - 1) : origin + 1]
    is_cut = len(within) == 2 and within.isspace()  # its space belongs to the block before
    return origin + int(origins[place + is_cut])


@lru_cache(maxsize=1)
def _list_spaces() -> npt.NDArray[np.bool_]:
    """For each code up to one past LAST_SPACE, whether it is white space."""
    return np.array([chr(code).isspace() for code in range(LAST_SPACE + 2)])
