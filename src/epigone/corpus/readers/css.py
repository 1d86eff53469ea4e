"""The little of style sheets that text needs: which elements have space around them, and which are in italics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from epigone.corpus.readers.markup import ITALIC_STYLE, Look, Looks

MOST_CHARACTERS = 1 << 20
BRACE = re.compile(r"[{}]")
COMMENT = re.compile(r"/\*(?:(?!\*/|/\*).)*\*/", re.S)
SELECTOR = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)?(?:\.([\w-]+))?")
MARGIN = re.compile(r"(?:^|;)\s*margin(-top|-bottom)?\s*:\s*([^;]+)", re.I)
SMALLEST_SPACE = 0.35
"""In lines: less does not look like a blank line."""
LINES = {
    "em": 1.0,
    "rem": 1.0,
    "%": 0.05,
    "px": 1 / 16,
    "pt": 1 / 12,
    "cm": 2.4,
    "mm": 0.24,
    "in": 6.0,
    "ex": 0.5,
    "": 0,
}


class StyleSheet(Looks):
    """Looks by simple selectors: "p", ".verse" or "p.verse"; others are not understood."""

    def __init__(self, looks: Mapping[str, Look]) -> None:
        super().__init__()
        self.looks = looks

    @classmethod
    def parse(cls, source: str) -> StyleSheet:
        """What the rules of a sheet say."""
        looks: dict[str, Look] = {}
        for selectors, rules in find_rules(COMMENT.sub("", source[:MOST_CHARACTERS])):
            look = read_rules(rules)
            if look == Look():
                continue
            for selector in selectors.split(","):
                selector = selector.strip()
                if selector and SELECTOR.fullmatch(selector):
                    looks[selector] = _combine(looks.get(selector, Look()), look)
        return cls(looks)

    def join(self, later: StyleSheet) -> StyleSheet:
        """Both sheets; the later one wins."""
        if not self.looks:
            return later
        if not later.looks:
            return self
        return StyleSheet({**self.looks, **{s: _combine(self.looks.get(s, Look()), k) for s, k in later.looks.items()}})

    def find(self, tag: str, attributes: Mapping[str, str]) -> Look:
        """What an element looks like."""
        look = self.looks.get(tag, Look()) if self.looks else Look()
        if self.looks and (names := attributes.get("class")):
            for name in names.split():
                for selector in (f".{name}", f"{tag}.{name}"):
                    if selector in self.looks:
                        look = _combine(look, self.looks[selector])
        style = attributes.get("style")
        return _combine(look, read_rules(style)) if style else look


def find_rules(source: str) -> Iterator[tuple[str, str]]:
    """The innermost pairs of braces: what stands before each, and what is in it; in one pass, however many are open."""
    start, opened, selectors = 0, -1, ""
    for brace in BRACE.finditer(source):
        if brace[0] == "{":
            opened, selectors = brace.end(), source[start : brace.start()]
        elif opened >= 0:
            yield selectors, source[opened : brace.start()]
            opened = -1
        start = brace.end()


def read_rules(rules: str) -> Look:
    """What the declarations in a rule or in a style attribute say."""
    spaces = []
    for side, value in MARGIN.findall(rules):
        sizes = value.replace("!important", "").split()[:4]
        if not sizes:
            continue
        chosen = [sizes[0]] if side or len(sizes) < 3 else [sizes[0], sizes[2]]
        spaces += [_measure(size) for size in chosen]
    italic = True if ITALIC_STYLE.search(rules) else None
    if italic is None and re.search(r"font-style\s*:\s*normal", rules, re.I):
        italic = False
    return Look(spaced=max(spaces) >= SMALLEST_SPACE if spaces else None, italic=italic)


def _measure(size: str) -> float:
    """A length in lines."""
    match = re.fullmatch(r"(-?\d*\.?\d+)([a-z%]*)", size.strip().lower())
    return float(match[1]) * LINES.get(match[2], 0.0) if match else 0.0


def _combine(look: Look, later: Look) -> Look:
    return Look(
        spaced=look.spaced if later.spaced is None else later.spaced,
        italic=look.italic if later.italic is None else later.italic,
    )
