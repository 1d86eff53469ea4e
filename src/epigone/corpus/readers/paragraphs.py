"""Builds blocks from the paragraphs of a word processor: text, line breaks, tabs, italics, and the space between."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from epigone.corpus.readers.layout import ITALIC, ITALIC_END, Block, clean_block, straighten
from epigone.corpus.readers.reader import ReadContext

SMALLEST_SPACE = 0.35
"""In lines: less does not look like a blank line."""
LONGEST_ROW = 200
"""Characters of a table's row that becomes a line."""
TAB = "\xa0" * 4


@dataclass(slots=True)
class ParagraphLook:
    """How a paragraph looks, as far as text needs it."""

    style: str = ""
    before: float = 0.0
    """Space above it, in lines."""
    after: float = 0.0
    joins_like: bool = False
    """Whether there is no space between it and one of the same style."""
    is_line: bool = False
    is_item: bool = False
    """Of a list."""


class ParagraphText:
    """Collects the paragraphs of a document."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._italic = False
        self._last: ParagraphLook | None = None
        self._is_apart = False
        """Whether there is space before the next paragraph, whatever it looks like."""
        self._rows: list[tuple[int, list[int]]] = []
        """Of each row of a table that is open: where it begins among the blocks, and where its cells end."""
        self._row_end = -1
        """Where the last row ended that became a line."""

    def add(self, text: str) -> None:
        """Characters."""
        if text:
            self._text.append(straighten(text))

    def add_spaces(self, count: int) -> None:
        """Spaces that stay, up to a line of them."""
        self._text.append("\xa0" * min(count, 80))

    def break_line(self) -> None:
        """A line ends inside the paragraph."""
        self._text.append("\n")

    def add_tab(self) -> None:
        """At the start of a line a tab indents it."""
        at_start = not self._text or self._text[-1].endswith(("\n", "\xa0"))
        self._text.append(TAB if at_start else " ")

    def set_italic(self, italic: bool) -> None:
        """From here on, text is in italics or is not."""
        if italic != self._italic:
            self._text.append(ITALIC if italic else ITALIC_END)
            self._italic = italic

    def has_text(self) -> bool:
        """Whether anything is in the paragraph so far."""
        return bool("".join(self._text).strip(f" \n\xa0{ITALIC}{ITALIC_END}"))

    def take(self) -> str:
        """End the paragraph without keeping it, and return its text."""
        self.set_italic(False)
        text, self._text = clean_block("".join(self._text)), []
        return text

    def end(self, look: ParagraphLook) -> None:
        """End the paragraph."""
        text = self.take()
        if not text.strip(" \n_"):
            text = ""
        elif look.is_item:
            text = f"- {text.strip()}"
        spaced, last = self._is_apart, self._last
        self._is_apart = False
        if last is not None and not (look.joins_like and last.joins_like and look.style == last.style):
            spaced = spaced or max(last.after, look.before) >= SMALLEST_SPACE
        self.blocks.append(Block(text, look.style, spaced, look.is_line or look.is_item))
        self._last = look

    def add_blocks(self, blocks: list[Block]) -> None:
        """Finished blocks that stand apart, with space around them."""
        if blocks:
            blocks[0].spaced = self._is_apart = True
            self.blocks += blocks

    def start_row(self) -> None:
        """A row of a table begins."""
        self._rows.append((len(self.blocks), []))

    def end_cell(self) -> None:
        """A cell ends."""
        if self._rows:
            self._rows[-1][1].append(len(self.blocks))

    def end_row(self) -> None:
        """A row ends. It is one line if its cells are short; what is longer stands in a table for the layout's sake."""
        if not self._rows:
            return
        start, ends = self._rows.pop()
        cells = [[one.text for one in self.blocks[a:b] if one.text] for a, b in pairwise([start, *ends])]
        texts = [text.strip() for cell in cells for text in cell]
        if len(cells) < 2 or max(map(len, cells)) > 1 or len(line := " ".join(texts)) > LONGEST_ROW or "\n" in line:
            return
        follows = start == self._row_end
        self.blocks[start:] = [Block(line, "row", not follows, True)] if line else []
        self._row_end, self._is_apart = len(self.blocks), True


class Skipper:
    """Keeps account of elements that are left out with all that is in them."""

    def __init__(self, context: ReadContext) -> None:
        self.context = context
        self._what, self.depth = "", 0
        """How many elements are open that are left out."""
        self._text: list[str] = []

    def start(self, what: str | None) -> bool:
        """An element begins that is left out as `what` ("" is not counted), or None. True if it is left out."""
        if self.depth:
            self.depth += 1
        elif what is not None:
            self._what, self.depth, self._text = what, 1, []
        return self.depth > 0

    def end(self) -> bool:
        """An element ends; True if it was left out."""
        if not self.depth:
            return False
        self.depth -= 1
        if not self.depth and self._what:
            self.context.drops.add(self._what, "".join(self._text))
        return True

    def data(self, text: str) -> bool:
        """Characters; True if they are left out."""
        if self.depth:
            self._text.append(text)
        return self.depth > 0
