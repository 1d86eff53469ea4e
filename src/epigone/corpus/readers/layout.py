"""Joins blocks of a document to plain text: which lines belong together, and where blank lines go.

A word processor stores a line of verse and a paragraph of prose alike, as a paragraph, and says elsewhere whether there
is space between them. Where the space is known it decides. Where there is none, prose gets blank lines all the same,
and lines of verse stay together: they are short, or empty paragraphs divide them into stanzas.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

VERSE_CHARACTERS = 60
"""Median length of a style's paragraphs up to which they are taken for lines."""
SHARE_OF_EMPTY = 0.07
"""Empty paragraphs for each pair that stands together. Scene breaks are rarer, stanzas and blank lines are not."""
FEWEST_LINES = 4
ITALIC, ITALIC_END = "\ue000", "\ue001"
"""Private characters that stand for the marks until a block is complete."""
MARKS = re.compile(f"[{ITALIC}{ITALIC_END}]")
INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\ue000-\ue004\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Soft hyphens, zero-width spaces and control characters, which are not seen, and the private characters used here."""


@dataclass(slots=True)
class Block:
    """A paragraph, a heading or a line, possibly with line breaks in it. An empty one is an empty paragraph.

    Not frozen: a book has 200,000, and a frozen one takes three times as long to make.
    """

    text: str
    style: str = ""
    """Equal for blocks that look alike, such as the name of a paragraph style."""
    spaced: bool = True
    """Whether there is space before it; False if there is none, or if that is unknown."""
    is_line: bool = False
    """Whether it is known to be a line, of a list or of verse: without space it follows the one before directly."""


def join_blocks(blocks: Sequence[Block]) -> str:
    """The text of the blocks, with one line end at its end; "" if there is none.

    Blank lines stand between blocks that have space between them; an empty block is one more blank line, at most two
    in all.
    """
    lines = set(find_line_styles(blocks))
    parts: list[str] = []
    n_empty, spaced, was_line = 0, False, False
    for block in blocks:
        text, spaced = block.text, spaced or block.spaced
        if not text or text.isspace():
            n_empty += 1
            continue
        is_line = block.is_line or block.style in lines
        if parts:
            together = not spaced and was_line and is_line
            parts.append("\n" * min(3, (1 if together else 2) + n_empty))
        parts.append(text.rstrip() if is_line or "\n" in text else text.strip())  # a line keeps its indent
        n_empty, spaced, was_line = 0, False, is_line
    return "".join([*parts, "\n"]) if parts else ""


def find_line_styles(blocks: Iterable[Block]) -> Iterator[str]:
    """The styles without space whose paragraphs are lines: of verse, of a list, or of a text that has blank lines."""
    lengths: dict[str, list[int]] = defaultdict(list)
    n_together, n_apart = Counter[str](), Counter[str]()
    before, was_empty, spaced = "", False, True
    for block in blocks:
        spaced = spaced or block.spaced
        if not block.text or block.text.isspace():
            was_empty = True
            continue
        if not spaced:
            lengths[block.style].append(len(block.text))
            if before == block.style:
                (n_apart if was_empty else n_together)[block.style] += 1
        before, was_empty, spaced = block.style, False, False
    for style, found in lengths.items():
        is_divided = n_apart[style] > SHARE_OF_EMPTY * n_together[style]
        if is_divided or (len(found) >= FEWEST_LINES and median(found) <= VERSE_CHARACTERS):
            yield style


# -- the text of one block


OTHER_SPACES = re.compile(r"[\t\r\f\v\x85\u2028\u2029]")
MISPLACED = re.compile(
    f"  |[^\\S ]|[\x1c-\x1f]|{ITALIC}[ {ITALIC_END}]|[ ]{ITALIC_END}|{ITALIC_END}[ ]?{ITALIC}"
    f"|^ *{ITALIC_END}|{ITALIC} *$"
)
"""What a line has that cannot stay as it is but for the marks' form."""
BEFORE_SPACE, AFTER_SPACE, EMPTY = f"{ITALIC} ", f" {ITALIC_END}", ITALIC + ITALIC_END
CLOSED_AND_OPENED, CLOSED_AND_OPENED_AFTER_SPACE = ITALIC_END + ITALIC, f"{ITALIC_END} {ITALIC}"
"""The same of a line that is printable but for its marks: searched for in a tenth of the time."""
INNER_SPACES = re.compile(r"[ \t\r\f\v]+")


def drop_invisible(text: str) -> str:
    """Text without what is not seen. Hardly any has such characters, and a regular expression takes long to say so."""
    return text if text.replace("\n", "").replace("\t", "").isprintable() else INVISIBLE.sub("", text)


def straighten(text: str) -> str:
    """Text without what is not seen, with a space for a line end or a tab. `clean_block` makes single ones of them."""
    if text.isprintable():  # a line end is not
        return text
    text = text.replace("\n", " ")
    return text if text.isprintable() else OTHER_SPACES.sub(" ", INVISIBLE.sub("", text))


def _halve_spaces(text: str) -> str:
    """Single spaces for several: faster than a regular expression, for there are rarely more than two."""
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def clean_block(text: str) -> str:
    """A block's text with single spaces, its lines without spaces at their ends, and _italics_ in underscores.

    `ITALIC` and `ITALIC_END` in it stand for the marks. Spaces that do not break become spaces and stay where they
    are, for they indent lines of verse.
    """
    if text.isprintable():
        return clean_line(text)
    if _is_well_placed(text):  # one line with italics
        return MARKS.sub("_", text.strip(" "))
    text = "\n".join(INNER_SPACES.sub(" ", line).strip(" ") for line in text.split("\n"))
    if ITALIC in text:
        text = place_marks(text)
    return "\n".join(line.rstrip() for line in text.replace("\xa0", " ").strip("\n").split("\n"))


def clean_line(text: str) -> str:
    """The same of a text that is printable: one line, and no spaces or marks of other kinds."""
    return _halve_spaces(text).strip(" ") if "  " in text else text.strip(" ")


def _is_well_placed(text: str) -> bool:
    """Whether a block is one line with single spaces whose marks stand next to letters."""
    if not text.replace(ITALIC, "").replace(ITALIC_END, "").isprintable():
        return not MISPLACED.search(text)
    return not (
        "  " in text
        or BEFORE_SPACE in text
        or AFTER_SPACE in text
        or EMPTY in text
        or CLOSED_AND_OPENED in text
        or CLOSED_AND_OPENED_AFTER_SPACE in text
        or text.lstrip(" ").startswith(ITALIC_END)
        or text.rstrip(" ").endswith(ITALIC)
    )


def place_marks(text: str) -> str:
    """Italics in underscores, which stand next to letters, around as much as belongs together."""
    text = re.sub(f"{ITALIC_END}([ \xa0]*){ITALIC}", r"\1", text)
    text = re.sub(f"{ITALIC}([\\s\xa0]*){ITALIC_END}", r"\1", text)
    text = re.sub(f"{ITALIC}([\\s\xa0]+)", rf"\1{ITALIC}", text)
    text = re.sub(f"([\\s\xa0]+){ITALIC_END}", rf"{ITALIC_END}\1", text)
    text = re.sub(r"(?<= ) +", "", text)
    return MARKS.sub("_", text)
