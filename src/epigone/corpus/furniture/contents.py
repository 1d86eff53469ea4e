"""Tables of contents and lists of pictures: entries with page numbers, or that stand again as headings in the text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from epigone.corpus.furniture.spans import Lines, Span

EDGES = ' \t_*=#~"“”.:;—–-'
CONTENTS = re.compile(
    r"(?:the table of |table of )?contents"
    r"(?: of (?:the )?(?:first|second|third|fourth|vol(?:ume|\.)?|part)[ \w.]{0,12})?"
    r"|inhalt(?:sverzeichni(?:s|ß|ss))?|table des mati[èe]res|sommaire|[íi]ndice|содержание|оглавление",
    re.I,
)
PICTURES = re.compile(r"(?:(?:the )?list of )?(?:illustrations|plates|full[- ]page plates)", re.I)
WORDS = (
    "contents",
    "inhalt",
    "table des mati",
    "sommaire",
    "ndice",
    "содержание",
    "оглавление",
    "illustrations",
    "plates",
)
"""Each has one of them, but for letters in `FOLDED`, which equal others where capitals do not count."""
FOLDED = "ıİſ"
LETTERS = frozenset("cCtTiIíÍsSсСоОpPlLfF")
"""Their first ones."""
LONGEST_NAME = 50
PAGE = re.compile(r"(?:[ \t]*(?:\.[ .]*\.|…)[ .…]*|[ \t]{2,}|\t|[ \t]+[—–-]+[ \t]*)(?:\d{1,4}|[ivxlc]{1,8})[ \t.]*$")
NUMBER = re.compile(
    r"(?:(?:chapter|chap\.?|letter|book|part|canto|act|scene|volume|vol\.?|section|kapitel|chapitre|capítulo|глава)"
    r"[ \t]+)?"
    r"(?:the[ \t]+)?(?:[ivxlcdm]+\b|\d+\b)[.):]?[ \t—–-]*",
    re.I,
)
WEAK = re.compile(
    r"\W*+(?:(?:page|pages|chapter|chap|part|book|letter|no|to face p(?:age)?|facing page|[ivxlcdm]++|\d++)\W*+)?"
    r"(?:\d++\W*+)?",
    re.I,
)
NO_LETTERS = re.compile(r"[\W_]+")
SIGNS = {code: None for code in range(128) if not chr(code).isalnum()}
PAGE_ENDS = frozenset("0123456789ivxlc")
MARKS = re.compile(r"\[[\dA-Z*]{1,3}\]|\{\d{1,3}\}")
"""Of footnotes, in a heading."""
ILLUSTRATION = re.compile(r"\[illustration:?\s*", re.I)
RULE = re.compile(r"[\W_]*|\W*\d{1,4}\W*|\[.*\]|pg-\w+")
"""What may stand directly before a table of contents."""
LONGEST_LINE, LONGEST_HEADING = 110, 110
KEY = 10
"""Letters by which headings are looked up."""
MOST_LINES, MOST_LISTINGS, MOST_ALIKE = 1_500, 100, 500
"""Of a table, tables of a text, and headings that begin alike: where more lines do, they are no headings."""
FEWEST_ENTRIES = 3
AT_END = 0.85
"""Of the lines: a table after these has its headings before it."""
MOSTLY_PAGED = 0.6
"""Of the entries: if so many have pages, the last one has one too."""
LONGEST_TITLE = 2
"""Lines."""
MOST_MISSES = 2
"""Paragraphs without an entry between two with one."""


def find_listings(lines: Lines) -> Iterator[Span]:
    """All tables of contents and lists of pictures."""
    headings: dict[str, list[tuple[str, int]]] | None = None
    n_tried = 0
    for first in _find_candidates(lines):
        what = name_listing(lines.stripped[first])
        if not what or (first and lines.stripped[first - 1] and not RULE.fullmatch(lines.stripped[first - 1])):
            continue  # not such a heading, or the end of a paragraph
        n_tried += 1
        if n_tried > MOST_LISTINGS:
            return
        headings = _index_headings(lines) if headings is None else headings
        last = Listing(lines, headings, first).find_last()
        if last is not None:
            yield lines.span(first, last, what)


def _find_candidates(lines: Lines) -> list[int]:
    """Short lines with one of the words."""
    short = [number for number, line in enumerate(lines.stripped) if 0 < len(line) <= LONGEST_NAME]
    if any(sign in lines.text for sign in FOLDED):
        return short
    shown = "\n".join([lines.stripped[number] for number in short]).lower()
    found = set[int]()
    for word in WORDS:
        start = n_before = 0
        while (place := shown.find(word, start)) >= 0:
            n_before += shown.count("\n", start, place)
            found.add(short[n_before])
            start = place + 1
    return sorted(found)


def name_listing(line: str) -> str:
    """What begins with such a heading, in the plural; nothing if it is not one."""
    if len(line) > LONGEST_NAME or (name := line.strip(EDGES))[:1] not in LETTERS:
        return ""
    return "tables of contents" if CONTENTS.fullmatch(name) else "lists of pictures" if PICTURES.fullmatch(name) else ""


def _index_headings(lines: Lines) -> dict[str, list[tuple[str, int]]]:
    """Lines that may be headings, by the letters they begin with: short ones at the beginning of a paragraph or after
    such a one."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    before = ""
    for number, line in enumerate(lines.stripped):
        if line and len(line) <= LONGEST_HEADING and (not before or len(before) < 40):
            key = make_key(ILLUSTRATION.sub("", line))
            if key and len(alike := found[key[:KEY]]) < MOST_ALIKE:
                alike.append((key, number))
        before = line
    return found


