"""What was learned from in, and a token that is to come next; whether it would complete a copied passage out."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from epigone.text.folding import normalise
from epigone.text.hashes import BASE, FULL, MODULUS
from epigone.text.index import CopyIndex

_N_SPELLED = 1 << 16
"""More than GPT-2 has tokens."""


class Said(NamedTuple):
    """What counts of a text that is being written."""

    tail: str = ""
    """Its last normalised characters, one fewer than a window has."""
    hashed: int = 0
    """The polynomial of the tail."""
    after_space: bool = False
    pending: bytes = b""
    """Of a character that is not yet complete."""


class CopyGuard:
    """Knows for one text which tokens would complete a passage of more than n_characters from the documents.

    Only what was taken counts as the text, so a prompt may be copied. Bytes become text as in `endings.Scribe`.
    """

    def __init__(self, index: CopyIndex, token_bytes: Sequence[bytes]) -> None:
        """`token_bytes` are the bytes of each token, as from `list_token_bytes`."""
        self.index, self.token_bytes = index, token_bytes
        self._leaving = pow(BASE, index.size, MODULUS)
        self._said = Said()

    def forbids(self, token: int) -> bool:
        """Whether the text would be copied too far with this token next."""
        return self._read(token)[1]

    def take(self, token: int) -> None:
        """Go on with this token, forbidden or not."""
        self._said = self._read(token)[0]

    def _read(self, token: int) -> tuple[Said, bool]:
        """What was said with this token, and whether it completes a copy."""
        said = self._said
        new, pending = _spell(said.pending + self.token_bytes[token])
        if said.after_space and new.startswith(" "):
            new = new[1:]
        text = said.tail + new
        hashed, copied = self._roll(text, len(said.tail))
        after_space = new.endswith(" ") if new else said.after_space
        return Said(text[max(0, len(text) - self.index.size + 1) :], hashed, after_space, pending), copied

    def _roll(self, text: str, n_old: int) -> tuple[int, bool]:
        """The polynomial of the text's tail, and whether a window stands in a document that ends after `n_old`."""
        hashed, copied, holds = self._said.hashed, False, self.index.holds
        for first, character in enumerate(text[n_old:], n_old + 1 - self.index.size):
            hashed = (hashed + ord(character)) * BASE & FULL
            if first >= 0:
                copied = copied or holds(hashed, text, first)
                hashed = hashed - ord(text[first]) * self._leaving & FULL
        return hashed, copied


@lru_cache(maxsize=_N_SPELLED)
def _spell(data: bytes) -> tuple[str, bytes]:
    """The normalised text of bytes, and what is left at their end of a character that is not complete."""
    text, n_read = codecs.utf_8_decode(data, "replace", False)
    return normalise(text), data[n_read:]
