"""Removes Project Gutenberg's headers, licences and volunteers' notes from a text; each cut is counted and quoted.

Only whole lines that stand alone are taken for its marks, so a novel that mentions Project Gutenberg in a sentence is
left whole. If several of its files were joined, what lies between the books is removed too, and no more: behind a
licence a text may go on that has neither header nor licence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEADER_CHARACTERS = 60_000
"""The longest header that is looked for; the longest one seen has 20,000."""
NEAR_CHARACTERS = 100_000
"""A text that comes in pieces is not divided this close after Project Gutenberg's name."""
LICENCE_GAP = 3_000
"""Characters: a licence names Project Gutenberg again and again, in the current one at most 2,281 apart."""
SHORTEST_BOOK = 2_000
"""Characters: less than this behind a licence belongs to it."""

NAME = re.compile("P(?:roject Gutenberg|ROJECT GUTENBERG)")
ANY_NAME = re.compile(r"project\s+gutenberg", re.I)
WORK = r"(?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)\b"
TO_STARS = r"[^*\n]*(?:\n[^*\n]+){0,2}\*\*\*[ \t]*$"
"""The rest of a mark: a long title takes up to three lines, to the closing stars and no further."""

HEADER_END = re.compile(
    rf"(?:(?<=\n\n)|\A)\*\*\* ?START OF {WORK}{TO_STARS}"
    r"|^\*{1,3}END ?\*? ?THE SMALL PRINT!?[^\n]*$",  # 1991 to 2003
    re.M | re.I,
)
STARS = re.compile(rf"^\*\*\* ?END OF {WORK}{TO_STARS}", re.M | re.I)
LAST_WORDS = re.compile(
    # "End of Project Gutenberg's Emma, by Jane Austen", on one or two lines; the stars may follow.
    r"(?<=\n\n)End (?:of )?(?:the |this )?Project Gutenberg[^\n]*(?:\n[^\n*]+)?$",
    re.M | re.I,
)
LICENCE = re.compile(f"{STARS.pattern}|{LAST_WORDS.pattern}", re.M | re.I)
CREDITS = re.compile(
    r"[ \t]*\[?(?:(?:this )?(?:e-?text|e-?book) (?:was )?(?:first )?(?:produced|prepared|transcribed|scanned|created)\b"
    r"|(?:produced|prepared|transcribed|scanned|digiti[sz]ed) (?:by|from)\b"
    r"|transcriber['’]?s?['’]? notes?\b"
    r"|html version\b"
    r"|note: (?:project gutenberg|images of the original)\b"
    r"|images of the original\b)",
    re.I,
)
LONGEST_CREDIT = 1_500
"""Characters in a paragraph that can be a credit: a longer one is prose."""

FIELD = re.compile(r"^(Title|Author):[ \t]*+(\S[^\n]*(?:\n[ \t]+\S[^\n]*){0,5})", re.M)
"""A line of a header, which may go on in lines that are indented."""
LONGEST_FIELD = 200
"""Characters."""

