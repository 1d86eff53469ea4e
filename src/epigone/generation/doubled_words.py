"""Keeps a generated text from words that stand twice in a row ("the the"), unless the author doubles that word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from epigone.generation.guard import WORD, Guard, read_letters

DOUBLED = re.compile(r"(?<![^\W\d_])([^\W\d_]+) (?=\1(?![^\W\d_]))", re.IGNORECASE)
END = re.compile(r"(?:(?<![^\W\d_])([^\W\d_]+) )?([^\W\d_]*)\Z")
"""The last word of a text and, behind a single space, the one that is not finished."""
FEWEST = 1_000
"""Words of a text; a shorter one does not say which words its author doubles ("had had", "nous nous")."""


class Doubling(NamedTuple):
    """How an author doubles words."""

    is_known: bool = False
    """Whether there is enough text to say so."""
    words: frozenset[str] = frozenset()
    """Those that are doubled, case-folded."""


def find_doubling(texts: Sequence[str]) -> Doubling:
    """Which words these texts double."""
    n_words = sum(len(WORD.findall(text)) for text in texts)
    return Doubling(n_words >= FEWEST, _list_doubled(texts))


def _list_doubled(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(word.casefold() for text in texts for word in DOUBLED.findall(text))


class DoubledWordGuard(Guard):
    """For one text, which tokens would write its last word again. Words are only compared across a single space."""

    def __init__(self, doubling: Doubling, token_bytes: Sequence[bytes], prompt: str = "") -> None:
        """`token_bytes`: the bytes of each token, as from `list_token_bytes`. What the prompt doubles is allowed."""
        self._allowed = doubling.words | _list_doubled([prompt])
        self._pieces = read_letters(token_bytes)
        end = END.search(prompt)
        self._before, self._word = ((end[1] or "").casefold(), end[2].casefold()) if end else ("", "")
        """The word before the unfinished one, if only a space is between them; and the unfinished one."""

    def forbids(self, token: int) -> bool:
        """Whether this token would make the last word stand there twice."""
        piece = self._pieces[token]
        if piece is None or not piece[1]:
            return False
        begins, letters = piece
        before, word = (self._word, letters) if begins else (self._before, self._word + letters)
        return word == before and word not in self._allowed

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        piece = self._pieces[token]
        if piece is None:
            self._before = self._word = ""
        elif piece[0]:
            self._before, self._word = self._word, piece[1]
        else:
            self._word += piece[1]
