"""Turns the elements of a web page or of an e-book's chapter into blocks of plain text, whatever parser finds them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from epigone.corpus.readers.layout import INVISIBLE, ITALIC, ITALIC_END, Block, clean_block, collapse
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
ITALIC_STYLE = re.compile(r"font-style:\s*(?:italic|oblique)", re.I)
LINES = frozenset(("li", "dt", "dd", "tr"))
NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[a-z]|[ivxlc]{1,6}|[*†‡§¶]{1,3}|↩\ufe0e?)[\])]?", re.I)
VERSE = re.compile(r"\b(?:poem|poetry|verse|stanza|strophe|lg|linegroup|line-block|lineblock)\b", re.I)


@dataclass(frozen=True, slots=True)
class Look:
    """What a style sheet says of an element."""

    spaced: bool | None = None
    """Whether there is space above or below it; None if it does not say."""
    italic: bool | None = None


def read_style(tag: str, attributes: Attributes) -> Look:
    """What the style attribute of an element says."""
    style = attributes.get("style")
    return Look(italic=True if ITALIC_STYLE.search(style) else None) if style else Look()


@dataclass(slots=True)
class _Open:
    """An element that has begun."""

    tag: str
    style: str
    spaced: bool
    italic: bool
    is_verse: bool = False
    n_full: int = 0
    """How much had been found when it began: a paragraph at whose end it is the same is empty."""
    n_items: int = 0
    """Of a list: so far."""


_Kind = tuple[str | None, str, bool, bool, bool]
"""What an element is left out as, its style, and whether it is spaced, in italics, and verse."""


@dataclass(slots=True)
class _Skipped:
    """A part that is being left out."""

    what: str
    depth: int
    text: list[str]


class MarkupText:
    """Collects blocks from start tags, text and end tags, and notes what it leaves out."""

    def __init__(self, context: ReadContext, find_look: Callable[[str, Attributes], Look] = read_style) -> None:
        """`find_look` says what an element looks like, as far as that is known."""
        self.context, self.find_look = context, find_look
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._open: list[_Open] = []
        self._skipped: _Skipped | None = None
        self._kinds: dict[tuple[str, str | None], _Kind] = {}
        """What elements are whose only attribute is a class, for most have no other."""
        self._n_preformatted = self._n_italic = self._n_verse = self._n_full = 0
        self._note_start: int | None = None
        self._spaced = False
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
        if tag in VOID:
            if self._skipped is None:
                self._add_void(tag, attributes)
            return
        if self._skipped is not None:
            self._open.append(_Open(tag, "", False, False))
            return
        name = attributes.get("class") if attributes else ""
        if name is not None and len(attributes) < 2:  # most elements: what they are depends on name and class alone
            kind = self._kinds.get((tag, name)) or self._kinds.setdefault((tag, name), self._find_kind(tag, attributes))
        else:
            kind = self._find_kind(tag, attributes)
        what, style, spaced, italic, is_verse = kind
        element = _Open(tag, style, spaced, italic, is_verse, self._n_full)
        if what is None and tag == "code" and self._n_preformatted and self.context.settings.code == "drop":
            what = "code blocks"
        if what is None and tag in BLOCKS:
            self._end_block(spaced)
        self._open.append(element)
        if what is not None:
            self._skipped = _Skipped(what, len(self._open), [])
        else:
            self._begin(element, attributes)

    def _find_kind(self, tag: str, attributes: Attributes) -> _Kind:
        look, name = self.find_look(tag, attributes), attributes.get("class") or ""
        return (
            find_dropped(tag, attributes),
            f"{tag}.{name}",
            look.spaced if look.spaced is not None else is_spaced(tag, attributes),
            tag in ITALICS if look.italic is None else look.italic,
            bool(tag in BLOCKS and VERSE.search(name)),
        )

    def forget_looks(self) -> None:
        """The style sheet has changed."""
        self._kinds.clear()

    def _begin(self, element: _Open, attributes: Attributes) -> None:
        tag = element.tag
        self._n_verse += element.is_verse
        if element.italic:
            self._n_italic += 1
            if self._n_italic == 1:
                self._text.append(ITALIC)
        if tag == "pre":
            self._n_preformatted += 1
        elif tag == "li":
            self._bullet = self._mark_item()
        elif tag == "a" and "#" in (attributes.get("href") or ""):
            self._note_start = len(self._text)

    def _mark_item(self) -> str:
        above = next((element for element in reversed(self._open[:-1]) if element.tag in ("ul", "ol")), None)
        if above is None or above.tag == "ul":
            return "- "
        above.n_items += 1
        return f"{above.n_items}. "

    def end(self, tag: str) -> None:
        """An element ends; those in it that have not ended end too, and one that never began is ignored."""
        if self._open and self._open[-1].tag == tag:
            self._end_last()
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
        element = self._open[-1]
        tag = element.tag
        if tag in BLOCKS:
            self._end_block(element.spaced, is_paragraph=tag == "p")
        if tag == "a" and self._note_start is not None:
            self._drop_note_mark(self._note_start)
            self._note_start = None
        elif tag == "li":
            self._bullet = ""
        self._n_preformatted -= tag == "pre"
        self._n_verse -= element.is_verse
        if element.italic:
            self._n_italic -= 1
            if self._n_italic == 0:
                self._text.append(ITALIC_END)
        if tag in ("td", "th"):
            self._text.append(" ")
        self._open.pop()

    def data(self, text: str) -> None:
        """Characters between tags."""
        if self._skipped is not None:
            self._skipped.text.append(text)
            return
        if self._n_preformatted:
            self._text.append(INVISIBLE.sub("", text).expandtabs(4).replace(" ", "\xa0"))
        elif self._text or text.strip(" \n\t\r\f"):
            self._text.append(collapse(text))

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
        elif tag == "hr":
            self._end_block(True)
            self._add_block("", "hr")
        elif tag == "img":
            self.context.drops.add("images", attributes.get("alt") or "")
            self._mark_full()
        elif what := find_dropped(tag, attributes):
            self.context.drops.add(what)

    def _mark_full(self) -> None:
        """A paragraph with a picture in it is not an empty line."""
        self._n_full += 1

    def _drop_note_mark(self, start: int) -> None:
        """A link to a place in a text that is only a number or a star leads to a note."""
        text = "".join(self._text[start:]).strip(f" \n{ITALIC}{ITALIC_END}")
        if NOTE_MARK.fullmatch(text):
            self.context.drops.add("footnote marks", text)
            del self._text[start:]

    def _end_block(self, spaced: bool, *, is_paragraph: bool = False) -> None:
        """End the line at a boundary that has space, or none."""
        marks = [ITALIC_END] if self._n_italic else []
        text = clean_block("".join([*self._text, *marks])) if self._text else ""
        self._text = [ITALIC] if self._n_italic else []
        if not text and not is_paragraph:
            self._spaced |= spaced
            return
        owner = None
        for element in reversed(self._open):
            if element.tag in BLOCKS:
                owner = element
                break
        if text.strip(" \xa0\n_"):
            text, self._bullet = self._bullet + text, ""
            self._add_block(text, owner.style if owner else "", self._is_line(owner))
            self._mark_full()
        elif is_paragraph and owner is not None and owner.n_full == self._n_full:
            self._add_block("", owner.style)
        self._spaced |= spaced

    def _is_line(self, owner: _Open | None) -> bool:
        return self._n_verse > 0 or (owner is not None and owner.tag in LINES)

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
    if "hidden" in attributes or "display:none" in (attributes.get("style") or "").replace(" ", ""):
        return "hidden parts"
    return None
