"""Blogs in one XML file: exports of WordPress and Blogger, and feeds (RSS, Atom); each post is a document."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import BinaryIO

from epigone.corpus.readers.layout import join_blocks
from epigone.corpus.readers.limits import MOST_PART_BYTES
from epigone.corpus.readers.markup import MarkupText
from epigone.corpus.readers.page import parse_page, walk
from epigone.corpus.readers.reader import Beginning, Format, ParsedDocument, ReadContext
from epigone.corpus.readers.xml import parse_file

START = re.compile(rb"<(?:rss|feed|rdf:rdf)\b")
EXPORTS = (b"wordpress.org/export/", b"schemas.google.com/blogger", b"<generator>blogger")
ATOM = "http://www.w3.org/2005/Atom:"
POSTS, AUTHORS = ("item", "entry"), ("creator", "name")
TEXTS = ("http://purl.org/rss/1.0/modules/content/:encoded", "content", "description", "summary")
"""The names of elements with a post's text, the whole before a summary."""
DATES = ("post_date", "pubDate", "date", "published", "updated")
OTHERS = {"attachment": "pictures and files", "nav_menu_item": "menus", "comment": "comments", "settings": "settings"}
"""What an export has beside posts and pages, as it calls it, and what the receipt calls it."""
DRAFTS = ("draft", "auto-draft", "pending", "trash")
PARAGRAPH = re.compile(r"<(?:p|div|br)\b", re.I)
SHORTCODE = re.compile(r"\[/?(?:audio|caption|embed|gallery|playlist|video)\b[^\]\n]{0,500}\]")
"""WordPress's marks for what is put in there."""


def recognise_export(beginning: Beginning) -> bool:
    """A feed that WordPress or Blogger made to keep a whole blog in."""
    return recognise_feed(beginning) and any(mark in beginning.head[:16_384].lower() for mark in EXPORTS)


def recognise_feed(beginning: Beginning) -> bool:
    """An XML file whose first element says so."""
    found = START.search(beginning.markup)
    return found is not None and beginning.markup.startswith((b"<?xml", b"<!--", found[0]))


def read(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
    """A document for each post."""
    feed = _Feed(context)
    parse_file(file, feed, context)
    yield from feed.documents


EXPORT = Format(
    name="blog",
    title="a blog exported by WordPress or Blogger",
    suffixes=(".xml", ".atom"),
    begins="<",
    recognise=recognise_export,
    read=read,
)
FEED = Format(
    name="feed",
    title="a feed (RSS or Atom)",
    suffixes=(".rss", ".atom"),
    begins="<",
    recognise=recognise_feed,
    read=read,
    only_named=True,  # of a site's folder, whose pages have the same posts
)


class _Feed:
    """Reads the elements of a feed."""

    def __init__(self, context: ReadContext) -> None:
        self.context, self.documents = context, list[ParsedDocument]()
        self._path: list[str] = []
        self._fields: dict[str, str] | None = None
        """Of the post that is being read, by the names of its elements."""
        self._text: list[str] = []
        self._n_characters = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        tag = tag.removeprefix(ATOM)
        self._path.append(tag)
        if tag in POSTS and self._fields is None:
            self._fields = {}
        elif self._fields is not None and "content" in self._path[:-1]:
            self._text.append(f"<{tag}>")  # of Atom, which may have the page's elements in it
            return
        elif tag == "category" and self._fields is not None and attributes.get("scheme", "").endswith("#kind"):
            self._fields["post_type"] = attributes.get("term", "").rpartition("#")[2]
        self._text = []

    def end(self, tag: str) -> None:
        """An element ends."""
        tag = tag.removeprefix(ATOM)
        if self._path:
            self._path.pop()
        if self._fields is None:
            return
        if "content" in self._path:
            self._text.append(f"</{tag}>")
        elif tag in POSTS:
            self._end_post(self._fields)
            self._fields = None
        else:
            name = tag if tag in TEXTS else tag.rpartition(":")[2]
            self._fields.setdefault(name, "".join(self._text))
            self._text = []

    def data(self, text: str) -> None:
        """Characters."""
        if self._fields is not None:
            self._n_characters += len(text)
            if self._n_characters > MOST_PART_BYTES:
                raise self.context.limits.refuse(f"it has more than {MOST_PART_BYTES >> 20:,} MB of text")
            is_nested = "content" in self._path[:-1]
            self._text.append(html.escape(text, quote=False) if is_nested else text)

    def _end_post(self, fields: dict[str, str]) -> None:
        kind, text = fields.get("post_type", "post"), next((fields[name] for name in TEXTS if fields.get(name)), "")
        if kind not in ("post", "page"):
            self.context.drops.add(OTHERS.get(kind, "settings and other parts"), fields.get("title", ""))
        elif fields.get("status") in DRAFTS:
            self.context.drops.add("drafts", fields.get("title", ""))
        elif content := self._read_page(text):
            title = " ".join(html.unescape(fields.get("title", "")).split())
            author = next((" ".join(fields[name].split()) for name in AUTHORS if name in fields), "")
            self.documents.append(ParsedDocument(text=content, title=title, author=author, date=_find_date(fields)))

    def _read_page(self, source: str) -> str:
        """The text of a post, which is HTML, or WordPress's form of it, in which blank lines divide paragraphs."""
        source = SHORTCODE.sub(self._drop_shortcode, source)
        if not PARAGRAPH.search(source):
            source = "<p>" + re.sub(r"\n[ \t]*\n\s*", "<p>", source.strip()).replace("\n", "<br>")
        page, markup = parse_page(source, self.context.limits), MarkupText(self.context)
        markup.add_all(walk(page, None, lambda element: False))
        return join_blocks(markup.finish())

    def _drop_shortcode(self, found: re.Match[str]) -> str:
        self.context.drops.add("marks of pictures and players", found[0])
        return ""


def _find_date(fields: dict[str, str]) -> str:
    date = next((" ".join(fields[name].split()) for name in DATES if fields.get(name)), "")
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        return parsedate_to_datetime(date).date().isoformat()
    return date[:10]