def make_key(line: str) -> str:
    """The letters and digits of a heading, without its number and page."""
    line = line.strip()
    if line.rstrip(". \t")[-1:] in PAGE_ENDS:
        line = PAGE.sub("", line)
    if "[" in line or "{" in line:
        line = MARKS.sub("", line)
    bare = line.strip(" _*=\"“”'‘’.")
    name = bare[match.end() :] if (match := NUMBER.match(bare)) else bare
    return name.translate(SIGNS).lower() if name.isascii() else NO_LETTERS.sub("", name).casefold()


class Listing:
    """A table of contents that may begin at a line, and where it ends."""

    def __init__(self, lines: Lines, headings: dict[str, list[tuple[str, int]]], first: int) -> None:
        self.lines, self.headings, self.first = lines, headings, first
        self.limit = len(lines.all)
        """The line on which the text itself begins, as far as the entries show it."""
        self.n_entries = self.n_paged = 0

    def find_last(self) -> int | None:
        """The last line of its last entry; None where there is no such table."""
        last, n_missed, n_seen, last_paged = None, 0, 0, None
        for start, end in self.lines.list_paragraphs(self.first + 1, min(self.first + MOST_LINES, len(self.lines.all))):
            if start >= self.limit or name_listing(self.lines.stripped[start]):
                break
            n_own = sum(self._is_entry(number) for number in range(start, end + 1))
            n_lines = end - start + 1
            shown = self.lines.stripped[start : end + 1]
            if n_own and n_own >= 0.2 * n_lines and max(map(len, shown)) <= LONGEST_LINE:
                end = min(end, self.limit - 1)
                last, n_missed = end, 0
                n_paged = sum(map(self._has_page, range(start, end + 1)))
                last_paged = end if n_paged else last_paged
                self.n_entries, self.n_paged = self.n_entries + n_own, self.n_paged + n_paged
                n_seen += n_lines
            elif all(WEAK.fullmatch(line) for line in shown):
                continue
            else:
                n_missed += 1
                if n_missed > MOST_MISSES or sum(map(len, shown)) > 300:
                    break
        if last is None or self.n_entries < max(FEWEST_ENTRIES, 0.3 * n_seen):
            return None
        if self.n_paged >= MOSTLY_PAGED * self.n_entries:
            return last_paged
        return self._leave_title(last)

    def _leave_title(self, last: int) -> int:
        """The last line without the text's title, which stands on the title page, and may follow, before the text."""
        place, n_shown = last, 0
        while place > self.first and (not self.lines.stripped[place] or self._is_title(place)):
            n_shown += bool(self.lines.stripped[place])
            place -= 1
        return place if n_shown <= LONGEST_TITLE else last

    def _is_title(self, number: int) -> bool:
        key = make_key(self.lines.stripped[number])
        titles = self.headings.get(key[:KEY], ())
        return any(place < self.first and key == other for other, place in titles) or not key

    def _has_page(self, number: int) -> bool:
        return bool(PAGE.search(self.lines.all[number])) and len(make_key(self.lines.stripped[number])) > 1

    def _is_entry(self, number: int) -> bool:
        line = self.lines.stripped[number]
        key = make_key(line)
        has_page = self._has_page(number)
        if len(key) < 3:
            return has_page
        places = [place for other, place in self.headings.get(key[:KEY], ()) if _are_alike(key, other)]
        later = [place for place in places if place > number]
        if later and len(key) >= 4:
            self.limit = min(self.limit, later[0])
        is_at_end = self.first > AT_END * len(self.lines.all)
        return has_page or bool(later) or (is_at_end and any(place < self.first for place in places))


def _are_alike(key: str, other: str) -> bool:
    """Whether one is the other, or a good part of its beginning: long headings have several lines."""
    shorter, longer = sorted((key, other), key=len)
    return shorter == longer or (len(shorter) >= 2 * KEY and longer.startswith(shorter))
