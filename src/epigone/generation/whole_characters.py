"""Keeps a generated text to whole characters: a token may be a part of one, and not every part fits to the one before.

A byte-level vocabulary has tokens for parts of UTF-8's characters. A small model now and then puts them together
wrongly, and what it writes is then no text, but marks of what cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from epigone.generation.guard import Guard, decode

WRONG = "\ufffd"


def list_beginnings(texts: Iterable[str]) -> frozenset[bytes]:
    """The bytes with which characters of these texts begin, without the last ones; empty where all are ASCII."""
    characters = (character.encode("utf-8", "replace") for text in texts for character in set(text))
    return frozenset(whole[:end] for whole in characters for end in range(1, len(whole)))


class CharacterGuard(Guard):
    """For one text, which tokens are no character with the bytes before them, or begin none of the author's."""

    def __init__(self, beginnings: frozenset[bytes] | None, token_bytes: Sequence[bytes]) -> None:
        """`beginnings` as of `list_beginnings`, None for any; `token_bytes` as of `list_token_bytes`."""
        self._beginnings, self._token_bytes, self._pending = beginnings, token_bytes, b""

    def forbids(self, token: int) -> bool:
        """Whether the bytes would be no character, or the beginning of one that the author never uses."""
        piece = self._token_bytes[token]
        if not self._pending and piece.isascii():
            return False
        text, pending = decode(self._pending + piece)
        if text.count(WRONG) > piece.count(WRONG.encode()):  # the author may have written one
            return True
        return bool(pending) and self._beginnings is not None and pending not in self._beginnings

    def may_end(self) -> bool:
        """Whether no character is unfinished."""
        return not self._pending

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        piece = self._token_bytes[token]
        if self._pending or not piece.isascii():
            self._pending = decode(self._pending + piece)[1]
