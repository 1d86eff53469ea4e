"""Marks and notes in brackets: footnotes and their marks, pictures, page marks, transcribers' notes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from epigone.corpus.furniture.spans import Lines, Span, counts_up, goes_on

NAMED = re.compile(
    r"\[[ \t]*(?:(?P<pictures>(?:Illustrations?|ILLUSTRATIONS?)(?=[ \t]*[\]:.\n—_*-]))"
    r"|(?P<footnotes>(?:Footnote|FOOTNOTE|Note) [\dA-Z*†]{1,4}[:.])"
    r"|(?P<note>(?i:transcriber['’]?s?['’]? notes?)\b))"
)
LONGEST = {"pictures": 1_000, "footnotes": 20_000, "note": 4_000}
"""Characters in brackets."""
MOST_OPEN = 20
"""Such brackets without an end: a text with more has others of its own."""
PAGE_MARKS = (
    re.compile(r"\[(?:Pg|PG|Page|PAGE|page|p\.|pg\.?)[ \xa0]?(\d{1,4})\]"),
    re.compile(r"\{(?:Pg|Page|page|p\.)[ \xa0]?(\d{1,4})\}"),
)
MARKS = {"[": re.compile(r"\[(\d{1,4}|[A-Z])\]"), "{": re.compile(r"\{(\d{1,4})\}")}
"""One pattern for each bracket: with a first character that is certain, they are searched for at once."""
NOTE_MARK = re.compile(r"^[ \t]*(?:\[(\d{1,4}|[A-Z])\]|\{(\d{1,4})\})[ \t:.]*(?=\S)", re.M)
ATTACHED = re.compile(r"[^\W_]|[.,;:!?'\"’”)»\]}*_—–-]")
FOLLOWING = re.compile(r"[\s.,;:!?'\"’”)»*_—–-]|$")
NOTES_HEADING = re.compile(r"\W*(?:foot|end)?notes?\b(?: (?:to|on|for) [^\n]{1,40})?\W*", re.I)
LEAST_APART = 60
"""Characters between marks, in the middle: those of program code are closer."""
SHORTEST_PAGE = 400
LEAST_WITHIN = 0.08
"""Of marks that may be of pages: so many stand within a sentence, as numbers of paragraphs do not."""
LEAST_PAIRED = 0.8
MOST_BETWEEN = 6
"""Paragraphs between the beginnings of two notes that still belong to the first."""


def find_named(text: str) -> Iterator[Span]:
    """Brackets that say what they are: [Illustration: …], [Footnote 1: …], [Transcriber's Note: …]."""
    position = n_open = 0
    while n_open <= MOST_OPEN and (mark := NAMED.search(text, position)):
        kind = mark.lastgroup or ""
        end = _find_closing(text, mark.start(), LONGEST[kind])
        n_open += end is None
        position = end or mark.end()
        if end and text[end : end + 1] != "(":  # in Markdown, a link
            yield Span(mark.start(), end, "transcribers' notes" if kind == "note" else kind)


def _find_closing(text: str, start: int, longest: int) -> int | None:
    """The end of the bracket that opens at `start`."""
    depth = 0
    for bracket in re.compile(r"[\[\]]").finditer(text, start, start + longest):
        depth += 1 if bracket[0] == "[" else -1
        if not depth:
            return bracket.end()
    return None


def find_page_marks(text: str) -> Iterator[Span]:
    """[Pg 12] and the like, where they count the pages."""
    found = (mark for pattern in PAGE_MARKS for mark in pattern.finditer(text))
    marks = sorted(found, key=lambda mark: mark.start())
    if counts_up([int(mark[1]) for mark in marks]):
        yield from (Span(mark.start(), mark.end(), "page marks") for mark in marks)


# -- numbers in brackets


@dataclass(frozen=True, slots=True)
class Mark:
    """A number or letter in brackets."""

    start: int
    end: int
    label: str
    """With its bracket, since both kinds may be in one text."""
    starts_line: bool
    is_attached: bool
    """Directly after a word or its punctuation, and before the end of a word."""

    @property
    def value(self) -> int:
        """Its number; letters count from 1."""
        label = self.label[1:]
        return int(label) if label.isdigit() else ord(label) - 64


def find_numbered(text: str) -> Iterator[Span]:
    """Marks of footnotes and their notes where most marks have a note; else marks that count up: pages or notes."""
    for bracket in "[{":
        own = list(_list_marks(text, bracket))
        if len(own) < 3:
            continue
        pairs = _pair(own)
        anchors = [mark for mark in own if mark.is_attached or mark in pairs]
        if _are_notes(anchors, pairs):
            yield from _list_notes(text, pairs)
            yield from (Span(mark.start, mark.end, "footnote marks") for mark in anchors)
        else:
            yield from _find_counted(text, own)


def _list_marks(text: str, bracket: str) -> Iterator[Mark]:
    for mark in MARKS[bracket].finditer(text):
        line_start = text.rfind("\n", 0, mark.start()) + 1
        starts_line = not text[line_start : mark.start()].strip(" \t")
        before = text[mark.start() - 1 : mark.start()]
        if (
            before == "]"
            or text[mark.end() : mark.end() + 1] == "("
            or (starts_line and text[mark.end() : mark.end() + 2] == ": ")
        ):
            continue  # in Markdown, links and their addresses
        attached = not starts_line and bool(ATTACHED.match(before)) and bool(FOLLOWING.match(text, mark.end()))
        yield Mark(mark.start(), mark.end(), bracket + mark[1], starts_line, attached)


def _pair(marks: Sequence[Mark]) -> dict[Mark, Mark]:
    """Each mark in a line with the next note of its number, which begins a line."""
    open_marks: dict[str, list[Mark]] = defaultdict(list)
    pairs: dict[Mark, Mark] = {}
    for mark in marks:
        if not mark.starts_line:
            open_marks[mark.label].append(mark)
        elif waiting := open_marks.pop(mark.label, []):
            pairs.update((one, mark) for one in waiting)
    return pairs


def _are_notes(anchors: Sequence[Mark], pairs: dict[Mark, Mark]) -> bool:
    if len(pairs) < 3 or len(pairs) < LEAST_PAIRED * len(anchors):
        return False
    return counts_up([mark.value for mark in sorted(pairs, key=lambda one: one.start)], least=3, restarts=True)


def _list_notes(text: str, pairs: dict[Mark, Mark]) -> Iterator[Span]:
    """The paragraphs of notes; what is between two notes whose marks both stand before belongs to the first one."""
    lines = Lines(text)
    first_anchors: dict[Mark, int] = {}
    for anchor, note in pairs.items():
        first_anchors[note] = min(anchor.start, first_anchors.get(note, anchor.start))
    notes = sorted(first_anchors, key=lambda note: note.start)
    for note, following in zip(notes, [*notes[1:], None], strict=True):
        first = lines.find(note.start)
        heading = lines.find_text(first - 1, -1)
        if heading is not None and NOTES_HEADING.fullmatch(lines.stripped[heading]):
            first = heading
        last = _find_end(lines, lines.find(note.start))
        if following and first_anchors[following] < note.start and last < lines.find(following.start):
            between = list(lines.list_paragraphs(last + 1, lines.find(following.start)))
            is_heading = any(NOTES_HEADING.fullmatch(lines.stripped[start]) for start, _ in between)
            if len(between) <= MOST_BETWEEN and not is_heading:
                last = lines.find(following.start) - 1
        yield lines.span(first, last, "footnotes")


def _find_end(lines: Lines, number: int) -> int:
    """The last line of the paragraph that begins here, or of the note: another one may begin without a blank line."""
    while number + 1 < len(lines.all) and lines.stripped[number + 1]:
        if NOTE_MARK.match(lines.all[number + 1]):
            break
        number += 1
    return number


def _find_counted(text: str, marks: Sequence[Mark]) -> Iterator[Span]:
    """Numbers that count up through a text and belong to nothing: of pages, or of notes that are not there."""
    numbers = [mark for mark in marks if mark.label[1:].isdigit()]
    attached = [mark for mark in numbers if mark.is_attached]
    if len(attached) >= 0.8 * len(marks) and _are_apart(attached, LEAST_APART):
        if counts_up([mark.value for mark in attached], restarts=True):
            yield from (Span(mark.start, mark.end, "footnote marks") for mark in attached)
    elif len(numbers) >= 0.9 * len(marks) and _are_apart(numbers, SHORTEST_PAGE):
        n_within = sum(
            goes_on(text[max(0, mark.start - 40) : mark.start].rstrip(), text[mark.end : mark.end + 40])
            for mark in numbers
        )
        if n_within >= max(3, LEAST_WITHIN * len(numbers)) and counts_up([mark.value for mark in numbers]):
            yield from (Span(mark.start, mark.end, "page marks") for mark in numbers)


def _are_apart(marks: Sequence[Mark], least: int) -> bool:
    return len(marks) >= 5 and median(b.start - a.end for a, b in pairwise(marks)) >= least
