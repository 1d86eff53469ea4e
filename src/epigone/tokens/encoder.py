"""Encoder for long texts: each word is encoded by the tokenizer once and then found in a table, three times as fast.

Byte-level BPE encodes each piece that GPT-2's pattern finds by itself, so the ids of a text are those of its pieces, or
of some pieces together. Python's own re finds these in half the time, but may know another version of Unicode than the
tokenizer: a character that the two see differently is noticed when the first piece with it comes, and its block goes
to the tokenizer whole.
"""

from __future__ import annotations

import re
from array import array
from functools import cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from epigone.tokens.shards import DTYPES
from epigone.tokens.tokenizer import BPETokenizer, encode_each

PATTERN = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
"""GPT-2's (Radford et al. 2019), but letters and numbers stay together: re has no class for either."""
MOST_PIECES, LONGEST_PIECE = 500_000, 48
"""In the table, which then takes about 75 MB."""
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


class _Unlike(Exception):
    """A piece has a character that the tokenizer may see differently, or half a character."""


class TextEncoder:
    """Encodes blocks of text to the bytes of their ids, on one core."""

    def __init__(self, tokenizer: BPETokenizer) -> None:
        self.tokenizer = tokenizer
        self.dtype: np.dtype[Any] = DTYPES[len(tokenizer) > 1 << 16]
        self._added = [token.content for token in tokenizer.backend.get_added_tokens_decoder().values()]
        self._table = _Table(tokenizer.backend, self.dtype)

    def encode(self, block: str) -> bytes:
        """The ids of a block that was cut by `cut_into_blocks`. Raises TextUnreadable for half a character."""
        if not any(token in block for token in self._added):
            try:
                return b"".join(map(self._table.__getitem__, PATTERN.findall(block)))
            except _Unlike:
                pass
        ((ids, _),) = encode_each([block], self.tokenizer)
        return np.array(ids, self.dtype).tobytes()


class _Table(dict[str, bytes]):
    """The ids of each piece that was met."""

    def __init__(self, backend: Tokenizer, dtype: np.dtype[Any]) -> None:
        super().__init__()
        self._backend, self._code = backend, dtype.char

    def __missing__(self, piece: str) -> bytes:
        if not all(map(_is_alike, piece)):
            raise _Unlike
        ids = array(self._code, self._backend.encode(piece, add_special_tokens=False).ids).tobytes()
        if len(self) >= MOST_PIECES:  # of other texts, perhaps in another language; the frequent ones soon come again
            self.clear()
        if len(piece) <= LONGEST_PIECE:
            self[piece] = ids
        return ids


@cache
def _is_alike(character: str) -> bool:
    """Whether the tokenizer cuts beside a character wherever we do: both take it for the same kind."""
    if "\ud800" <= character <= "\udfff":
        return False
    probe = f"a{character}1{character}.{character} {character}b\n"
    theirs = {start for _, (start, _) in BYTE_LEVEL.pre_tokenize_str(probe)}
    return all(found.start() in theirs for found in PATTERN.finditer(probe))
