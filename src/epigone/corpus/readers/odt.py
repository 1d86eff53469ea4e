"""OpenDocument texts (ODT, FODT): the paragraphs of the body, without heads, feet, notes, comments and contents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from epigone.corpus.readers.docx import PlainText, parse_part
from epigone.corpus.readers.layout import join_blocks
from epigone.corpus.readers.metadata import read_metadata
from epigone.corpus.readers.paragraphs import ParagraphLook, ParagraphText, Skipper
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.xml import parse_file
from epigone.corpus.readers.zipped import open_zip

LEFT_OUT: dict[str, str] = {
    "text:note": "footnotes",
    "office:annotation": "comments",
    "text:tracked-changes": "deleted text",
    "text:table-of-content": "tables of contents",
    "text:illustration-index": "tables of contents",
    "text:table-index": "tables of contents",
    "text:alphabetical-index": "indexes",
    "text:bibliography": "bibliographies",
    "draw:text-box": "text boxes",
    "draw:object": "formulas",
    "office:forms": "forms",
    "text:ruby-text": "pronunciations",
    "text:page-number": "page numbers",
    "style:header": "running heads",
    "style:footer": "running heads",
    "style:header-left": "running heads",
    "style:footer-left": "running heads",
    "office:binary-data": "",
}
PARAGRAPHS = ("text:p", "text:h")
LINES = {"cm": 2.4, "mm": 0.24, "in": 6.0, "pt": 1 / 12, "pc": 1.0, "px": 1 / 16}
"""Of a line of 12 points, in each unit."""
OTHER_ODF = re.compile(rb"opendocument\.(?:spreadsheet|presentation|graphics|chart|formula|database)")
ODF = b"application/vnd.oasis.opendocument.text"


def recognise(beginning: Beginning) -> bool:
    """A zip archive that says so in its first part, or has the parts of such a document."""
    if OTHER_ODF.search(beginning.head[:200]):
        return False
    names = beginning.zip_names
    return ODF in beginning.head[:200] or (
        "content.xml" in names and bool(names & {"META-INF/manifest.xml", "mimetype"})
    )


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file."""
    with open_zip(file, context.limits) as parts:
        body = _Body(context)
        parse_part(parts, "styles.xml", body.styles, context)
        heads = PlainText(("style:header", "style:footer", "style:header-left", "style:footer-left"), ())
        parse_part(parts, "styles.xml", heads, context)
        for text in heads.texts:
            context.drops.add("running heads", text)
        parse_part(parts, "content.xml", body, context)
        about = read_metadata(parts, "meta.xml", context)
        yield ParsedDocument(
            text=join_blocks(body.paragraphs.blocks), title=about.title, author=about.author, date=about.date
        )


ODT = Format(
    name="odt",
    title="an OpenDocument text (odt)",
    suffixes=(".odt", ".ott", ".sxw"),
    begins="p",
    recognise=recognise,
    read=read,
)


def recognise_flat(beginning: Beginning) -> bool:
    """An XML file whose first element says so."""
    return b"<office:document" in beginning.markup


