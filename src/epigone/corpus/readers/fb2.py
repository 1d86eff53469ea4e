"""FictionBook (FB2): chapters, verse and letters, without notes, pictures and the description of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from epigone.corpus.readers.layout import Block, clean_block, join_blocks
from epigone.corpus.readers.paragraphs import ParagraphText, Skipper
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.xml import parse_file

LEFT_OUT = {"binary": "images", "table": "tables", "stylesheet": "", "style-sheet": ""}
PARAGRAPHS = ("p", "v", "subtitle", "text-author", "date")
CONTAINERS = ("title", "section", "poem", "stanza", "epigraph", "cite", "annotation", "body")
ABOUT = ("book-title", "first-name", "middle-name", "last-name")
START = re.compile(rb"<fictionbook\b")


def recognise(beginning: Beginning) -> bool:
    """An XML file whose first element says so."""
    return bool(START.search(beginning.markup[:1024]))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a book."""
    book = _Book(context)
    parse_file(file, book, context)
    yield ParsedDocument(text=join_blocks(book.blocks), title=book.title, author=book.author, date=book.date)


FB2 = Format(
    name="fb2",
    title="an e-book (FictionBook)",
    suffixes=(".fb2",),
    begins="<",
    recognise=recognise,
    read=read,
)


class _Book:
    """Reads the elements of a book."""

    def __init__(self, context: ReadContext) -> None:
        self.context, self.blocks = context, list[Block]()
        self.title = self.date = ""
        self._names: list[str] = []
        self._paragraph, self._skipper = ParagraphText(), Skipper(context)
        self._path: list[str] = []
        self._about: list[str] = []
        self._gap, self._n_bodies, self._is_of_pandoc = False, 0, False

    @property
    def author(self) -> str:
        """The name of the first author."""
        return " ".join(self._names)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._path.append(tag)
        if self._skipper.start(self._find_dropped(tag, attributes)):
            return
        if tag == "body":
            self._n_bodies += 1
        elif tag == "emphasis":
            self._paragraph.set_italic(True)
        elif tag == "empty-line":
            self.blocks.append(Block("", "", True))
        elif tag == "image":
            self.context.drops.add("images")
        elif tag in (*ABOUT, "date", "program-used"):
            self._about = []
        self._gap |= tag in CONTAINERS

    def _find_dropped(self, tag: str, attributes: dict[str, str]) -> str | None:
        if tag == "body" and attributes.get("name", "").lower() in ("notes", "footnotes", "comments"):
            return "footnotes"
        if tag == "a" and attributes.get("type") == "note":
            return "footnote marks"
        return LEFT_OUT.get(tag)

    def end(self, tag: str) -> None:
        """An element ends."""
        if self._path:
            self._path.pop()
        if self._skipper.end():
            return
        if tag == "program-used":
            self._is_of_pandoc = "".join(self._about).strip() == "pandoc"
        if "title-info" in self._path:
            self._note(tag)
        elif self._n_bodies and tag in PARAGRAPHS:
            self._end_paragraph(tag)
        elif tag == "emphasis":
            self._paragraph.set_italic(False)
        self._gap |= tag in CONTAINERS

    def data(self, text: str) -> None:
        """Characters."""
        if self._skipper.data(text):
            return
        if not self._n_bodies:
            self._about.append(text)
        elif any(tag in PARAGRAPHS for tag in self._path[-6:]):
            self._add_lines(text)

    def _add_lines(self, text: str) -> None:
        """Text; what pandoc wrote has line breaks in its paragraphs, for which the format has no element."""
        first, *more = text.split("\n") if self._is_of_pandoc else [text]
        self._paragraph.add(first)
        for line in more:
            self._paragraph.break_line()
            self._paragraph.add(line)

    def _note(self, tag: str) -> None:
        text = " ".join("".join(self._about).split())[:200]
        self._about = []
        if tag == "book-title":
            self.title = self.title or text
        elif tag in ABOUT and "author" in self._path and text and len(self._names) < 3:
            self._names.append(text)
        elif tag == "date":
            self.date = self.date or text

    def _end_paragraph(self, tag: str) -> None:
        text = self._paragraph.take()
        is_line = tag == "v" or "title" in self._path
        self.blocks.append(Block(clean_block(text), tag, not is_line or self._gap, is_line))
        self._gap = False
