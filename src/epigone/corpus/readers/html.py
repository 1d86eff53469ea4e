"""Web pages and HTML files: the article's text, without what is around it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from epigone.corpus.encoding import BYTE_ORDER_MARKS
from epigone.corpus.readers.article import Article
from epigone.corpus.readers.layout import join_blocks
from epigone.corpus.readers.markup import MarkupText
from epigone.corpus.readers.page import Page, parse_page
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext

MOST_PAGE_BYTES = 1 << 25
"""The parsed page takes several times as much memory."""
CHARSET = re.compile(rb"<(?:meta\b[^>]{0,200}?charset|\?xml[^>]{0,100}?encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
PAGE_START = re.compile(rb"(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.S)
ELEMENT = re.compile(rb"</?(?:p|div|body|html|br|span|h[1-6]|table|a|title|article)\b[^>]*>")
AS_BROWSERS_DO = {"iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}


def recognise(beginning: Beginning) -> bool:
    """A page that says so at its beginning, or a file named .html with elements in it."""
    if PAGE_START.match(beginning.markup):
        return True
    return beginning.suffix in HTML.suffixes and len(ELEMENT.findall(beginning.head.replace(b"\0", b"").lower())) >= 2


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """The one document of a page."""
    page = parse_page(decode_page(context.limits.read_part(file, MOST_PAGE_BYTES), context), context.limits)
    yield ParsedDocument(
        text=read_article(page, context),
        title=_find_title(page),
        author=_find_meta(page, "author", "article:author", "dc.creator"),
        date=_find_meta(page, "article:published_time", "date", "dc.date", "datepublished"),
    )


HTML = Format(
    name="html",
    title="a web page (HTML)",
    suffixes=(".html", ".htm", ".xhtml"),
    recognise=recognise,
    read=read,
)


def decode_page(data: bytes, context: ReadContext) -> str:
    """The text of a page, in the encoding that was asked for, that its mark or its head names, or that is detected.

    Raises TextUnreadable or TextTooShort.
    """
    encoding = context.settings.encoding
    declared = CHARSET.search(data[:4096])
    is_marked = data.startswith(tuple(mark for mark, _ in BYTE_ORDER_MARKS))
    if encoding == "auto" and declared and not is_marked:
        name = declared[1].decode("ascii", "replace").lower()
        try:
            codec = codecs.lookup(AS_BROWSERS_DO.get(name, name)).name
            if not codec.startswith(("utf-16", "utf-32")):
                return data.decode(codec)
        except (LookupError, ValueError, TypeError):
            pass  # it names none, or another than it has
    return context.decode(data)


def read_article(page: Page, context: ReadContext) -> str:
    """The text of a page's article."""
    markup = MarkupText(context)
    markup.add_all(Article(page, context.drops).walk())
    return join_blocks(markup.finish())


def _find_title(page: Page) -> str:
    found = next(page.find("title"), None)
    return _find_meta(page, "og:title", "dc.title") or (page.read_text(found) if found else "")


def _find_meta(page: Page, *names: str) -> str:
    for meta in page.find("meta"):
        name = meta.attributes.get("name") or meta.attributes.get("property") or meta.attributes.get("itemprop") or ""
        if name.lower() in names and (content := meta.attributes.get("content")):
            return " ".join(content.split())
    return ""
