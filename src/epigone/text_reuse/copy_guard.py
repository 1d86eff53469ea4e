"""Keeps generated text from copying: an exact index of all passages of the training text, and a guard for one text.

Hashes find candidates and the text itself decides, so a collision costs time and never changes a result.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from epigone.corpus.large_text import Text
from epigone.text_reuse.hashing import (
    BASE,
    FULL,
    MODULUS,
    SEPARATOR,
    Hashes,
    hash_windows,
    mark_prefixes,
    normalise,
    normalise_blocks,
)

MOST_CACHED = 1 << 16
"""Byte strings whose text is cached; GPT-2 has fewer tokens."""


class CopyIndex:
    """All passages of n_characters + 1 normalised characters that are in one of the documents.

    Takes 8 bytes a character, 1 to 2 more for a bitmap, and the normalised text.
    """

    def __init__(self, documents: Sequence[Text], n_characters: int) -> None:
        """Raises ValueError if `n_characters` is negative."""
        if n_characters < 0:
            raise ValueError(f"A passage cannot have {n_characters} characters.")
        self.size = n_characters + 1
        texts = [documents] if isinstance(documents, str) else documents
        self._text = SEPARATOR.join("".join(normalise_blocks(document)) for document in texts)
        self._prefix_mask, self._keys = self._sort_keys()
        self._shift, self._bitmap = self._make_bitmap()

    def _sort_keys(self) -> tuple[int, Hashes]:
        """A mask, and a sorted key for each window: the bits of its hash under the mask, then its place."""
        n_places = 1 << len(self._text).bit_length()
        mask = FULL - (n_places - 1)
        keys = hash_windows(self._text, self.size)
        keys &= np.uint64(mask)
        keys |= np.arange(len(keys), dtype=np.uint64)
        keys.sort()
        return mask, keys

    def _make_bitmap(self) -> tuple[int, bytes]:
        """A bit for each value of the first bits of a hash; about 1 in 10 is set."""
        n_bits = len(self._text).bit_length() + 3
        marks = mark_prefixes(self._keys, n_bits)
        return 64 - n_bits, np.packbits(marks, bitorder="little").tobytes()

    def contains(self, window: str) -> bool:
        """Whether a window of `size` normalised characters is in a document. Raises ValueError for another size."""
        if len(window) != self.size:
            raise ValueError(f"The index has windows of {self.size} characters; this one has {len(window)}.")
        return SEPARATOR not in window and self.has_window(int(hash_windows(window, self.size)[0]), window, 0)

    def has_window(self, hashed: int, text: str, start: int) -> bool:
        """Whether the window at `start` of a normalised text, with this hash, is in the index."""
        if not self._bitmap[hashed >> self._shift + 3] >> (hashed >> self._shift & 7) & 1:
            return False
        prefix, window = hashed & self._prefix_mask, text[start : start + self.size]
        for key in self._keys[self._keys.searchsorted(np.uint64(prefix)) :]:
            place = int(key) - prefix
            if place > FULL - self._prefix_mask:
                return False
            if self._text.startswith(window, place):
                return True
        return False


class GuardState(NamedTuple):
    """The state of a text that is being generated."""

    tail: str = ""
    """Its last normalised characters, one fewer than a window has."""
    hashed: int = 0
    """The hash polynomial of the tail."""
    after_space: bool = False
    pending: bytes = b""
    """The bytes of a character that is not yet complete."""


class CopyGuard:
    """For one text, which tokens would complete a passage of more than n_characters from the documents.

    Only generated tokens count as the text, so a prompt may be copied. Bytes are decoded as by `StopDetector`.
    """

    def __init__(self, index: CopyIndex, token_bytes: Sequence[bytes]) -> None:
        """`token_bytes`: the bytes of each token, as from `list_token_bytes`."""
        self.index, self.token_bytes = index, token_bytes
        self._leaving_power = pow(BASE, index.size, MODULUS)
        self._state = GuardState()

    def forbids(self, token: int) -> bool:
        """Whether this token would complete a copied passage that is too long."""
        return self._try_token(token)[1]

    def select(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of these tokens that complete no such passage."""
        return tokens[[not self.forbids(token) for token in tokens.tolist()]]

    def refuse(self, token: int) -> None:
        """Nothing is learned from a token that was drawn and forbidden."""

    def may_end(self) -> bool:
        """The text may end anywhere."""
        return True

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        self._state = self._try_token(token)[0]

    def _try_token(self, token: int) -> tuple[GuardState, bool]:
        """The state after this token, and whether it completes a copy."""
        state = self._state
        new, pending = _decode_normalised(state.pending + self.token_bytes[token])
        if state.after_space and new.startswith(" "):
            new = new[1:]
        text = state.tail + new
        hashed, is_copy = self._roll(text, len(state.tail))
        after_space = new.endswith(" ") if new else state.after_space
        return GuardState(text[max(0, len(text) - self.index.size + 1) :], hashed, after_space, pending), is_copy

    def _roll(self, text: str, n_old: int) -> tuple[int, bool]:
        """The hash polynomial of the text's tail, and whether a window that ends after `n_old` is in the index."""
        hashed, is_copy, has_window = self._state.hashed, False, self.index.has_window
        for first, character in enumerate(text[n_old:], n_old + 1 - self.index.size):
            hashed = (hashed + ord(character)) * BASE & FULL
            if first >= 0:
                is_copy = is_copy or has_window(hashed, text, first)
                hashed = hashed - ord(text[first]) * self._leaving_power & FULL
        return hashed, is_copy


@lru_cache(maxsize=MOST_CACHED)
def _decode_normalised(data: bytes) -> tuple[str, bytes]:
    """The normalised text of bytes, and the bytes of an incomplete character at their end."""
    text, n_read = codecs.utf_8_decode(data, "replace", False)
    return normalise(text), data[n_read:]
