"""Keeps a generated text from numbers that stand alone on a line: those of pages, scenes and poems.

Editors numbered them in order. A model has no order to go by, so its numbers stand anywhere and say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from epigone.generation.guard import Guard, decode

ARABIC, ROMAN = r"[0-9]{1,4}", r"(?=[IVXLC])C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
LONE = re.compile(rf"^[ \t]*(?:({ARABIC})|{ROMAN})\.?[ \t]*$", re.M)
LONG_ROMAN = re.compile(rf"\s*(?=\w\w){ROMAN}\.?\s*")
BEGINS_WITH_DIGIT = re.compile(r"^[ \t]*[0-9]", re.M)
FEWEST = 5
"""Lines with nothing but a number; fewer say nothing."""
LEAST_ALONE = 0.5
"""Of the lines that begin with a digit, the share that has nothing else, from which on none may be begun."""
LONGEST = 16
"""Characters of a line with a number alone, white space included."""


class Numbering(NamedTuple):
    """Which kinds of numbers stand alone on lines of a text."""

    arabic: bool
    roman: bool


def find_numbering(texts: Iterable[str]) -> Numbering:
    """The kinds that are common in these texts."""
    n_arabic = n_roman = n_digits = 0
    for text in texts:
        found = LONE.findall(text)
        n_arabic += sum(map(bool, found))
        n_roman += sum(not arabic for arabic in found)
        n_digits += len(BEGINS_WITH_DIGIT.findall(text))
    return Numbering(n_arabic >= max(FEWEST, LEAST_ALONE * n_digits), n_roman >= FEWEST)


class LoneNumberGuard(Guard):
    """For one text, which tokens would put a number alone on a line, or begin to."""

    def __init__(self, numbering: Numbering, token_bytes: Sequence[bytes], prompt: str = "") -> None:
        """`token_bytes`: the bytes of each token, as from `list_token_bytes`. The prompt may end in a number."""
        self._numbering, self._token_bytes, self._pending = numbering, token_bytes, b""
        self._line: str | None = None if prompt.rpartition("\n")[2].strip() else ""
        """The unfinished line; None where it cannot be a number any more."""

    def forbids(self, token: int) -> bool:
        """Whether this token would make such a line, or the beginning of one."""
        text, _ = decode(self._pending + self._token_bytes[token])
        if self._line is None and "\n" not in text:
            return False
        first, *more = ((self._line or "") + text).split("\n")
        lines = [*([] if self._line is None else [first]), *more]
        return any(map(self._is_number, lines[:-1])) or (bool(lines) and self._begins_number(lines[-1]))

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        text, self._pending = decode(self._pending + self._token_bytes[token])
        _, newline, after = text.rpartition("\n")
        line = after if newline else None if self._line is None else self._line + after
        self._line = None if line is None or len(line) > LONGEST else line

    def _is_number(self, line: str) -> bool:
        found = LONE.fullmatch(line)
        return found is not None and (self._numbering.arabic if found[1] else self._numbering.roman)

    def _begins_number(self, line: str) -> bool:
        if self._numbering.arabic and BEGINS_WITH_DIGIT.match(line):
            return True
        return self._numbering.roman and LONG_ROMAN.fullmatch(line) is not None
