"""What was learned from in, and a token that is to come next; whether it would complete a copied passage out."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from epigone.corpus.large_text import Text
from epigone.text_reuse.hashing import BASE, FULL, MODULUS, Hashes, hash_windows, mark, normalise, normalise_blocks

SEPARATOR = "\n"
"""Stands between documents: no normalised text holds it, so no passage is found across two of them."""


class CopyIndex:
    """All passages of n_characters + 1 normalised characters that stand in one of the documents.

    It keeps 8 bytes a character, 1 to 2 for a sieve, and the normalised text. What a hash finds is compared with the
    text itself, so a collision costs time and changes nothing.
    """

    def __init__(self, documents: Sequence[Text], n_characters: int) -> None:
        """Raises ValueError where `n_characters` is negative."""
        if n_characters < 0:
            raise ValueError(f"A passage of {n_characters} characters is none.")
        self.size = n_characters + 1
        written = [documents] if isinstance(documents, str) else documents
        self._text = SEPARATOR.join("".join(normalise_blocks(document)) for document in written)
        self._lead, self._keys = self._sort_keys()
        self._shift, self._sieve = self._make_sieve()

    def _sort_keys(self) -> tuple[int, Hashes]:
        """A mask, and a key for each window: its hash's leading bits under the mask, then its place, in order."""
        n_places = 1 << len(self._text).bit_length()
        lead = FULL - (n_places - 1)
        keys = hash_windows(self._text, self.size)
        keys &= np.uint64(lead)
        keys |= np.arange(len(keys), dtype=np.uint64)
        keys.sort()
        return lead, keys

    def _make_sieve(self) -> tuple[int, bytes]:
        """A bit for each value that the leading bits of a hash can have; about 1 in 10 is set."""
        n_bits = len(self._text).bit_length() + 3
        marks = mark(self._keys, n_bits)
        return 64 - n_bits, np.packbits(marks, bitorder="little").tobytes()

    def contains(self, window: str) -> bool:
        """Whether a window of `size` normalised characters stands in a document. Raises ValueError if it is not one."""
        if len(window) != self.size:
            raise ValueError(f"The index knows windows of {self.size} characters; this one has {len(window)}.")
        return SEPARATOR not in window and self.holds(int(hash_windows(window, self.size)[0]), window, 0)

    def holds(self, hashed: int, text: str, start: int) -> bool:
        """Whether the window that begins at `start` of a normalised text, and whose hash is given, is among them."""
        if not self._sieve[hashed >> self._shift + 3] >> (hashed >> self._shift & 7) & 1:
            return False
        lead, window = hashed & self._lead, text[start : start + self.size]
        for key in self._keys[self._keys.searchsorted(np.uint64(lead)) :]:
            place = int(key) - lead
            if place > FULL - self._lead:
                return False
            if self._text.startswith(window, place):
                return True
        return False


_N_SPELLED = 1 << 16
"""More than GPT-2 has tokens."""


class GuardState(NamedTuple):
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

    Only what was taken counts as the text, so a prompt may be copied. Bytes are decoded as by `StopDetector`.
    """

    def __init__(self, index: CopyIndex, token_bytes: Sequence[bytes]) -> None:
        """`token_bytes` are the bytes of each token, as from `list_token_bytes`."""
        self.index, self.token_bytes = index, token_bytes
        self._leaving = pow(BASE, index.size, MODULUS)
        self._said = GuardState()

    def forbids(self, token: int) -> bool:
        """Whether the text would be copied too far with this token next."""
        return self._read(token)[1]

    def take(self, token: int) -> None:
        """Go on with this token, forbidden or not."""
        self._said = self._read(token)[0]

    def _read(self, token: int) -> tuple[GuardState, bool]:
        """What was said with this token, and whether it completes a copy."""
        said = self._said
        new, pending = _spell(said.pending + self.token_bytes[token])
        if said.after_space and new.startswith(" "):
            new = new[1:]
        text = said.tail + new
        hashed, copied = self._roll(text, len(said.tail))
        after_space = new.endswith(" ") if new else said.after_space
        return GuardState(text[max(0, len(text) - self.index.size + 1) :], hashed, after_space, pending), copied

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
