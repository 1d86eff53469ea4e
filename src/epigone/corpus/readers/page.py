"""A web page as a flat list of its elements' beginnings, texts and ends, found in time that grows with its length only.

Tags are read as browsers read them, and missing end tags are supplied as far as text needs it. No tree is built: the
rules for trees let a page of half a megabyte take minutes (100,000 nested elements), or become a thousand times larger
(open italics are opened again in every paragraph).
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from epigone.corpus.readers.limits import DEEPEST_ELEMENTS, Limits

TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+)*+)>")
"""A quotation mark counts only after =, and only if it is closed."""
SHORT_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)([^>]*+)>")
"""Without regard to quotation marks: for what follows a tag that never ends."""
ATTRIBUTE = re.compile(r"([^\s=/>\"']++)(?:\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>]*+)))?+")
RAW = frozenset(("script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"))
"""Elements in which no tags are read but their own end."""
VOID = frozenset(("br", "hr", "img", "input", "link", "meta", "wbr", "col", "area", "base", "embed", "source", "track"))
SPACED = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "ul", "ol", "dl", "table", "figure"))
BLOCKS = SPACED | {
    *("div", "section", "article", "main", "header", "footer", "aside", "nav", "body", "html", "address", "center"),
    *("li", "tr", "dt", "dd", "caption", "figcaption", "details", "summary", "form", "fieldset", "hgroup", "title"),
}
"""Elements that begin and end a line; those in `SPACED` have space around them."""
ENDS_BEFORE = {
    "li": ("li",),
    "dt": ("dt", "dd"),
    "dd": ("dt", "dd"),
    "tr": ("tr", "td", "th"),
    "td": ("td", "th"),
    "th": ("td", "th"),
    "option": ("option",),
    "rt": ("rt", "rp"),
    "rp": ("rt", "rp"),
    "body": ("head",),
}
"""Elements that end before another one of a kind begins."""
SUPPLIES = BLOCKS | {*ENDS_BEFORE, "a"}
"""Elements before which others may end."""
WALLS = frozenset(("td", "th", "table", "ul", "ol", "dl", "html", "body"))
"""Elements that an end tag of something else does not reach out of."""
MOST_DIGITS = re.compile(r"&#(?:[0-9]{8,}|[xX][0-9a-fA-F]{7,});?")


@dataclass(slots=True, eq=False)
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    parent: Element | None
    first: int
    """Number of the step after its beginning."""
    end: int = 0
    """Number of the step that is its end."""
    n_text: int = 0
    """Characters in it without white space, scripts and styles."""
    n_linked: int = 0
    """Of these, characters in links."""
    n_links: int = 0


@dataclass(slots=True, eq=False)
class End:
    """The end of an element."""

    element: Element


Step = Element | str | End
"""The beginning of an element, a text, or the end of an element."""


@dataclass(slots=True)
class Page:
    """All steps of a page in reading order. Every element that begins also ends."""

    steps: list[Step] = field(default_factory=list)
    elements: list[Element] = field(default_factory=list)

    def find(self, *tags: str) -> Iterator[Element]:
        """All elements of these names."""
        return (element for element in self.elements if element.tag in tags)

    def read_text(self, element: Element) -> str:
        """All text in an element, with single spaces."""
        found = (step for step in self.steps[element.first : element.end] if isinstance(step, str))
        return " ".join(" ".join(found).split())


def unescape(text: str) -> str:
    """Text with characters in place of their names and numbers."""
    if "&" not in text:
        return text
    return html.unescape(MOST_DIGITS.sub("\ufffd", text) if "&#" in text else text)


def parse_page(source: str, limits: Limits) -> Page:
    """The steps of a page, whatever is wrong with it."""
    return _Parser(source, limits).parse()


class _Parser:
    """Reads tag after tag, and keeps the elements that have begun and not ended."""

    def __init__(self, source: str, limits: Limits) -> None:
        self.source, self.limits, self.page = source, limits, Page()
        self._open: list[Element] = []
        self._counts = defaultdict[str, int](int)
        self._ends = self._can_end = True
        """Whether there may be a "-->" and a ">" further on: each is searched for in vain only once."""
        self._tag = TAG

    def parse(self) -> Page:
        source, position, find = self.source, 0, self.source.find
        while (start := find("<", position)) >= 0:
            if start > position:
                text = source[position:start]
                self._add_text(unescape(text) if "&" in text else text)
            position = self._read_tag(start)
        self._add_text(unescape(source[position:]))
        while self._open:
            self._end_last()
        return self.page

    def _read_tag(self, start: int) -> int:
        """Read what begins with "<", and return where it ends."""
        match = (self._tag.match(self.source, start) if self._can_end else None) or self._match_tag(start)
        if match:
            slash, name, attributes = match.groups()
            name = name.lower()
            if slash:
                self._end(name)
            else:
                self._start(name, attributes)
                if name in RAW:
                    return self._read_raw(name, match.end())
            return match.end()
        following = self.source[start + 1 : start + 2]
        if following and following in "!?/":
            return self._skip_comment(start)
        self._add_text("<")
        return start + 1

    def _match_tag(self, start: int) -> re.Match[str] | None:
        if not self._can_end:
            return None
        if match := self._tag.match(self.source, start):
            return match
        if not self.source[start + 1 : start + 3].lstrip("/")[:1].isalpha():
            return None
        if self._tag is TAG:
            self._tag = SHORT_TAG
            return self._match_tag(start)
        self._can_end = False
        return None

    def _skip_comment(self, start: int) -> int:
        if self._ends and self.source.startswith("<!--", start):
            end = self.source.find("-->", start + 2)
            if end >= 0:
                return end + 3
            self._ends = False
        end = self.source.find(">", start, start + 4096)
        return end + 1 if end >= 0 else start + 2

    def _read_raw(self, name: str, start: int) -> int:
        """The text of an element without tags in it, up to its end tag or the end of the page."""
        end = re.compile(rf"</{re.escape(name)}(?=[\s/>])", re.I).search(self.source, start)
        stop = end.start() if end else len(self.source)
        text = self.source[start:stop]
        self._add_text(unescape(text) if name in ("title", "textarea") else text)
        return stop

    def _add_text(self, text: str) -> None:
        if not text:
            return
        self.page.steps.append(text)
        if not self._open or text in (" ", "\n"):
            return
        above = self._open[-1]
        if above.tag not in ("script", "style"):
            n = len(text) - text.count(" ") - text.count("\n") - text.count("\t") - text.count("\r")
            above.n_text += n
            if self._counts["a"]:
                above.n_linked += n

    def _start(self, name: str, attributes: str) -> None:
        if name in SUPPLIES:
            self._supply_ends(name)
        steps, elements, opened, is_void = self.page.steps, self.page.elements, self._open, name in VOID
        if not is_void and len(opened) >= DEEPEST_ELEMENTS:
            return  # no text needs more, and it stays a part of what it is in
        if not len(elements) % 1024:
            self.limits.check_time()
        place = len(steps) + 1
        found = _read_attributes(attributes) if attributes else {}
        element = Element(name, found, opened[-1] if opened else None, place, place)
        elements.append(element)
        steps.append(element)
        if is_void:
            steps.append(End(element))
            return
        opened.append(element)
        self._counts[name] += 1

    def _supply_ends(self, name: str) -> None:
        """End the elements that cannot have this one in them."""
        if name in BLOCKS and self._counts["p"]:
            self._end("p")
        for earlier in ENDS_BEFORE.get(name, ()):
            if self._counts[earlier]:
                self._end(earlier, inside=("table", "ul", "ol", "dl"))
        if name == "a" and self._counts["a"]:
            self._end("a")

    def _end(self, name: str, inside: tuple[str, ...] = ()) -> None:
        """End an element of this name, and those in it, unless there is none or it is behind a wall."""
        if not self._counts[name]:
            return
        if self._open[-1].tag == name:  # as in most pages always
            self._end_last()
            return
        for number in range(len(self._open) - 1, -1, -1):
            tag = self._open[number].tag
            if tag == name:
                break
            if tag in (inside or WALLS) and not (name in WALLS or name == "tr"):
                return
            if inside and tag in inside:
                return
        while len(self._open) > number:
            self._end_last()

    def _end_last(self) -> None:
        element = self._open.pop()
        self._counts[element.tag] -= 1
        element.end = len(self.page.steps)
        self.page.steps.append(End(element))
        if self._open:
            above = self._open[-1]
            above.n_text += element.n_text
            above.n_linked += element.n_linked
            above.n_links += element.n_links + (element.tag == "a" and "href" in element.attributes)


def _read_attributes(source: str) -> dict[str, str]:
    if "=" not in source and not source.strip(" \t\r\n/"):
        return {}
    found: dict[str, str] = {}
    for match in ATTRIBUTE.finditer(source):
        found.setdefault(match[1].lower(), unescape(match[2] or match[3] or match[4] or ""))
    return found


def walk(page: Page, root: Element | None, is_left_out: Callable[[Element], bool]) -> Iterator[Step]:
    """The steps of an element, itself included, or of the whole page, without the elements that are left out."""
    number, last = (root.first - 1, root.end + 1) if root else (0, len(page.steps))
    steps = page.steps
    while number < last:
        step = steps[number]
        if type(step) is Element and is_left_out(step):
            number = step.end + 1
            continue
        yield step
        number += 1
