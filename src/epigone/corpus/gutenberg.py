"""A text → the text without Project Gutenberg's header and licence, and each cut, counted and quoted.

Only whole lines that stand alone count as marks, so a novel that mentions Project Gutenberg in a sentence stays whole.
Several of its files joined into one are cleaned of what lies between them, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

HEADER_CHARACTERS = 60_000
"""How far into a text (or after the end of another) the header's last line can be; the longest seen has 20,000."""
NEAR_CHARACTERS = 100_000
"""A text that comes in pieces is not parted so near behind Project Gutenberg's name."""
REST = "the rest of a licence"

NAME = re.compile("P(?:roject Gutenberg|ROJECT GUTENBERG)")
WORK = r"(?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)\b"
TO_STARS = r"[^*\n]*(?:\n[^*\n]+){0,2}\*\*\*[ \t]*$"
"""The rest of a mark: a long title goes over up to three lines, to the closing stars and no further."""

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
"""Characters in a paragraph that can be a credit: a longer one is somebody's prose."""

BLANK_LINES = re.compile(r"(?:[ \t\f]*\n)*")
PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*\n?(?:[^\n]*\S[^\n]*\n?)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A part of a file that is not learned from."""

    what: str
    reason: str
    """The line that gave it away."""
    n_characters: int
    n_bytes: int
    """In the source encoding, without newline bytes that were removed before."""
    first_line: str


@dataclass(slots=True)
class ScanState:
    """What a text that comes in pieces has been so far."""

    is_beginning: bool = True
    in_book: bool = False
    """Behind a header."""
    in_licence: bool = False
    """Behind a licence after which no book has begun."""


def strip_boilerplate(
    text: str, measure: Callable[[int, int], int] | None = None, where: ScanState | None = None
) -> tuple[str, tuple[Cut, ...]]:
    """What is left of the text, and what was cut from it, in reading order.

    `measure(start, end)` gives the bytes of whole lines `text[start:end]` in the source; default: in UTF-8. `where` is
    for a text in pieces: the first call changes it for the second.
    """
    measure = measure or (lambda start, end: len(text[start:end].encode()))
    cuts, kept, position = [], [], 0
    for start, end, what, reason in _find_boilerplate(text, where or ScanState()):
        kept.append(text[position:start])
        cuts.append(
            Cut(
                what=what,
                reason=reason.split("\n")[0].strip(),
                n_characters=end - start,
                n_bytes=measure(start, end),
                first_line=text[start:end].lstrip().split("\n", 1)[0].strip(),
            )
        )
        position = end
    return ("".join((*kept, text[position:])) if cuts else text), tuple(cuts)


def ends_near_name(text: str) -> bool:
    """Whether a header or licence may go on behind the end of this piece."""
    return bool(NAME.search(text, max(0, len(text) - NEAR_CHARACTERS)))


def join_cuts(cuts: Sequence[Cut], more: Sequence[Cut]) -> tuple[Cut, ...]:
    """The cuts of a text and of its next piece, where that goes on with the licence that the first one ended in."""
    if not more or more[0].what != REST:
        return (*cuts, *more)
    *before, last = cuts
    longer = replace(
        last, n_characters=last.n_characters + more[0].n_characters, n_bytes=last.n_bytes + more[0].n_bytes
    )
    return (*before, longer, *more[1:])


def _find_boilerplate(text: str, where: ScanState) -> Iterator[tuple[int, int, str, str]]:
    """Start, end, name and give-away line of each part to cut; the parts do not overlap."""
    if where.in_licence:
        yield 0, len(text), REST, ""
        return
    is_beginning, where.is_beginning = where.is_beginning, False
    if not NAME.search(text):
        return
    position, header = 0, _find_header(text, 0) if is_beginning else None
    where.in_book |= bool(header)
    if header:
        position = _skip_blank_lines(text, header.end())
        yield 0, position, "Project Gutenberg's header", header[0]
    while True:
        for start, end, line in _find_credits(text, position) if header else ():
            yield start, end, "a note by Project Gutenberg's volunteers", line
            position = end
        licence = _find_licence(text, position, in_book=where.in_book)
        if not licence:
            return
        start = _skip_blank_lines_back(text, licence.start(), position)
        header = _find_header(text, licence.end())
        where.in_book, where.in_licence = bool(header), not header
        position = _skip_blank_lines(text, header.end()) if header else len(text)
        what = "Project Gutenberg's licence" + (" and the next book's header" if header else "")
        yield start, position, what, licence[0]


def _find_header(text: str, position: int) -> re.Match[str] | None:
    """The last line of the header that begins at `position`, if one does."""
    end = min(position + HEADER_CHARACTERS, len(text))
    if stars := STARS.search(text, position, end):
        end = stars.start()
    last = None
    for mark in HEADER_END.finditer(text, position, end):
        if NAME.search(text, position, mark.start()) or not text[position : mark.start()].strip():
            last = mark
    return last


def _find_licence(text: str, position: int, *, in_book: bool) -> re.Match[str] | None:
    """Where the licence begins: at its stars or at the "End of Project Gutenberg's …" before them.

    Without a header (`in_book` is false) only if nothing but the licence follows, or nothing after the stars.
    """
    for name in NAME.finditer(text, position):  # a plain search for the name is far faster than one for the marks
        mark = LICENCE.match(text, max(position, text.rfind("\n", 0, name.start()) + 1))
        if not mark:
            continue
        is_last = not text[mark.end() : mark.end() + HEADER_CHARACTERS].strip()
        if NAME.search(text, mark.end(), mark.end() + 2_000) or (is_last and (in_book or mark[0][0] == "*")):
            return mark
    return None


def _find_credits(text: str, position: int) -> Iterator[tuple[int, int, str]]:
    """Start, end and first line of each paragraph from `position` on in which volunteers speak of their work."""
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
    """The beginning of the first line from `position` on (an end of line, or a beginning) that is not blank."""
    return BLANK_LINES.match(text, position).end()  # type: ignore[union-attr]  # it matches the empty string, too


def _skip_blank_lines_back(text: str, position: int, first: int) -> int:
    """The beginning of the blank lines before `position`, but none before `first`."""
    while position > first and text[position - 1].isspace():
        position -= 1
    return text.index("\n", position) + 1 if position > first else first
