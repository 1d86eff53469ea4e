"""Turns the elements of a web page or of an e-book's chapter into blocks of plain text, whatever parser finds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from epigone.corpus.readers.layout import INVISIBLE, ITALIC, ITALIC_END, Block, clean_block, clean_line, straighten
from epigone.corpus.readers.limits import DEEPEST_ELEMENTS
from epigone.corpus.readers.page import BLOCKS, SPACED, VOID, Element, End, Step
from epigone.corpus.readers.reader import ReadContext

Attributes = Mapping[str, str]

ITALICS = frozenset(("i", "em", "cite", "dfn", "var"))
DROPPED = {
    "script": "scripts and styles",
    "style": "scripts and styles",
    "noscript": "scripts and styles",
    "template": "scripts and styles",
    "svg": "images",
    "math": "formulas",
    "object": "images",
    "iframe": "embedded pages",
    "video": "videos and sounds",
    "audio": "videos and sounds",
    "canvas": "images",
    "select": "forms",
    "button": "forms",
    "textarea": "forms",
    "input": "forms",
    "head": "",
    "rp": "",
    "rt": "pronunciations",
    "nav": "navigation",
}
"""Elements that are left out with all that they contain, and what they count as; "" is not counted."""
NAMED = {
    "toc": "tables of contents",
    "landmarks": "tables of contents",
    "page-list": "tables of contents",
    "pagebreak": "page numbers",
    "doc-pagebreak": "page numbers",
    "doc-toc": "tables of contents",
    "noteref": "footnote marks",
    "doc-noteref": "footnote marks",
    "doc-backlink": "footnote marks",
    "backlink": "footnote marks",
    "footnote": "footnotes",
    "footnotes": "footnotes",
    "endnote": "footnotes",
    "endnotes": "footnotes",
    "rearnote": "footnotes",
    "rearnotes": "footnotes",
    "doc-footnote": "footnotes",
    "doc-endnote": "footnotes",
    "doc-endnotes": "footnotes",
}
"""What an element is by its epub:type or role."""
CLASSES = {
    "pagenum": "page numbers",
    "pageno": "page numbers",
    "pagenumber": "page numbers",
    "page-number": "page numbers",
    "lnum": "line numbers",
    "linenum": "line numbers",
    "line-number": "line numbers",
    "footnote-ref": "footnote marks",
    "footnote-back": "footnote marks",
    "footnote-backref": "footnote marks",
    "footnotes": "footnotes",
    "footnote-anchor": "footnote marks",
    "fnanchor": "footnote marks",
    "toc": "tables of contents",
}
"""What an element is by one of its classes, as common programs write them."""
NOTES = frozenset(("footnote", "endnote", "sdfootnote", "sdendnote"))
"""Classes of notes as Calibre and LibreOffice write them. A link of one is a mark."""
SHEET_EDGES = frozenset(("header", "footer"))
"""Titles of the parts of a page that LibreOffice made, which stood on each sheet."""
ITALIC_STYLE = re.compile(r"font-style:\s*(?:italic|oblique)", re.I)
LINES = frozenset(("li", "dt", "dd", "tr"))
TELLING = frozenset(("style", "epub:type", "role", "hidden", "title"))
"""Attributes besides the class that say what an element is."""
MOST_KINDS, LONGEST_CLASS = 10_000, 200
"""Of kinds that are kept: a page can have any number, of any length."""
SPECIAL = frozenset(("pre", "code", "li", "a", "td", "th"))
"""Elements at whose beginning or end more is done than at those of any block."""
NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[a-z]|[ivxlc]{1,6}|[*†‡§¶]{1,3}|↩\ufe0e?)[\])]?", re.I)
VERSE = re.compile(r"\b(?:poem|poetry|verse|stanza|strophe|lg|linegroup|line-block|lineblock)\b", re.I)


@dataclass(frozen=True, slots=True)
class Look:
    """What a style sheet says of an element."""

    spaced: bool | None = None
    """Whether there is space above or below it; None if it does not say."""
    italic: bool | None = None


@dataclass(slots=True)
class Kind:
    """What elements of one name and one class have in common."""

    tag: str
    dropped: str | None = None
    """What they are left out as."""
    style: str = ""
    spaced: bool = False
    italic: bool = False
    is_verse: bool = False
    is_block: bool = False
    is_special: bool = False
    """Whether more is done at their beginning and end than at those of any block."""


@dataclass(slots=True)
class _OpenBlock:
    """A block that has begun."""

    kind: Kind
    n_full: int
    """How much had been found when it began: a paragraph at whose end it is the same is empty."""
    n_items: int = 0
    """Of a list: so far."""


class Looks:
    """What elements are and look like: here by their names and classes, and by their style attribute."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], Kind] = {}
        """By names and classes, of elements that say nothing else of themselves."""

    def find(self, tag: str, attributes: Attributes) -> Look:
        """What an element looks like."""
        style = attributes.get("style")
        return Look(italic=True if ITALIC_STYLE.search(style) else None) if style else Look()

    def find_kind(self, tag: str, attributes: Attributes) -> Kind:
        """What an element is. Most say it by name and class alone, so that it is kept for others like it."""
        look, name, dropped = self.find(tag, attributes), attributes.get("class", ""), find_dropped(tag, attributes)
        italic = tag in ITALICS if look.italic is None else look.italic
        is_verse = bool(tag in BLOCKS and VERSE.search(name))
        kind = Kind(
            tag,
            dropped,
            style=f"{tag}.{name}",
            spaced=look.spaced if look.spaced is not None else is_spaced(tag, attributes),
            italic=italic,
            is_verse=is_verse,
            is_block=dropped is None and tag in BLOCKS,
            is_special=italic or is_verse or tag in SPECIAL,
        )
        if TELLING.isdisjoint(attributes) and len(self.kinds) < MOST_KINDS and len(name) <= LONGEST_CLASS:
            self.kinds[tag, name] = kind
        return kind


