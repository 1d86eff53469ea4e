"""Finds the article in a web page: without menus, side columns, comments and the like, each noted as left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from epigone.corpus.readers.page import Element, Page, Step, walk
from epigone.corpus.readers.reader import DropLog

FURNITURE = {
    "nav": "navigation",
    "header": "page headers",
    "footer": "page footers",
    "aside": "side columns",
    "form": "forms",
}
"""Elements around an article that are not part of it."""
ROLES = {
    "navigation": "navigation",
    "banner": "page headers",
    "contentinfo": "page footers",
    "complementary": "side columns",
    "search": "forms",
    "menu": "navigation",
    "dialog": "dialogs",
}
NAMES = {
    "comments": "comments?|comment-?(?:list|form|section|area|thread)|respond|disqus",
    "navigation": "nav|navbar|navigation|menu|breadcrumbs?|pager|pagination",
    "side columns": (
        "sidebar|widget|(?:jp-)?related(?:-?(?:posts?|articles?|stories|links?|content|topics?))?|recommended|recommendations?"
        "|see-?also|read-?(?:next|also)|more-?(?:posts?|articles?|stories|news)|outbrain|taboola|most-?(?:read|popular)"
        "|(?:recent|latest|popular|trending)-?(?:posts?|articles?|stories|news)"
    ),
    "share buttons": "share|sharing|sharedaddy|addthis|social|follow-us|newsletter|subscribe|signup",
    "banners": "cookies?|consent|banner|advert|ads?|promo|sponsor",
    "bylines": "byline|(?:post|entry|article)-?(?:meta|tags?|date|categories)|author-?(?:bio|box|info|card)|tag-?list",
    "page footers": "footer|site-footer|page-footer|copyright",
    "page headers": "site-header|page-header|masthead|skip-link",
    "tables of contents": "toc|table-of-contents",
}
NAMED = tuple((what, re.compile(rf"(?:^|[-_\s])(?:{words})(?:$|[-_\s])", re.I)) for what, words in NAMES.items())
"""What a block is by its class or id, as common sites name them."""
HIDDEN = re.compile(r"(?:^|\s)(?:landmark|sr-only|screen-?reader(?:-text|-only)?|visually-?hidden)(?:$|\s)", re.I)
"""What is only for those who have pages read to them."""
NEVER = frozenset(("html", "body", "main", "article", "p", "span", "b", "em", "i", "a"))
"""Elements that are read whatever their class is."""
ARTICLES: tuple[Callable[[Element], bool], ...] = (
    lambda element: element.tag == "main" or element.attributes.get("role") == "main",
    lambda element: element.tag == "article",
    lambda element: element.attributes.get("itemprop") == "articleBody",
    lambda element: element.attributes.get("id") == "content",
)
"""How a page marks its article."""
MARKED = ("main", "article")
"""Elements that mark one without attributes."""
SHARE_OF_ARTICLE = 0.4
"""Of the page's text: an element that is marked as the article and has less is a teaser."""
BODY = re.compile(
    r"(?:^|\s)(?:e-content|(?:entry|post|article|story|chapter|blog|blog-post|blogpost|gh|news)(?:-|_|__)(?:content|body|text|entry)"
    r"|(?:entry|post|article|story|chapter)(?:Body|Content)|post-?body|available-content|userstuff|storytext)(?:$|\s)",
    re.I,
)
BODIES: tuple[Callable[[Element], bool], ...] = (
    lambda element: element.attributes.get("itemprop") == "articleBody",
    lambda element: bool(BODY.search(element.attributes.get("class", ""))),
    lambda element: bool(BODY.search(element.attributes.get("id", ""))),
)
"""How an article marks its own text: by schema.org, microformats, and the names that common programs give it."""
SHARE_OF_BODY = 0.3
"""Of the article's text outside links."""
SHARE_OF_ALIKE = 0.8
"""Of the text in all elements that are marked so."""
SHARE_OF_LINKS, FEWEST_LINKS = 0.7, 3
"""A list or table in which so much of the text is links leads elsewhere."""
LONGEST_PART, SHARE_OF_PART = 2_000, 0.2
"""Characters, and share of the page: a block with more than both is text, whatever its class."""


COMMENT = re.compile(
    r"(?:^|\s)(?:[\w-]{1,20}[-_])?comment(?:[-_]?\d{1,12}|[-_](?:body|content|text|item|entry))?(?:$|\s)", re.I
)
"""One comment, by its class or id."""
FEWEST_COMMENTS, SHORTEST_TEXT = 2, 500
"""In an element of comments, and characters before it without white space: on a page with less they are its text."""
MOST_TRIED, MOST_ABOVE = 5, 20
"""Of a page, so that one of many such elements in each other takes no time."""


