"""Keeps the quotation marks, brackets and _marks of italics_ of a generated text in pairs, as far as the author does.

A small model forgets within a paragraph whether someone is speaking. So a mark that closes is not written where none is
open, nor one that opens within its own kind; and where a paragraph would end with one open, it is closed first. Which
marks that holds for, and whether they have to be closed in the same line or in the same paragraph, the training text
says: it has to hold there for nine paragraphs in ten. Kinds of quotation marks that the author never uses are not
written either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from epigone.generation.guard import Guard, decode

PAIRS = (('"', '"'), ("“", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("»", "«"), ("(", ")"), ("[", "]"), ("_", "_"))
"""The mark that opens and the one that closes. Single quotation marks are left out: most of them are apostrophes."""
QUOTATION_MARKS = frozenset('"“”„«»')
PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n")
OPENS_AFTER = re.compile(r"[\s(\[{<]")
"""What a mark that both opens and closes stands behind when it opens."""
EITHER_AFTER = re.compile(r"['’‘*_—–…/=|\\-]")
"""Behind these a straight quotation mark may open or close."""
ITALIC = "_"
ITALIC_EITHER_AFTER = re.compile(r"""["“”„«»'’‘*—–…/=|\\-]""")
"""Behind these italics may begin or end: a word of a quotation is in italics as often as the whole of it."""
FEWEST = 10
"""Paragraphs with such a mark; fewer say little."""
LEAST_PAIRED = 0.9
"""Of these the share in which the marks are in pairs."""
AS_OFTEN = 0.02
"""So much smaller may the share be for lines than for paragraphs where a line counts as a paragraph."""


class Pairing(NamedTuple):
    """A kind of mark that stands in pairs."""

    opening: str
    closing: str
    within: Literal["line", "paragraph"]
    """What does not end before the second of a pair."""


class MarkUse(NamedTuple):
    """How an author uses quotation marks and brackets."""

    pairings: tuple[Pairing, ...] = ()
    never: frozenset[str] = frozenset()
    """Quotation marks that are not used, where others are."""


def find_mark_use(texts: Sequence[str]) -> MarkUse:
    """How these texts use the marks."""
    n_used = {mark: sum(text.count(mark) for text in texts) for mark in QUOTATION_MARKS}
    never = frozenset(mark for mark, n in n_used.items() if n == 0) if sum(n_used.values()) >= FEWEST else frozenset()
    return MarkUse(find_pairings(texts), never)


def find_pairings(texts: Sequence[str]) -> tuple[Pairing, ...]:
    """The marks that these texts have in pairs."""
    lines = [line for text in texts for line in text.split("\n")]
    paragraphs = [paragraph for text in texts for paragraph in PARAGRAPH_END.split(text)]
    found = []
    for opening, closing in PAIRS:
        by_line, by_paragraph = (_measure_paired(units, opening, closing) for units in (lines, paragraphs))
        if by_line >= max(LEAST_PAIRED, by_paragraph - AS_OFTEN):
            found.append(Pairing(opening, closing, "line"))
        elif by_paragraph >= LEAST_PAIRED:
            found.append(Pairing(opening, closing, "paragraph"))
    return tuple(found)


def _measure_paired(units: Sequence[str], opening: str, closing: str) -> float:
    """The share of the lines or paragraphs with such a mark in which all of them are in pairs; 0 if there are few."""
    with_marks = [unit for unit in units if opening in unit or closing in unit]
    if len(with_marks) < FEWEST:
        return 0.0
    return sum(is_paired(unit, opening, closing) for unit in with_marks) / len(with_marks)


def is_paired(text: str, opening: str, closing: str) -> bool:
    """Whether all these marks of a line or paragraph are in pairs, none within another of its kind."""
    is_open = False
    for found in re.finditer(f"[{re.escape(opening + closing)}]", text):
        is_right, is_open = _place(opening, closing, found[0], text[found.start() - 1 : found.start()], is_open)
        if not is_right:
            return False
    return not is_open


def _place(opening: str, closing: str, mark: str, last: str, is_open: bool) -> tuple[bool, bool]:
    """Whether a mark may stand behind this character, "" at the beginning, and whether the pair is open then."""
    either_after = ITALIC_EITHER_AFTER if mark == ITALIC else EITHER_AFTER
    if mark == last == ITALIC:
        return False, is_open  # italics of nothing
    if opening != closing:
        opens = mark == opening
    elif either_after.match(last):
        opens = not is_open
    else:
        opens = not last or OPENS_AFTER.match(last) is not None
    return opens != is_open, opens


