"""Removes page furniture from the texts of a file, and counts it. A text in which nothing is proven stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

from epigone.corpus.furniture import contents, editors, margins, notes, pages
from epigone.corpus.furniture.spans import Lines, Span, remove_spans
from epigone.corpus.large_text import divide_text
from epigone.corpus.readers.reader import DropLog

MOST_CHARACTERS = 1 << 22
"""That are looked at together: as many pages as the longest books have."""
SHORTEST = 400
"""Characters: less shows nothing."""
FINDERS = (
    contents.find_listings,
    pages.find_pages,
    pages.find_fed_pages,
    margins.find_line_numbers,
    margins.find_scene_numbers,
    editors.find_transcribers_notes,
    editors.find_rights,
)


def remove_furniture(text: str, drops: DropLog) -> str:
    """The text without what was found in it, which is counted in `drops`. A long one is looked at in parts."""
    if len(text) > MOST_CHARACTERS:
        return "".join(_remove(part, drops) for part in divide_text(text, MOST_CHARACTERS))
    return _remove(text, drops)


def _remove(text: str, drops: DropLog) -> str:
    spans = find_furniture(text)
    for span in spans:
        drops.add(span.what, text[span.start : span.end].strip())
    return remove_spans(text, spans) if spans else text


def find_furniture(text: str) -> list[Span]:
    """All parts of a text that are furniture, in order; none is within another one."""
    if len(text) < SHORTEST:
        return []
    lines = Lines(text)
    found = [span for find in FINDERS for span in find(lines)]
    found += _find_in_brackets(text)
    kept: list[Span] = []
    for span in sorted(found, key=lambda each: (each.start, -each.end)):
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept


def _find_in_brackets(text: str) -> Iterator[Span]:
    if "[" in text or "{" in text:
        yield from notes.find_named(text)
        yield from notes.find_page_marks(text)
        yield from notes.find_numbered(text)