def read_flat(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file that is not zipped."""
    body = _Body(context)
    parse_file(file, body, context)
    yield ParsedDocument(text=join_blocks(body.paragraphs.blocks))


FODT = Format(
    name="fodt",
    title="a flat OpenDocument text (fodt)",
    suffixes=(".fodt",),
    begins="<",
    recognise=recognise_flat,
    read=read_flat,
)


@dataclass(slots=True)
class _Style:
    parent: str = ""
    before: float | None = None
    after: float | None = None
    italic: bool | None = None
    hidden: bool = False


class Styles:
    """The styles of a document, with what they inherit."""

    def __init__(self) -> None:
        self.styles: dict[str, _Style] = {}
        self.default = _Style()
        self._current: _Style | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if tag == "style:default-style" and attributes.get("style:family") == "paragraph":
            self._current = self.default
        elif tag == "style:style":
            self._current = _Style(parent=attributes.get("style:parent-style-name", ""))
            self.styles[attributes.get("style:name", "")] = self._current
        elif self._current is not None and tag == "style:paragraph-properties":
            both = _measure(attributes.get("fo:margin"))
            before, after = _measure(attributes.get("fo:margin-top")), _measure(attributes.get("fo:margin-bottom"))
            self._current.before = before if before is not None else both
            self._current.after = after if after is not None else both
        elif self._current is not None and tag == "style:text-properties":
            if "fo:font-style" in attributes:
                self._current.italic = attributes["fo:font-style"] in ("italic", "oblique")
            self._current.hidden = attributes.get("text:display") == "none"

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag in ("style:style", "style:default-style"):
            self._current = None

    def data(self, text: str) -> None:
        """Characters."""

    def resolve(self, name: str) -> _Style:
        """A style with all that it inherits."""
        chain, seen = list[_Style](), set[str]()
        while name in self.styles and name not in seen:
            seen.add(name)
            chain.append(self.styles[name])
            name = self.styles[name].parent
        chain.append(self.default)
        return _Style(
            before=next((style.before for style in chain if style.before is not None), 0.0),
            after=next((style.after for style in chain if style.after is not None), 0.0),
            italic=next((style.italic for style in chain if style.italic is not None), None),
        )

    def find_name(self, name: str) -> str:
        """The name of the style that a document's own variant of it is made from."""
        style = self.styles.get(name)
        is_variant = style is not None and style.parent and re.fullmatch(r"P\d+", name)
        return style.parent if style is not None and is_variant else name


def _measure(length: str | None) -> float | None:
    """A length in lines."""
    match = re.fullmatch(r"(-?\d*\.?\d+)([a-z]+)", length or "")
    return float(match[1]) * LINES.get(match[2], 0.0) if match else None


class _Body:
    """Reads the styles and the text of the content."""

    def __init__(self, context: ReadContext) -> None:
        self.context, self.styles = context, Styles()
        self.paragraphs, self._skipper = ParagraphText(), Skipper(context)
        self._italics: list[bool] = []
        self._looks: dict[str, _Style] = {}
        self._name, self._depth, self._n_lists, self._is_first = "", 0, 0, False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self.styles.start(tag, attributes)
        if self._skipper.start(LEFT_OUT.get(tag)):
            return
        name = attributes.get("text:style-name", "")
        if tag in PARAGRAPHS:
            self._depth += 1
            self._name = name
            self._italics = [bool(self._look(name).italic)]
            self.paragraphs.set_italic(self._italics[-1])
        elif tag in ("text:span", "text:a"):
            italic = self._look(name).italic if name else None
            self._italics.append(bool(self._italics and self._italics[-1]) if italic is None else italic)
            self.paragraphs.set_italic(self._italics[-1])
        elif tag == "table:table-row":
            self.paragraphs.start_row()
        elif tag == "text:list-item":
            self._n_lists, self._is_first = self._n_lists + 1, True
        else:
            self._add_sign(tag, attributes)

    def _add_sign(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "text:line-break":
            self.paragraphs.break_line()
        elif tag == "text:tab":
            self.paragraphs.add_tab()
        elif tag == "text:s":
            count = attributes.get("text:c", "1")
            self.paragraphs.add_spaces(int(count) if count.isdecimal() and len(count) < 4 else 1)
        elif tag == "draw:image":
            self.context.drops.add("images")

    def end(self, tag: str) -> None:
        """An element ends."""
        self.styles.end(tag)
        if self._skipper.end():
            return
        if tag in PARAGRAPHS:
            self._depth -= 1
            look = self._look(self._name)
            self.paragraphs.end(
                ParagraphLook(
                    style=self.styles.find_name(self._name),
                    before=look.before or 0.0,
                    after=look.after or 0.0,
                    is_item=self._n_lists > 0 and self._is_first and tag == "text:p",
                )
            )
            self._is_first = False
        elif tag in ("text:span", "text:a") and self._italics:
            self._italics.pop()
            self.paragraphs.set_italic(bool(self._italics and self._italics[-1]))
        elif tag == "text:list-item":
            self._n_lists -= 1
        elif tag == "table:table-cell":
            self.paragraphs.end_cell()
        elif tag == "table:table-row":
            self.paragraphs.end_row()

    def data(self, text: str) -> None:
        """Characters."""
        if not self._skipper.data(text) and self._depth:
            self.paragraphs.add(text)

    def _look(self, name: str) -> _Style:
        if name not in self._looks:
            self._looks[name] = self.styles.resolve(name)
        return self._looks[name]
