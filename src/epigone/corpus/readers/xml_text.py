"""XML of any kind (plays, TEI, corpora): the text of its elements, in the lines and groups that they form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import BinaryIO

from epigone.corpus.readers.layout import VERSE_CHARACTERS, Block, clean_block, join_blocks, straighten
from epigone.corpus.readers.paragraphs import Skipper
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.xml import parse_file

LEFT_OUT = {"teiheader": "descriptions of the file", "script": "scripts", "style": "styles"}
PARAGRAPHS = ("p", "para")
LONGEST_TITLE = 200


def recognise(beginning: Beginning) -> bool:
    """A file that says that it is XML, or is named so."""
    return beginning.markup.startswith(b"<?xml") or (beginning.suffix == ".xml" and beginning.markup.startswith(b"<"))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file."""
    elements = _Elements(context)
    parse_file(file, elements, context)
    yield ParsedDocument(text=join_blocks(elements.blocks), title=elements.title)


XML = Format(
    name="xml",
    title="XML",
    suffixes=(".xml",),
    begins="<",
    recognise=recognise,
    read=read,
    only_named=True,
)


@dataclass(slots=True)
class _Element:
    """An open element: its text and that of the elements in it, as one, and as blocks if it only holds others."""

    text: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    leaves: list[Block] = field(default_factory=list)
    """Of these, those that are no group's: lines, if they are short."""
    after_group: bool = False
    """Whether the last of these elements had several blocks: a blank line stands before and behind them."""
    has_text: bool = False
    """Of its own, beside that of its elements. Line breaks between them are none, single spaces between words are."""


class _Elements:
    """Reads the elements of a file: one with text of its own is a paragraph or a line, the others are groups."""

    def __init__(self, context: ReadContext) -> None:
        self.title = ""
        self._open, self._skipper = [_Element()], Skipper(context)

    @property
    def blocks(self) -> list[Block]:
        """What has been read."""
        return self._open[0].blocks

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if not self._skipper.start(LEFT_OUT.get(tag.rpartition(":")[2].lower())):
            self._open.append(_Element())

    def end(self, tag: str) -> None:
        """An element ends."""
        if self._skipper.end():
            return
        element, name = self._open.pop(), tag.rpartition(":")[2]
        text = "".join(element.text)
        if name.lower() == "title" and not self.title:
            self.title = " ".join(text.split())[:LONGEST_TITLE]
        if element.has_text or not element.blocks:
            words = clean_block(straighten(text))
            element.blocks = [Block(words, name, spaced=False)] if words else []
        outer, is_group = self._open[-1], len(element.blocks) > 1
        if element.leaves and median(len(one.text) for one in element.leaves) <= VERSE_CHARACTERS:
            for leaf in element.leaves:
                leaf.is_line = leaf.style not in PARAGRAPHS
        if element.blocks:
            element.blocks[0].spaced |= is_group or outer.after_group
            outer.after_group = is_group
        outer.blocks += element.blocks
        outer.leaves += () if is_group else element.blocks
        outer.text.append(text)

    def data(self, text: str) -> None:
        """Characters."""
        if not self._skipper.data(text):
            element = self._open[-1]
            element.text.append(text)
            element.has_text |= bool(text) and (not text.isspace() or "\n" not in text)
