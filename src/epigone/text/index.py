"""Documents in; whether a passage of a certain length stands in one of them out, in about a microsecond each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epigone.text.folding import normalise_blocks
from epigone.text.hashes import FULL, Hashes, hash_windows, mark
from epigone.text.storing import Text

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