BLANK_LINE = re.compile(r"\n[ \t\f]*\n")
BLANK_LINES = re.compile(r"(?:[ \t\f]*\n)*")
PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*\n?(?:[^\n]*\S[^\n]*\n?)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A part of a file that was removed."""

    what: str
    reason: str
    """The line that identified it."""
    n_characters: int
    n_bytes: int
    """In the source encoding, without the newline bytes that were removed before."""
    first_line: str


class GutenbergCleaner:
    """Cleans one text, which may come in pieces. What it has seen so far is in its attributes."""

    def __init__(self) -> None:
        self.cuts: tuple[Cut, ...] = ()
        """All cuts so far, in reading order."""
        self.title = self.author = ""
        """What the header says of the first book."""
        self.at_beginning = True
        self.in_book = False
        """After a header."""
        self._licence = ""
        """The line that began a licence, which reaches to the end of the piece, and may go on in the next one."""
        self._ends_within = False
        """Whether that piece ends within a paragraph."""

    def clean(self, text: str, count_bytes: Callable[[int, int], int] | None = None) -> str:
        """What is left of the next piece. `count_bytes(start, end)` gives the size of whole lines `text[start:end]` in
        the source file; default: in UTF-8."""
        count_bytes = count_bytes or (lambda start, end: len(text[start:end].encode()))
        kept, cuts, position = [], [], 0
        for start, end, what, reason in self._find_boilerplate(text):
            kept.append(text[position:start])
            cuts.append(
                Cut(
                    what=what,
                    reason=reason.split("\n")[0].strip(),
                    n_characters=end - start,
                    n_bytes=count_bytes(start, end),
                    first_line=text[start:end].lstrip().split("\n", 1)[0].strip(),
                )
            )
            position = end
        self.cuts = (*self.cuts, *cuts)
        return "".join((*kept, text[position:])) if cuts else text

    def _find_boilerplate(self, text: str) -> Iterator[tuple[int, int, str, str]]:
        """Start, end, name and identifying line of each part to cut; the parts do not overlap."""
        at_beginning, self.at_beginning = self.at_beginning, False
        line, self._licence = self._licence, ""
        position, header = 0, None
        if line and (found := self._find_rest(text)):
            position, header = found
            self._licence = line if position == len(text) else ""
            yield 0, position, _name_licence(header), line
        if not _has_name(text):
            return
        header = _find_header(text, 0) if at_beginning else header
        self.in_book |= bool(header)
        if header and at_beginning:
            position = _skip_blank_lines(text, header.end())
            said = {name: " ".join(words.split())[:LONGEST_FIELD] for name, words in FIELD.findall(text, 0, position)}
            self.title, self.author = said.get("Title", ""), said.get("Author", "")
            yield 0, position, "Project Gutenberg's header", header[0]
        while True:
            for start, end, line in _find_credits(text, position) if header else ():
                yield start, end, "a note by Project Gutenberg's volunteers", line
                position = end
            licence = _find_licence(text, position, in_book=self.in_book)
            if not licence:
                return
            start = _skip_blank_lines_back(text, licence.start(), position)
            header = _find_header(text, licence.end())
            self.in_book = bool(header)
            position = _skip_blank_lines(text, header.end()) if header else _find_licence_end(text, licence.end())
            if position == len(text):
                self._licence, self._ends_within = licence[0], not text.endswith("\n\n")
            yield start, position, _name_licence(header), licence[0]

    def _find_rest(self, text: str) -> tuple[int, re.Match[str] | None] | None:
        """Where a licence ends that began in the piece before, and the header that follows it; None if it had ended."""
        if header := _find_header(text, 0):
            return _skip_blank_lines(text, header.end()), header
        if ANY_NAME.search(text, 0, LICENCE_GAP):
            return _find_licence_end(text, 0), None
        if self._ends_within and (blank := BLANK_LINE.search(text, 0, LICENCE_GAP)):
            return blank.end(), None
        return (len(text), None) if self._ends_within and len(text) < LICENCE_GAP else None


def _name_licence(header: re.Match[str] | None) -> str:
    return "Project Gutenberg's licence" + (" and the next book's header" if header else "")


def strip_boilerplate(text: str) -> tuple[str, tuple[Cut, ...]]:
    """What is left of a whole text, and what was cut from it, in reading order."""
    cleaner = GutenbergCleaner()
    return cleaner.clean(text), cleaner.cuts


def ends_near_name(text: str) -> bool:
    """Whether a header or licence may continue after the end of this piece."""
    return _has_name(text, max(0, len(text) - NEAR_CHARACTERS))


def _has_name(text: str, start: int = 0) -> bool:
    """Whether the name is there. Nearly all texts have no part of it, which is said in a tenth of the time."""
    if text.find("utenberg", start) < 0 and text.find("UTENBERG", start) < 0:
        return False
    return bool(NAME.search(text, start))


# -- finding the marks


def _find_header(text: str, position: int) -> re.Match[str] | None:
    """The last line of the header that begins at `position`, if there is one."""
    end = min(position + HEADER_CHARACTERS, len(text))
    if stars := STARS.search(text, position, end):
        end = stars.start()
    last = None
    for mark in HEADER_END.finditer(text, position, end):
        if NAME.search(text, position, mark.start()) or not text[position : mark.start()].strip():
            last = mark
    return last


def _find_licence(text: str, position: int, *, in_book: bool) -> re.Match[str] | None:
    """The line that begins the licence: its stars, or the "End of Project Gutenberg's …" before them.

    Without a header (`in_book` is false) this counts only if nothing but the licence follows, or nothing at all.
    """
    for name in NAME.finditer(text, position):  # searching for the name first is far faster
        mark = LICENCE.match(text, max(position, text.rfind("\n", 0, name.start()) + 1))
        if not mark:
            continue
        is_last = not text[mark.end() : mark.end() + HEADER_CHARACTERS].strip()
        if NAME.search(text, mark.end(), mark.end() + 2_000) or (is_last and (in_book or mark[0][0] == "*")):
            return mark
    return None


def _find_licence_end(text: str, position: int) -> int:
    """The end of the licence that begins at `position`: of the paragraph that names Project Gutenberg last, or of the
    text, if no book follows."""
    last = position
    while name := ANY_NAME.search(text, last, last + LICENCE_GAP):
        last = name.end()
    blank = BLANK_LINE.search(text, last, last + LICENCE_GAP)
    end = _skip_blank_lines(text, blank.end() if blank else text.find("\n", last) + 1)
    return end if 0 < end <= len(text) - SHORTEST_BOOK else len(text)


def _find_credits(text: str, position: int) -> Iterator[tuple[int, int, str]]:
    """Start, end and first line of each paragraph from `position` on in which volunteers describe their work."""
    while CREDITS.match(text, position) and (paragraph := PARAGRAPH.match(text, position)):
        end = paragraph.end()
        if paragraph[0].lstrip().startswith("["):  # a note in brackets can be several paragraphs long
            closing = re.compile(r"\][ \t]*(?:\n|\Z)").search(text, position, position + LONGEST_CREDIT)
            end = closing.end() if closing else len(text)
        if end - position > LONGEST_CREDIT:
            return
        end = _skip_blank_lines(text, end)
        yield position, end, paragraph[0]
        position = end


def _skip_blank_lines(text: str, position: int) -> int:
    """The beginning of the first line from `position` (a line's end or beginning) on that is not blank."""
    return BLANK_LINES.match(text, position).end()  # type: ignore[union-attr]  # it also matches the empty string


def _skip_blank_lines_back(text: str, position: int, first: int) -> int:
    """The beginning of the blank lines before `position`, but not before `first`."""
    while position > first and text[position - 1].isspace():
        position -= 1
    return text.index("\n", position) + 1 if position > first else first
