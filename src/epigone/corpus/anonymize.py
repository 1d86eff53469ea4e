"""Hides who is meant: replaces the names of speakers, each by one label, phone numbers, e-mail addresses and handles.

A name in a message is one of a speaker in the texts that are read together, or a part of it, such as the first name.
Others are not found: that would need to know what is a name. In doubt more is replaced than less.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from epigone.corpus.readers.speakers import Speakers, fold

EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}+@(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,24}(?![\w@])")
HANDLE = re.compile(r"(?<![\w@./])@(?P<name>[^\W\d](?:[\w.]{0,40}\w)?)")
PHONE = re.compile(r"(?<![\w.,:/-])(?:\+|\()?\d[\d\xa0\u202f ()/.\u2010\u2011-]{5,24}\d(?![\w/]|[.,-]\d)")
DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}|\d{4}([./-])\d{1,2}\2\d{1,2}|\d{4} ?- ?\d{4}")
AMERICAN = re.compile(r"\(?[2-9]\d\d\)?[ .-]?\d{3}[ .-]\d{4}")
WORD = re.compile(r"\w+")
GOES_ON = re.compile(r"\w|['’](?!s\b)\w")
"""What shows that a word is longer, such as "Don" in "Don't"; "Don's" is the name."""
EVERYONE = frozenset(["everyone", "here", "channel", "all"])
EVERYDAY = frozenset(
    re.findall(
        r"\w+",
        """
    amber angel april art august autumn baker bell best bill black brown bush case chase church cliff cook
    dad dawn day don faith field fields fisher ginger good grace grant gray green guy hill hope hunter joy
    june king lance little long love mark may miles miss mom mum north page pearl price rice rich rose rusty
    sharp short sky small star stone strong sue summer team the west white will wise wood woods young
    """,
    )
)
"""English words that are also names: they are names only with a capital letter."""
Where = Literal["anywhere", "with a capital", "where it is addressed"]
FEWEST_LETTERS = 3
"""Of a part of a name. Initials and "de" are in too many words."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """How often something of one kind was replaced."""

    what: str
    """In the plural, such as "phone numbers"."""
    count: int


@dataclass(frozen=True, slots=True)
class _Name:
    """A name, or a part of one."""

    folded: str
    label: str
    where: Where


@cache
def read_words() -> frozenset[str]:
    """English words, small letters only: those that the bundled bases may write."""
    return frozenset((resources.files("epigone") / "bases" / "words.txt").read_text("utf-8").split())


class Anonymizer:
    """Replaces what says who is meant."""

    def __init__(self, speakers: Speakers) -> None:
        """`speakers`: all who speak in the texts, with their labels."""
        self._names: dict[str, list[_Name]] = {}
        for name, label in speakers.labels.values():
            for part in _list_parts(name):
                self._add(part, label)
        for names in self._names.values():
            names.sort(key=lambda name: -len(name.folded))

    def replace(self, text: str, counts: Counter[str] | None = None) -> str:
        """The text with labels; what was replaced is counted in `counts`, by kind."""
        counts = Counter() if counts is None else counts
        if "@" in text:
            text, n_found = EMAIL.subn("[email]", text)
            counts["e-mail addresses"] += n_found
        text = self._replace_phones(text, counts)
        if "@" in text:
            text = self._replace_handles(text, counts)
        return self._replace_names(text, counts) if self._names else text

    def replace_pieces(self, pieces: Iterable[str], counts: Counter[str]) -> Iterator[str]:
        """The same of a text in pieces, which need not end with a line."""
        held = ""
        for piece in pieces:
            held += piece
            end = held.rfind("\n") + 1
            if end:
                yield self.replace(held[:end], counts)
                held = held[end:]
        yield self.replace(held, counts)

    def _add(self, name: str, label: str) -> None:
        start = WORD.search(name)
        if start is None:
            return
        name = name[start.start() :]
        folded = name.lower()
        known = self._names.setdefault(folded[: len(start[0])], [])
        if all(other.folded != folded for other in known):  # the first one who has it
            is_word = name == folded and name.isalpha() and name in read_words()
            with_capital = folded in EVERYDAY or len(folded) < FEWEST_LETTERS
            where: Where = "where it is addressed" if is_word else "with a capital" if with_capital else "anywhere"
            known.append(_Name(folded, label, where))

    def _replace_names(self, text: str, counts: Counter[str]) -> str:
        parts: list[str] = []
        done = 0
        for word in WORD.finditer(text):
            start = word.start()
            if start < done or (known := self._names.get(word[0].lower())) is None:
                continue
            if found := _find_name(known, text, start):
                parts += [text[done:start], found.label]
                done = start + len(found.folded)
                counts["names"] += 1
        return "".join([*parts, text[done:]]) if parts else text

    def _replace_handles(self, text: str, counts: Counter[str]) -> str:
        def hide(match: re.Match[str]) -> str:
            name = match["name"]
            word = WORD.match(name)
            known = self._names.get(word[0].lower(), []) if word else []
            if name.lower() in EVERYONE or _find_name(known, text, match.start("name")):
                return match[0]  # names are replaced later
            counts["handles"] += 1
            return "[handle]"

        return HANDLE.sub(hide, text)

    def _replace_phones(self, text: str, counts: Counter[str]) -> str:
        def hide(match: re.Match[str]) -> str:
            if not is_phone_number(match[0]):
                return match[0]
            counts["phone numbers"] += 1
            return "[phone]"

        return PHONE.sub(hide, text)


def is_phone_number(text: str) -> bool:
    """Whether digits and what is between them are a phone number, and not a date, an amount or a span of years."""
    digits = re.sub(r"\D", "", text)
    if not 7 <= len(digits) <= 15 or DATE.fullmatch(text.strip()):
        return False
    if text.startswith(("+", "00")) or re.match(r"\(?0\d[\d ()/-]", text):
        return len(digits) >= 8
    return bool(AMERICAN.fullmatch(text)) or (digits == text and 10 <= len(digits) <= 13)


def _list_parts(name: str) -> Iterator[str]:
    """A name and the parts of it that others may use, such as the first name."""
    name = name.strip()
    words = name.split()
    if len(re.sub(r"\W", "", name)) > 1 and fold(name) != "person":
        yield name
    if len(words) > 1:
        for word in words:
            part = word.strip(".,()'\"’")
            has_letters = len(re.sub(r"[\W\d_]", "", part)) >= FEWEST_LETTERS
            if has_letters and part[0].upper() == part[0] and fold(part) != "person":
                yield part


def _find_name(known: Iterable[_Name], text: str, start: int) -> _Name | None:
    """The longest name that stands at a place, as whole words."""
    for name in known:
        end = start + len(name.folded)
        found = text[start:end]
        goes_on = GOES_ON.match(text, end) and WORD.match(name.folded[-1])
        if found.lower() != name.folded or goes_on:
            continue
        if name.where == "with a capital" and found[0].upper() != found[0]:
            continue
        if name.where == "where it is addressed" and not _is_addressed(text, start, end):
            continue
        return name
    return None


def _is_addressed(text: str, start: int, end: int) -> bool:
    """Whether a word is one with which someone is spoken to, as in "ann: yes" at the beginning of a line."""
    before = text[max(0, start - 2) : start]
    if before.endswith("@"):
        return True
    return text[end : end + 1] in (":", ",") and (not before or before.endswith("\n") or before == ": ")
