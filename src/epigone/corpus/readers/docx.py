"""Word documents (DOCX): the paragraphs of the body, without heads, feet, notes, comments and deleted text."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from epigone.corpus.readers.layout import Block, join_blocks
from epigone.corpus.readers.metadata import read_metadata
from epigone.corpus.readers.paragraphs import ParagraphLook, ParagraphText, Skipper
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.xml import Handler, XmlDamaged, parse_xml
from epigone.corpus.readers.zipped import CHECK_FILE, ZippedParts, open_zip
from epigone.errors import TextUnreadable

TWIPS_PER_LINE = 240
LEFT_OUT = {
    "w:del": "deleted text",
    "w:moveFrom": "deleted text",
    "w:footnoteReference": "footnote marks",
    "w:endnoteReference": "footnote marks",
    "mc:Fallback": "",
    "w:instrText": "",
    "w:rt": "pronunciations",
    "m:oMath": "formulas",
    "m:oMathPara": "formulas",
}
TEXT_BOX = "w:txbxContent"
"""It is in the paragraph that it is anchored to, and a second time in mc:Fallback."""
PICTURES = ("w:drawing", "w:pict")
READ = frozenset(
    (
        *LEFT_OUT,
        *("w:p", "w:pStyle", "w:numId", "w:spacing", "w:contextualSpacing"),
        *("w:r", "w:rStyle", "w:i", "w:vanish", "w:webHidden"),
        *("w:t", "w:br", "w:cr", "w:tab", "w:noBreakHyphen", "w:drawing", "w:pict", TEXT_BOX),
        *("w:tr", "w:tc"),
    )
)
"""Elements of a body that say anything of its text: about half of all."""
OTHER_PARTS = {"header": "running heads", "footer": "running heads", "footnotes": "footnotes", "endnotes": "footnotes"}
OFF = ("0", "false", "off", "none")


def recognise(beginning: Beginning) -> bool:
    """A zip archive with a document of Word's in it."""
    return any(name.startswith("word/document") for name in beginning.zip_names)


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a file."""
    with open_zip(file, context.limits) as parts:
        body = next((name for name in parts.names if name.startswith("word/document") and name.endswith(".xml")), "")
        styles, text = Styles(), _Body(context)
        parse_part(parts, "word/styles.xml", styles, context)
        text.styles = styles
        parse_part(parts, body, text, context, READ)
        for name in parts.names:
            _note_part(parts, name, context)
        about = read_metadata(parts, "docProps/core.xml", context)
        yield ParsedDocument(
            text=join_blocks(text.paragraphs.blocks), title=about.title, author=about.author, date=about.date
        )


DOCX = Format(
    name="docx",
    title="a Word document (docx)",
    suffixes=(".docx", ".docm", ".dotx"),
    begins="p",
    recognise=recognise,
    read=read,
)


def parse_part(
    parts: ZippedParts, name: str, handler: Handler, context: ReadContext, wanted: Container[str] | None = None
) -> None:
    """Read a part of a document if it has it, all elements or those wanted. Raises TextUnreadable if it is damaged."""
    if name not in parts:
        return
    try:
        parse_xml(parts.stream(name), handler, context.limits, wanted)
    except XmlDamaged as error:
        raise TextUnreadable(f"{context.name} is damaged: {name}: {error}.", hint=CHECK_FILE) from None


def _note_part(parts: ZippedParts, name: str, context: ReadContext) -> None:
    """Note heads, feet and notes, which are parts of their own."""
    kind = name.removeprefix("word/").removesuffix(".xml").rstrip("0123456789")
    if name.startswith("word/") and name.endswith(".xml") and kind in OTHER_PARTS:
        found = PlainText(("w:footnote", "w:endnote", "w:hdr", "w:ftr"), ("w:t",))
        parse_part(parts, name, found, context)
        for text in found.texts:
            context.drops.add(OTHER_PARTS[kind], text)


class PlainText:
    """The text of each element of some names, as long as it has any."""

    def __init__(self, outer: tuple[str, ...], inner: tuple[str, ...]) -> None:
        self.outer, self.inner, self.texts = outer, inner, list[str]()
        self._text: list[str] = []
        self._is_inner = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if tag in self.outer:
            self._text = []
        self._is_inner = tag in self.inner or not self.inner

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag in self.outer and (text := "".join(self._text).strip()):
            self.texts.append(text)
        self._is_inner = False

    def data(self, text: str) -> None:
        """Characters."""
        if self._is_inner:
            self._text.append(text)


@dataclass(slots=True)
class _Style:
    """A style as it stands in the file; None is inherited."""

    name: str = ""
    based_on: str = ""
    before: float | None = None
    after: float | None = None
    joins_like: bool | None = None
    italic: bool | None = None


class Styles:
    """The styles of a document, with what they inherit."""

    def __init__(self) -> None:
        self.styles: dict[str, _Style] = {}
        self.default = _Style()
        self.usual = ""
        """The style of paragraphs that name none."""
        self._current: _Style | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if tag == "w:docDefaults":
            self._current = self.default
        elif tag == "w:style":
            self._current = self.styles.setdefault(attributes.get("w:styleId", ""), _Style())
            if attributes.get("w:type") == "paragraph" and attributes.get("w:default") not in (None, *OFF):
                self.usual = attributes.get("w:styleId", "")
        elif self._current is not None:
            _set(self._current, tag, attributes)

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag in ("w:docDefaults", "w:style"):
            self._current = None

    def data(self, text: str) -> None:
        """Characters."""

    def resolve(self, name: str) -> _Style:
        """A style with all that it inherits."""
        chain, seen = [], set[str]()
        while name in self.styles and name not in seen:
            seen.add(name)
            chain.append(self.styles[name])
            name = self.styles[name].based_on
        chain.append(self.default)
        return _Style(
            name=chain[0].name,
            before=next((style.before for style in chain if style.before is not None), 0.0),
            after=next((style.after for style in chain if style.after is not None), 0.0),
            joins_like=next((style.joins_like for style in chain if style.joins_like is not None), False),
            italic=next((style.italic for style in chain if style.italic is not None), False),
        )


def _set(style: _Style, tag: str, attributes: dict[str, str]) -> None:
    value = attributes.get("w:val", "")
    if tag == "w:name":
        style.name = value.lower()
    elif tag == "w:basedOn":
        style.based_on = value
    elif tag == "w:spacing":
        for side in ("before", "after"):
            if attributes.get(f"w:{side}Autospacing", "0") not in OFF:
                setattr(style, side, 1.0)
            elif (lines := _measure(attributes.get(f"w:{side}"))) is not None:
                setattr(style, side, lines)
    elif tag == "w:contextualSpacing":
        style.joins_like = value not in OFF
    elif tag == "w:i":
        style.italic = value not in OFF


def _measure(twips: str | None) -> float | None:
    try:
        return float(twips) / TWIPS_PER_LINE if twips is not None else None
    except ValueError:
        return None


class _Place(NamedTuple):
    """Where a text box is: the paragraphs around it, and what is known of the one that it is in."""

    paragraphs: ParagraphText
    own: _Style
    run: _Style
    style: str
    is_item: bool
    boxes: list[Block]


class _Body:
    """Reads the body of a document."""

    def __init__(self, context: ReadContext) -> None:
        self.context, self.styles = context, Styles()
        self.paragraphs, self._skipper = ParagraphText(), Skipper(context)
        self._own, self._run = _Style(), _Style()
        self._style, self._is_text, self._is_hidden, self._in_run, self._is_item = "", False, False, False, False
        self._looks: dict[str, _Style] = {}
        self._outer: list[_Place] = []
        """Where the text boxes that are open begin."""
        self._boxes: list[Block] = []
        """Of text boxes in the paragraph that is open: they follow it."""
        self._pictures: list[int] = []
        """How many text boxes there were when each open drawing began: those with a box in them are not pictures."""
        self._n_boxes = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if (self._skipper.depth or tag in LEFT_OUT) and self._skipper.start(LEFT_OUT.get(tag)):
            return
        if tag == "w:t":
            self._is_text = True
            italic = self._run.italic
            self.paragraphs.set_italic(bool(self._look(self._style).italic if italic is None else italic))
        elif tag == "w:p":
            self._own, self._style, self._is_item = _Style(), self.styles.usual, False
        elif tag == "w:pStyle":
            self._style = attributes.get("w:val", "")
        elif tag == "w:numId":
            self._is_item = attributes.get("w:val") != "0"
        elif tag == "w:r":
            self._run, self._in_run, self._is_hidden = _Style(), True, False
        elif tag == "w:rStyle":
            self._run.italic = self._look(attributes.get("w:val", "")).italic
        elif tag in ("w:vanish", "w:webHidden"):
            self._is_hidden = self._in_run and attributes.get("w:val", "") not in OFF
        elif tag in ("w:i", "w:spacing", "w:contextualSpacing"):
            _set(self._run if self._in_run else self._own, tag, attributes)
        else:
            self._add_sign(tag, attributes)

    def _add_sign(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in ("w:br", "w:cr") and attributes.get("w:type", "textWrapping") == "textWrapping":
            self.paragraphs.break_line()
        elif tag == "w:tab" and self._in_run:
            self.paragraphs.add_tab()
        elif tag == "w:noBreakHyphen":
            self.paragraphs.add("-")
        elif tag == "w:tr":
            self.paragraphs.start_row()
        elif tag in PICTURES:
            self._pictures.append(self._n_boxes)
        elif tag == TEXT_BOX:
            self._n_boxes += 1
            self._outer.append(_Place(self.paragraphs, self._own, self._run, self._style, self._is_item, self._boxes))
            self.paragraphs, self._boxes, self._in_run = ParagraphText(), [], False

    def end(self, tag: str) -> None:
        """An element ends."""
        if self._skipper.depth:
            self._skipper.end()
        elif tag == "w:t":
            self._is_text = False
        elif tag == "w:r":
            self._in_run = False
        elif tag == "w:p":
            self._end_paragraph()
        else:
            self._end_group(tag)

    def _end_group(self, tag: str) -> None:
        """A part of a table, a drawing or a text box ends."""
        if tag == "w:tc":
            self.paragraphs.end_cell()
        elif tag == "w:tr":
            self.paragraphs.end_row()
        elif tag in PICTURES and self._pictures:
            if self._pictures.pop() == self._n_boxes:
                self.context.drops.add("images")
        elif tag == TEXT_BOX and self._outer:
            self._end_box(self._outer.pop())

    def _end_box(self, outer: _Place) -> None:
        """Go on with the paragraph that a text box is in."""
        blocks = self.paragraphs.blocks
        self.paragraphs, self._own, self._run, self._style, self._is_item, self._boxes = outer
        self._boxes += blocks
        self._in_run, self._is_hidden = True, False

    def data(self, text: str) -> None:
        """Characters."""
        if self._skipper.depth:
            self._skipper.data(text)
        elif self._is_text and self._is_hidden:
            self.context.drops.add("hidden parts", text)
        elif self._is_text:
            self.paragraphs.add(text)

    def _look(self, name: str) -> _Style:
        if name not in self._looks:
            self._looks[name] = self.styles.resolve(name)
        return self._looks[name]

    def _end_paragraph(self) -> None:
        look, own = self._look(self._style), self._own
        if look.name.startswith(("toc ", "contents ", "table of ")):
            self.context.drops.add("tables of contents", self.paragraphs.take())
            return
        boxes, self._boxes = self._boxes, []
        if boxes and not self.paragraphs.has_text():  # it is there only to have the box in it
            self.paragraphs.take()
            self.paragraphs.add_blocks(boxes)
            return
        self.paragraphs.end(
            ParagraphLook(
                style=self._style,
                before=own.before if own.before is not None else look.before or 0.0,
                after=own.after if own.after is not None else look.after or 0.0,
                joins_like=bool(look.joins_like if own.joins_like is None else own.joins_like),
                is_item=self._is_item and not look.name.startswith("heading"),
            )
        )
        if boxes:
            self.paragraphs.add_blocks(boxes)
