"""A text in; out goes the text as it is compared with others, and for each character of that where it came from.

Two passages are the same if they differ in nothing but case and white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from epigone.text.storing import Text

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
    spaces = _list_spaces()[np.minimum(list_codes(folded), LAST_SPACE + 1)]
    kept = np.ones(len(origins), np.bool_)
    kept[1:] = ~(spaces[1:] & spaces[:-1])
    return origins[kept]


def list_codes(text: str) -> npt.NDArray[np.uint32]:
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