class Article:
    """The article of a page, and what is left out around it and in it."""

    def __init__(self, page: Page, drops: DropLog) -> None:
        self.page, self.drops = page, drops
        self.root = self._choose()
        self._n_tried = 0
        """Elements that were looked at for comments in them."""

    def walk(self) -> Iterator[Step]:
        """What is in it, in reading order."""
        return walk(self.page, self.root, self._is_left_out)

    def _choose(self) -> Element | None:
        """The element that says that it is the article, if it has a good part of the text, else the whole page."""
        body = next(self.page.find("body"), None) or next(self.page.find("html"), None)
        n_all = sum(element.n_text for element in self.page.elements if element.parent is None)
        perhaps = [element for element in self.page.elements if element.attributes or element.tag in MARKED]
        for is_marked in ARTICLES:
            found = [element for element in perhaps if is_marked(element)]
            if len(found) == 1 and found[0].n_text >= SHARE_OF_ARTICLE * n_all:
                body = found[0]
                break
        return self._choose_inner(body, perhaps) if body else None

    def _choose_inner(self, root: Element, perhaps: Sequence[Element]) -> Element:
        """The element in it that says that it is the article's text, without title, byline and what follows."""
        inside = [element for element in perhaps if root.first <= element.first and element.end <= root.end]
        for is_marked in BODIES:
            found = [element for element in inside if element is not root and is_marked(element)]
            outer = [one for one in found if not any(other.first < one.first < other.end for other in found)]
            best = max(outer, key=lambda one: one.n_text, default=root)
            is_alone = best.n_text >= SHARE_OF_ALIKE * sum(
                one.n_text for one in outer
            )  # others are summaries and notes
            if outer and is_alone and best.n_text - best.n_linked >= SHARE_OF_BODY * (root.n_text - root.n_linked):
                return best
        return root

    def _is_left_out(self, element: Element) -> bool:
        what = self._name(element)
        if what:
            self.drops.add(what, self.page.read_text(element))
        return bool(what)

    def _name(self, element: Element) -> str:
        """What an element is that is not part of the article, or ""."""
        tag, attributes = element.tag, element.attributes
        if attributes and HIDDEN.search(attributes.get("class", "")) and element.n_text <= LONGEST_PART:
            return "hidden parts"
        if tag in NEVER:
            return ""
        what = FURNITURE.get(tag, "") or ROLES.get(attributes.get("role") or "", "")
        if what in ("page headers", "side columns") and _is_in_article(element):
            return ""  # its title, or a remark
        if not what and ("class" in attributes or "id" in attributes):
            what = self._name_by_class(element, f"{attributes.get('class', '')} {attributes.get('id', '')}")
        if not what and tag in ("ul", "ol", "table", "div") and _is_links(element):
            what = "navigation"
        return what

    def _name_by_class(self, element: Element, words: str) -> str:
        what = next((what for what, pattern in NAMED if pattern.search(words)), "")
        most = max(LONGEST_PART, SHARE_OF_PART * (self.root.n_text if self.root else 0))
        if not what or element.n_text <= most:
            return what
        return what if what == "comments" and self._are_comments(element) else ""

    def _are_comments(self, element: Element) -> bool:
        """Whether several comments are in an element, however long, and a text that they may be about before it."""
        self._n_tried += 1
        if self._n_tried > MOST_TRIED or self.root is None:
            return False
        n_before, inner = 0, element
        for above in _list_above(element, self.root):
            beside = (one for one in self.page.elements if one.parent is above and one.end < inner.first)
            n_before, inner = n_before + sum(one.n_text for one in beside), above
        if n_before < SHORTEST_TEXT:
            return False
        inside = (one.attributes for one in self.page.elements if element.first <= one.first and one.end < element.end)
        names = (f"{one.get('class', '')} {one.get('id', '')}" for one in inside if one)
        return sum(bool(COMMENT.search(name)) for name in names) >= FEWEST_COMMENTS


def _list_above(element: Element, root: Element) -> Iterator[Element]:
    """The elements around one, the innermost first, up to the root or to as many as pages have."""
    above = element.parent
    for _ in range(MOST_ABOVE):
        if above is None:
            return
        yield above
        if above is root:
            return
        above = above.parent


def _is_links(element: Element) -> bool:
    """Whether hardly anything but links is in an element."""
    return element.n_links >= FEWEST_LINKS and element.n_linked >= SHARE_OF_LINKS * element.n_text


def _is_in_article(element: Element) -> bool:
    above = element.parent
    for _ in range(MOST_ABOVE):
        if above is None:
            return False
        if above.tag in ("article", "main"):
            return True
        above = above.parent
    return False