class MarkGuard(Guard):
    """For one text, which tokens would leave its marks without their other half."""

    def __init__(self, use: MarkUse, token_bytes: Sequence[bytes], prompt: str = "") -> None:
        """`token_bytes`: the bytes of each token, as from `list_token_bytes`. Marks of the prompt may be used."""
        self._pairings, self._token_bytes, self._pending = use.pairings, token_bytes, b""
        self._never = use.never - set(prompt)
        self._marks = frozenset(mark for pairing in use.pairings for mark in pairing[:2])
        self._special = re.compile(f"[\n{re.escape(''.join(sorted(self._marks | self._never)))}]")
        self._is_plain = _find_plain(self._special.pattern.encode(), tuple(token_bytes))
        self._open, self._last = self._read((False,) * len(use.pairings), "\n", prompt)[:2]
        """Of each pair whether it is open; and the last character, behind a line break where a line is blank."""
        self._must_close = -1
        """The pair that has to be closed with the next token, since the paragraph would have ended with it."""

    def forbids(self, token: int) -> bool:
        """Whether this token would leave a mark alone, or, where a paragraph has to be closed, does not do so."""
        if self._must_close < 0 and self._is_plain[token] and not self._pending:
            return False
        text, pending = decode(self._pending + self._token_bytes[token])
        fault = self._read(self._open, self._last, text)[2]
        if self._must_close >= 0:
            closing = self._pairings[self._must_close].closing
            text = text.lstrip("\ufffd")  # half a character was written before
            begins = closing.encode().startswith(pending) if pending and not text else text.startswith(closing)
            return fault is not None or not begins
        return fault is not None

    def refuse(self, token: int) -> None:
        """Note that this token was drawn and forbidden: the paragraph was to end, so what is open is closed now."""
        if self._must_close < 0:
            text, _ = decode(self._pending + self._token_bytes[token])
            fault = self._read(self._open, self._last, text)[2]
            if fault is not None and fault >= 0 and self._can_close(self._pairings[fault]):
                self._must_close = fault

    def _can_close(self, pairing: Pairing) -> bool:
        """Whether the mark may stand behind what has been written: not behind a letter, which may be half a word."""
        last, closing = self._last[-1], pairing.closing
        return not (last.isspace() or last.isalnum()) and _place(pairing.opening, closing, closing, last, True)[0]

    def may_end(self) -> bool:
        """Whether the text may end here: no pair is open."""
        return not any(self._open)

    def advance(self, token: int) -> None:
        """Append this token to the text, forbidden or not."""
        piece = self._token_bytes[token]
        if self._is_plain[token] and not self._pending and not piece.isspace():
            self._last, self._must_close = chr(piece[-1]), -1
            return
        text, self._pending = decode(self._pending + piece)
        self._open, self._last, _ = self._read(self._open, self._last, text)
        if not self._pending:
            self._must_close = -1

    def _read(self, is_open: tuple[bool, ...], last: str, text: str) -> tuple[tuple[bool, ...], str, int | None]:
        """The pairs that are open after more text, its end, and the first fault: a pair that is left open, or -1."""
        fault = None
        if not self._special.search(text):
            is_blank = last[0] == "\n" and text.isspace()
            return is_open, f"\n{text[-1]}" if is_blank else text[-1:] or last, None
        for character in text:
            if character == "\n":
                ends = ("line", "paragraph") if last[0] == "\n" and not last[1:].strip() else ("line",)
                left = [n for n, pairing in enumerate(self._pairings) if is_open[n] and pairing.within in ends]
                fault = left[0] if left and fault is None else fault
                is_open = tuple(is_one and n not in left for n, is_one in enumerate(is_open))
            elif character in self._marks:
                is_open, is_right = self._place(is_open, character, last[-1])
                fault = -1 if not is_right and fault is None else fault
            if character in self._never:
                fault = -1
            is_indented = last[0] == "\n" and character.isspace() and character != "\n"
            last = "\n" + character if is_indented else character
        return is_open, last, fault

    def _place(self, is_open: tuple[bool, ...], mark: str, last: str) -> tuple[tuple[bool, ...], bool]:
        """The pairs that are open after a mark, and whether it may stand here."""
        after, all_right = list(is_open), True
        for number, pairing in enumerate(self._pairings):
            if mark in pairing[:2]:
                is_right, after[number] = _place(*pairing[:2], mark, last, is_open[number])
                all_right = all_right and is_right
        return tuple(after), all_right


@lru_cache(maxsize=8)
def _find_plain(special: bytes, token_bytes: tuple[bytes, ...]) -> list[bool]:
    """Of each token whether it has nothing to do with marks and lines, `special` as a pattern; most have not."""
    pattern = re.compile(special)
    return [piece.isascii() and piece != b"" and not pattern.search(piece) for piece in token_bytes]
