"""What a guard is: it follows one text as it is generated, and may forbid a token that was drawn for it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
WORD = re.compile(r"[^\W\d_]+")
LETTERS = re.compile(r"( ?)([^\W\d_]*)")
"""A token of letters, behind a space where it begins a word."""


class Guard(Protocol):
    """Follows one text and may forbid a token that was drawn for it; another one is then drawn."""

    def forbids(self, token: int) -> bool:
        """Whether this token must not follow."""

    def select(self, tokens: Tokens) -> Tokens:
        """Those of these tokens that may follow."""
        return tokens[[not self.forbids(token) for token in tokens.tolist()]]

    def refuse(self, token: int) -> None:
        """Note that this token was drawn, and forbidden by one of the text's guards: most learn nothing from it."""
        return

    def may_end(self) -> bool:
        """Whether the text may end here: anywhere, unless a guard knows better."""
        return True

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""


@lru_cache(maxsize=1 << 16)
def decode(data: bytes) -> tuple[str, bytes]:
    """The text of bytes, and the bytes of an incomplete character at their end."""
    text, n_read = codecs.utf_8_decode(data, "replace", False)
    return text, data[n_read:]


def read_letters(token_bytes: Sequence[bytes]) -> list[tuple[bool, str] | None]:
    """Of each token whether it begins a word, and its letters, case-folded; None where it is anything else."""
    return _read_letters(tuple(token_bytes))


@lru_cache(maxsize=4)
def _read_letters(token_bytes: tuple[bytes, ...]) -> list[tuple[bool, str] | None]:
    found = [LETTERS.fullmatch(piece.decode("utf-8", "replace")) for piece in token_bytes]
    return [(bool(match[1]), match[2].casefold()) if match and match[0] else None for match in found]
