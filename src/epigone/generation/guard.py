"""What a guard is: it follows one text as it is generated, and may forbid a token that was drawn for it."""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


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
