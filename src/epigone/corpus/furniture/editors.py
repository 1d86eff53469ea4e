"""What transcribers and publishers put around a text: notes on the transcription, imprints, rights."""

from __future__ import annotations

import re
from collections.abc import Iterator

from epigone.corpus.furniture.spans import Lines, Span

HEADING = re.compile(
    r"^[ \t_*=#—-]*(?:original |general )?transcriber['’]?s?['’]? (?:end)?notes?\b(?P<rest>[^\n]*)$", re.M | re.I
)
ABOUT = re.compile(
    r"\b(?:e-?text|e-?book|transcri\w+|proofread\w*|spellings?|misspell\w*|typograph\w+|typos?|punctuation|italics?|italicized"
    r"|underscores?|hyphen\w+|small[- ]cap\w*|errata|illustrations?|footnotes?|scanned|html|utf-?8|ascii|copyright"
    r"|corrected|changed to|printer['’]?s errors?|obvious errors?|diacritic\w*|silently|page numbers?|blank pages?"
    r"|table of contents|public domain|cover image|archaic|variant)\b",
    re.I,
)
PLACES = re.compile(
    r"\b(?:pages?|pg\.?|p\.|lines?|chapter|ll?\.) ?[\dIVXLC]+|\b(?:original|changed|replaced|amended|added)\b|[-=]>|→",
    re.I,
)
WORDS_EACH = 250
"""Characters in which a note on a transcription has a word that shows it."""
BEGINNING, END = 20_000, 12_000
"""Characters of a text in which notes on its transcription are looked for."""
LONGEST_NOTE = 1_500
RIGHTS = re.compile(
    r"^[\W_]*(?:(?:©|copyright\b|\(c\))[^\n]{0,80}\b(?:1[5-9]|20)\d\d\b|copyright(?:ed)?,? (?:©|by)\b"
    r"|all rights reserved\b|ISBN(?:-1[03])?:? ?[\d-]{9})",
    re.M | re.I,
)
LONGEST_RIGHTS = 500
EDGE = 0.04
"""Of the text, at its beginning and its end, in which rights are looked for."""


def find_transcribers_notes(lines: Lines) -> Iterator[Span]:
    """Notes under a heading that says so: to the end where they are at the end, else paragraphs about transcription."""
    n_all = len(lines.text)
    for heading in _find_headings(lines.text):
        first = lines.find(heading.start())
        if n_all - heading.start() <= END and heading.start() > n_all // 2 and _is_about(lines.text[heading.end() :]):
            yield lines.span(first, len(lines.all) - 1, "transcribers' notes")
            return
        if heading.start() > BEGINNING:
            continue
        last = first
        for start, end in lines.list_paragraphs(first, len(lines.all)):
            shown = " ".join(lines.stripped[start : end + 1])
            about = {word.casefold() for word in ABOUT.findall(shown)}
            if len(shown) > LONGEST_NOTE or (start > first and len(about) < 2):
                break
            last = end
        if last > first or heading["rest"].strip(" .:*_"):
            yield lines.span(first, last, "transcribers' notes")


def _find_headings(text: str) -> Iterator[re.Match[str]]:
    """Headings of such notes at the beginning and at the end of a text."""
    begins = max(0, text.find("\n", BEGINNING)) or len(text)
    ends = max(begins, text.rfind("\n", 0, max(0, len(text) - END)))
    for start, end in ((0, begins), (ends, len(text))):
        if text.find("ranscriber", start, end) >= 0 or text.find("RANSCRIBER", start, end) >= 0:
            yield from HEADING.finditer(text, start, end)


def _is_about(text: str) -> bool:
    """Whether a text is about a transcription, and not another text after such a note."""
    return len(ABOUT.findall(text)) + len(PLACES.findall(text)) >= max(1, len(text) / WORDS_EACH)


def find_rights(lines: Lines) -> Iterator[Span]:
    """Paragraphs on copyright, at the beginning and at the end."""
    text, edge = lines.text, round(EDGE * len(lines.text))
    for begins, ends in ((0, edge), (len(text) - edge, len(text))):
        if not RIGHTS.search(text, begins, ends):
            continue
        for start, end in lines.list_paragraphs(lines.find(begins), lines.find(ends) + 1):
            shown = "\n".join(lines.stripped[start : end + 1])
            if len(shown) <= LONGEST_RIGHTS and RIGHTS.search(shown):
                yield lines.span(start, end, "imprints")