WITHOUT_SHEET = Looks()
"""Of all pages that have none."""


@dataclass(slots=True)
class _Skipped:
    """A part that is being left out."""

    what: str
    depth: int
    text: list[str]


class MarkupText:
    """Collects blocks from start tags, text and end tags, and notes what it leaves out."""

    def __init__(self, context: ReadContext, looks: Looks = WITHOUT_SHEET) -> None:
        self.context, self.looks = context, looks
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._open: list[Kind] = []
        self._blocks: list[_OpenBlock] = []
        """Those of the open elements that are blocks."""
        self._skipped: _Skipped | None = None
        self._n_preformatted = self._n_italic = self._n_verse = self._n_full = 0
        self._note_start: int | None = None
        self._spaced = False
        self._is_plain = True
        """Whether the block's text is printable so far, with nothing in it that stands for a mark or a line end."""
        self._bullet = ""
        """Of an item of a list in which there was no text so far: its first block has it."""

    @property
    def depth(self) -> int:
        """How many elements are open."""
        return len(self._open)

    @property
    def skipped(self) -> Sequence[str]:
        """The text so far of a part that is being left out."""
        return self._skipped.text if self._skipped else ()

    def start(self, tag: str, attributes: Attributes) -> None:
        """An element begins. One that is always empty, such as br, has no end."""
        if len(self._open) > DEEPEST_ELEMENTS:
            self.context.limits.check_depth(len(self._open))
        if self._skipped is not None:
            if tag not in VOID:
                self._open.append(Kind(tag))
            return
        kind = self.looks.kinds.get((tag, attributes.get("class", ""))) if TELLING.isdisjoint(attributes) else None
        if kind is None:
            if tag in VOID:  # which are no kind
                self._add_void(tag, attributes)
                return
            kind = self.looks.find_kind(tag, attributes)
        if kind.is_block:
            block = _OpenBlock(kind, self._n_full)
            if self._text:
                self._end_block(kind.spaced)
            else:
                self._spaced = self._spaced or kind.spaced
            self._blocks.append(block)
        self._open.append(kind)
        if kind.dropped is not None:
            self._skipped = _Skipped(kind.dropped, len(self._open), [])
        elif kind.is_special:
            self._begin(kind, attributes)

    def _begin(self, kind: Kind, attributes: Attributes) -> None:
        tag = kind.tag
        if tag == "code" and self._n_preformatted and self.context.settings.code == "drop":
            self._skipped = _Skipped("code blocks", len(self._open), [])
            return
        self._n_verse += kind.is_verse
        if kind.italic:
            self._n_italic += 1
            if self._n_italic == 1:
                self._text.append(ITALIC)
                self._is_plain = False
        if tag == "pre":
            self._n_preformatted += 1
        elif tag == "li":
            self._bullet = self._mark_item()
        elif tag == "a" and "#" in attributes.get("href", ""):
            self._note_start = len(self._text)

    def _mark_item(self) -> str:
        above = next((block for block in reversed(self._blocks) if block.kind.tag in ("ul", "ol")), None)
        if above is None or above.kind.tag == "ul":
            return "- "
        above.n_items += 1
        return f"{above.n_items}. "

    def end(self, tag: str) -> None:
        """An element ends; those in it that have not ended end too, and one that never began is ignored."""
        opened = self._open
        if opened and opened[-1].tag == tag:
            kind = opened[-1]
            if self._skipped is not None or kind.is_special:
                self._end_last()
                return
            if kind.is_block:
                self._end_block(kind.spaced, is_paragraph=tag == "p")
                self._blocks.pop()
            opened.pop()
            return
        if tag in VOID or all(element.tag != tag for element in self._open):
            return
        while self._open[-1].tag != tag:
            self._end_last()
        self._end_last()

    def _end_last(self) -> None:
        if self._skipped is not None:
            if self._skipped.depth == len(self._open):
                if self._skipped.what:
                    self.context.drops.add(self._skipped.what, "".join(self._skipped.text))
                self._skipped = None
            self._open.pop()
            return
        kind = self._open[-1]
        if kind.is_block:
            self._end_block(kind.spaced, is_paragraph=kind.tag == "p")
            self._blocks.pop()
        if kind.is_special:
            self._finish(kind)
        self._open.pop()

    def _finish(self, kind: Kind) -> None:
        tag = kind.tag
        if tag == "a" and self._note_start is not None:
            self._drop_note_mark(self._note_start)
            self._note_start = None
        elif tag == "li":
            self._bullet = ""
        self._n_preformatted -= tag == "pre"
        self._n_verse -= kind.is_verse
        if kind.italic:
            self._n_italic -= 1
            if self._n_italic == 0:
                self._text.append(ITALIC_END)
                self._is_plain = False
        if tag in ("td", "th"):
            self._text.append(" ")

    def data(self, text: str) -> None:
        """Characters between tags."""
        if self._skipped is not None:
            self._skipped.text.append(text)
            return
        if self._n_preformatted:
            self._is_plain = False
            self._text.append(INVISIBLE.sub("", text).expandtabs(4).replace(" ", "\xa0"))
        elif self._text or text.strip(" \n\t\r\f"):
            if not text.isprintable():  # as what has a line end in it is not
                text = text.replace("\n", " ")
                if not text.isprintable():
                    text, self._is_plain = straighten(text), False
            self._text.append(text)

    def add_all(self, steps: Iterable[Step]) -> None:
        """Everything that was found in a page, in reading order."""
        start, end, data = self.start, self.end, self.data
        for step in steps:
            if type(step) is str:
                data(step)
            elif type(step) is Element:
                start(step.tag, step.attributes)
            elif type(step) is End:
                end(step.element.tag)

    def finish(self) -> list[Block]:
        """All blocks, after the last element."""
        while self._open:
            self._end_last()
        self._end_block(False)
        blocks, self.blocks = self.blocks, []  # a book's are not kept until Python collects this object
        return blocks

    def _add_void(self, tag: str, attributes: Attributes) -> None:
        if tag == "br":
            self._text.append("\n")
            self._is_plain = False
        elif tag == "hr":
            self._end_block(True)
            self._add_block("", "hr")
        elif tag == "img":
            self.context.drops.add("images", attributes.get("alt") or "")
            self._n_full += 1  # a paragraph with a picture in it is not an empty line
        elif what := find_dropped(tag, attributes):
            self.context.drops.add(what)

    def _drop_note_mark(self, start: int) -> None:
        """A link to a place in a text that is only a number or a star leads to a note."""
        text = "".join(self._text[start:]).strip(f" \n{ITALIC}{ITALIC_END}")
        if NOTE_MARK.fullmatch(text):
            self.context.drops.add("footnote marks", text)
            del self._text[start:]

    def _end_block(self, spaced: bool, *, is_paragraph: bool = False) -> None:
        """End the line at a boundary that has space, or none."""
        if self._n_italic:
            text = clean_block("".join([*self._text, ITALIC_END])) if self._text else ""
            self._text, self._is_plain = [ITALIC], False
        elif self._text:
            text = "".join(self._text)
            text = clean_line(text) if self._is_plain else clean_block(text)
            self._text, self._is_plain = [], True
        else:
            text = ""
        if not text and not is_paragraph:
            self._spaced |= spaced
            return
        owner = self._blocks[-1] if self._blocks else None
        style = owner.kind.style if owner else ""
        if text.strip(" \xa0\n_"):
            text, self._bullet = self._bullet + text, ""
            self._add_block(text, style, self._n_verse > 0 or (owner is not None and owner.kind.tag in LINES))
            self._n_full += 1
        elif is_paragraph and owner is not None and owner.n_full == self._n_full:
            self._add_block("", style)
        self._spaced |= spaced

    def _add_block(self, text: str, style: str, is_line: bool = False) -> None:
        self.blocks.append(Block(text, style, self._spaced, is_line))
        self._spaced = False


def is_spaced(tag: str, attributes: Attributes) -> bool:
    """Whether browsers put space around an element, or its name says that it is a poem or a stanza."""
    return tag in SPACED or bool(tag in BLOCKS and VERSE.search(attributes.get("class") or ""))


def find_dropped(tag: str, attributes: Attributes) -> str | None:
    """What an element counts as that is left out; None for one that is read."""
    if tag in DROPPED:
        return DROPPED[tag]
    for name in ("epub:type", "role"):
        for word in (attributes.get(name) or "").split():
            if word in NAMED:
                return NAMED[word]
    for word in (attributes.get("class") or "").lower().split():
        if word in CLASSES:
            return CLASSES[word]
        if word in NOTES and tag in BLOCKS:
            return "footnotes"
    if tag == "div" and attributes.get("title") in SHEET_EDGES:
        return "running heads"
    if "hidden" in attributes or "display:none" in (attributes.get("style") or "").replace(" ", ""):
        return "hidden parts"
    return None
