"""E-books (EPUB 2 and 3): the chapters in reading order, without covers, contents, notes and what shops put around."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from epigone.corpus.readers.css import StyleSheet
from epigone.corpus.readers.html import decode_page
from epigone.corpus.readers.layout import Block, join_blocks
from epigone.corpus.readers.markup import MarkupText
from epigone.corpus.readers.page import Page, parse_page
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.xml import XmlDamaged, parse_xml
from epigone.corpus.readers.zipped import ZippedParts, open_zip, resolve
from epigone.errors import TextUnreadable

CONTAINER = "META-INF/container.xml"
PAGES = ("application/xhtml+xml", "text/html", "application/xml", "text/xml")
LEFT_OUT = {
    "cover": "covers",
    "cover-page": "covers",
    "title-page": "title pages",
    "titlepage": "title pages",
    "halftitlepage": "title pages",
    "toc": "tables of contents",
    "nav": "tables of contents",
    "loi": "tables of contents",
    "lot": "tables of contents",
    "landmarks": "tables of contents",
    "copyright-page": "licences and imprints",
    "imprint": "licences and imprints",
    "colophon": "licences and imprints",
    "index": "indexes",
    "notes": "footnotes",
    "footnotes": "footnotes",
    "endnotes": "footnotes",
    "rearnotes": "footnotes",
    "bibliography": "bibliographies",
    "acknowledgments": "acknowledgements",
    "advertisement": "advertisements",
    "other-credits": "licences and imprints",
    "uncopyright": "licences and imprints",
}
"""What whole pages are, by guide references and epub:type."""
IMPRINT = re.compile(r"(?:all rights reserved|\bISBN\b|©|copyright (?:©|\(c\)|\d{4}))", re.I)
LONGEST_IMPRINT = 4_000
"""Characters of a page that says whose the rights are and is nothing else."""
NOTES_HEADING = re.compile(r"\W*(?:(?:foot|end)?notes?|anmerkungen|fußnoten|notas|примечания)\W*", re.I)
LONGEST_HEADING = 60
PARTS = ("body", "section", "div", "aside", "article")
"""Elements that are left out by their epub:type or role."""
LOOKED_AT = frozenset(("link", "style", *PARTS))
"""Elements with which more is done than with those of any page."""
PROTECTED = "META-INF/encryption.xml"
FONTS = re.compile(rb"(?:idpf\.org/2008/embedding|ns\.adobe\.com/pdf/enc)")


def recognise(beginning: Beginning) -> bool:
    """A zip archive that says so in its first part, or has the part where an e-book's contents are named."""
    return b"application/epub+zip" in beginning.head[:200] or CONTAINER in beginning.zip_names


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a book."""
    with open_zip(file, context.limits) as parts:
        if PROTECTED in parts and not FONTS.search(parts.read(PROTECTED)):
            raise TextUnreadable(
                f"{context.name} is protected by digital rights management (DRM).",
                hint="Give a file without protection.",
            )
        yield _Book(parts, context).read()


EPUB = Format(name="epub", title="an e-book (EPUB)", suffixes=(".epub",), begins="p", recognise=recognise, read=read)


@dataclass(slots=True)
class Package:
    """What an e-book says of itself and of its parts; tells itself from its XML."""

    title: str = ""
    author: str = ""
    date: str = ""
    items: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """By its id: reference, media type and properties of each part."""
    spine: list[str] = field(default_factory=list)
    """Ids in reading order."""
    guide: dict[str, str] = field(default_factory=dict)
    """References of pages that have a known purpose."""
    _text: list[str] = field(default_factory=list)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._text = []
        if tag == "item":
            self.items[attributes.get("id", "")] = (
                attributes.get("href", ""),
                attributes.get("media-type", ""),
                attributes.get("properties", ""),
            )
        elif tag == "itemref":
            self.spine.append(attributes.get("idref", ""))
        elif tag == "reference" and "#" not in attributes.get("href", ""):  # else it is a part of a page
            self.guide[attributes.get("href", "")] = attributes.get("type", "").lower()

    def data(self, text: str) -> None:
        """Characters."""
        self._text.append(text)

    def end(self, tag: str) -> None:
        """An element ends."""
        text = " ".join("".join(self._text).split())
        if tag == "dc:title":
            self.title = self.title or text
        elif tag == "dc:creator":
            self.author = ", ".join(filter(None, (self.author, text)))
        elif tag == "dc:date":
            self.date = self.date or text[:10]


class _Finder:
    """Finds where the package is."""

    path = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "rootfile" and not self.path:
            self.path = attributes.get("full-path", "")

    def end(self, tag: str) -> None: ...

    def data(self, text: str) -> None: ...


class _Book:
    """Reads the chapters of an open e-book."""

    def __init__(self, parts: ZippedParts, context: ReadContext) -> None:
        self.parts, self.context, self.package = parts, context, Package()
        self._no_sheet = StyleSheet({})
        self._sheets: dict[tuple[StyleSheet, str], StyleSheet] = {}
        """By what came before each and by its name: pages with the same ones share what is known of their elements."""
        finder = _Finder()
        self._parse(CONTAINER, finder)
        self.path = posixpath.normpath(finder.path) if finder.path else next(self._find(".opf"), "")
        if self.path not in parts:
            raise self._damaged("it does not say what its chapters are")
        self._parse(self.path, self.package)

    def _find(self, ending: str) -> Iterator[str]:
        return (name for name in self.parts.names if name.lower().endswith(ending))

    def _parse(self, name: str, handler: Package | _Finder) -> None:
        if name not in self.parts:
            return
        try:
            parse_xml(self.parts.stream(name), handler, self.context.limits)
        except XmlDamaged as error:
            raise self._damaged(f"{name}: {error}") from None

    def _damaged(self, why: str) -> TextUnreadable:
        return TextUnreadable(
            f"{self.context.name} is a damaged e-book: {why}.", hint="Open it in Calibre, and convert it to EPUB again."
        )

    def read(self) -> ParsedDocument:
        package, blocks = self.package, list[Block]()
        for number, (name, what) in enumerate(self._list_pages()):
            if name in self.parts:
                blocks += self._read_page(name, what, is_outer=number == 0)
        return ParsedDocument(text=join_blocks(blocks), title=package.title, author=package.author, date=package.date)

    def _list_pages(self) -> Iterator[tuple[str, str]]:
        """The names of the pages in reading order, and what those are that are left out."""
        guide = {resolve(self.path, reference): what for reference, what in self.package.guide.items()}
        seen = set[str]()
        for identifier in self.package.spine or list(self.package.items):
            reference, media_type, properties = self.package.items.get(identifier, ("", "", ""))
            name = resolve(self.path, reference)
            if name in seen or (media_type and media_type not in PAGES):
                continue
            seen.add(name)
            yield name, LEFT_OUT.get("nav" if "nav" in properties.split() else guide.get(name, ""), "")

    def _read_page(self, name: str, what: str, *, is_outer: bool) -> list[Block]:
        """The blocks of a page; none if it is left out, which is noted."""
        page = _PageReader(self.context, self._no_sheet, lambda one, link: self._add_sheet(one, resolve(name, link)))
        try:
            parse_xml(self.parts.stream(name), page, self.context.limits)
        except XmlDamaged:
            page = _PageReader(self.context, self._no_sheet, page.add_sheet)
            source = decode_page(self.parts.read(name), self.context)
            page.add_page(parse_page(source, self.context.limits))
        blocks = page.finish()
        text = _join_text(blocks)
        what = what or _find_imprint(text)
        if not what and page.has_only_notes(text):
            page.note_drops()
            what = "footnotes"
        if not what and is_outer and not text:
            what = "covers"
        if what and (text or what == "covers"):
            self.context.drops.add(what, text)
            return []
        page.note_drops()
        blocks = page.leave_out(blocks)
        return [Block(""), *blocks] if blocks else []

    def _add_sheet(self, before: StyleSheet, name: str) -> StyleSheet:
        """A page's style sheets so far, and the next one."""
        if (before, name) not in self._sheets:
            text = self.parts.read(name).decode("utf-8", "replace") if name in self.parts else ""
            self._sheets[before, name] = before.join(StyleSheet.parse(text))
        return self._sheets[before, name]


class _PageReader:
    """Reads one page of a book: style sheets in its head, then the text of its body."""

    def __init__(
        self, context: ReadContext, sheet: StyleSheet, add_sheet: Callable[[StyleSheet, str], StyleSheet]
    ) -> None:
        """`add_sheet` joins what came before with a sheet that the page links to."""
        self.sheet, self.add_sheet = sheet, add_sheet
        self.context = ReadContext(name=context.name, settings=context.settings, limits=context.limits)
        self._outer = context
        self._open: list[tuple[int, str, int]] = []
        """Parts that will be left out: how deep they are, what they are, and where they begin among the blocks."""
        self._parts: list[tuple[str, int, int]] = []
        self._markup = MarkupText(self.context, sheet)
        self._style_start = 0
        self.data, self._start, self._end = self._markup.data, self._markup.start, self._markup.end

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if tag not in LOOKED_AT:  # as nearly all
            self._start(tag, attributes)
            return
        if tag == "link" and "stylesheet" in attributes.get("rel", "") and attributes.get("href"):
            self._change_sheet(self.add_sheet(self.sheet, attributes["href"]))
        self._markup.start(tag, attributes)
        if tag == "style":
            self._style_start = len(self._markup.skipped)
        elif attributes and tag in PARTS and not self._open:
            kinds = (attributes.get("epub:type") or attributes.get("role") or "").replace("doc-", "").split()
            what = next((LEFT_OUT[kind] for kind in kinds if kind in LEFT_OUT), "")
            if what:
                self._open.append((self._markup.depth, what, len(self._markup.blocks)))

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag == "style":
            rules = "".join(self._markup.skipped[self._style_start :])
            self._change_sheet(self.sheet.join(StyleSheet.parse(rules)))
        if not self._open:  # as in nearly all pages always
            self._end(tag)
            return
        depth = self._markup.depth
        self._markup.end(tag)
        if self._open[-1][0] == depth > self._markup.depth:
            _, what, start = self._open.pop()
            self._parts.append((what, start, len(self._markup.blocks)))

    def _change_sheet(self, sheet: StyleSheet) -> None:
        self.sheet = self._markup.looks = sheet

    def add_page(self, page: Page) -> None:
        """All of a page that is not XML."""
        for step in page.steps:
            if isinstance(step, str):
                self.data(step)
            elif hasattr(step, "element"):
                self.end(step.element.tag)
            else:
                self.start(step.tag, step.attributes)

    def finish(self) -> list[Block]:
        """The blocks of the page."""
        return self._markup.finish()

    def leave_out(self, blocks: list[Block]) -> list[Block]:
        """The blocks without the parts that are left out by their epub:type, which are noted: often all of them."""
        for what, start, end in reversed(self._parts):
            text = _join_text(blocks[start:end])
            if text:
                self._outer.drops.add(what, text)
            blocks = [*blocks[:start], *blocks[end:]]
        return blocks if any(block.text.strip() for block in blocks) else []

    def has_only_notes(self, text: str) -> bool:
        """Whether nothing but a heading is left of a page of notes, which were left out."""
        is_heading = len(text) <= LONGEST_HEADING and NOTES_HEADING.fullmatch(text)
        return bool(is_heading) and any(part.what == "footnotes" for part in self.context.drops.list())

    def note_drops(self) -> None:
        """Note what was left out inside the page, for the page itself is read."""
        for part in self.context.drops.list():
            self._outer.drops.add_counted(part)


def _join_text(blocks: Iterable[Block]) -> str:
    return "\n".join(block.text for block in blocks).strip()


def _find_imprint(text: str) -> str:
    """What a short page is that says who has the rights."""
    is_imprint = len(text) <= LONGEST_IMPRINT and len(IMPRINT.findall(text)) >= 2
    return "licences and imprints" if is_imprint else ""
