"""Parts of a text that are not its author's: where they are, and how the text closes where they were."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

LONG_LINE = 120
"""Characters: in a text with such lines a paragraph is one line."""
BREAKS = ("page numbers", "running heads", "page marks", "page breaks", "footnotes", "pictures")
"""These also stand in the middle of paragraphs, whose halves are joined again."""
DIGITS, DIGIT = frozenset("0123456789"), re.compile("[0-9]")
SHORT = 16
"""Characters of a line with a number and signs around it."""
OPEN_END = re.compile(r"[\w,;\-–—’']_?$")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A part of a text, in characters, and what it is, in the plural."""

    start: int
    end: int
    what: str


class Lines:
    """The lines of a text, and where each begins."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.all = text.split("\n")

    @cached_property
    def starts(self) -> list[int]:
        """The place of each line in the text, and of its end."""
        return list(accumulate((len(line) + 1 for line in self.all), initial=0))

    @cached_property
    def stripped(self) -> list[str]:
        """The lines without white space around them."""
        return [line.strip() for line in self.all]

    @cached_property
    def numbered(self) -> list[int]:
        """Lines that begin or end with a digit, or are short and have one."""
        return [
            number
            for number, line in enumerate(self.stripped)
            if line and (line[-1] in DIGITS or line[0] in DIGITS or (len(line) <= SHORT and DIGIT.search(line)))
        ]

    def find(self, place: int) -> int:
        """The number of the line that has this character."""
        return bisect_right(self.starts, place) - 1

    def span(self, first: int, last: int, what: str) -> Span:
        """Whole lines, the last one included."""
        return Span(self.starts[first], min(self.starts[last + 1], len(self.text)), what)

    def find_text(self, number: int, step: int) -> int | None:
        """The next line with something on it, from a line on, forward (1) or back (-1)."""
        while 0 <= number < len(self.all):
            if self.stripped[number]:
                return number
            number += step
        return None

    def list_paragraphs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The first and the last line of each paragraph from a line on, before another one."""
        start: int | None = None
        for number in range(first, min(last, len(self.all))):
            if self.stripped[number]:
                start = number if start is None else start
            elif start is not None:
                yield start, number - 1
                start = None
        if start is not None:
            yield start, min(last, len(self.all)) - 1


def goes_on(before: str, after: str) -> bool:
    """Whether a sentence goes on from one line to another: it has no end, and the other begins with a small letter."""
    after = after.lstrip(" \t_*\"'“‘«")
    return bool(OPEN_END.search(before)) and after[:1].islower()


def counts_up(values: Sequence[int], *, least: int = 5, restarts: bool = False) -> bool:
    """Whether numbers count: most follow the one before at once, and hardly any is less."""
    steps = [b - a for a, b in pairwise(values)]
    if len(values) < least or len(set(values)) < least:
        return False
    n_next = sum(0 < step <= 2 or (restarts and value == 1) for step, value in zip(steps, values[1:], strict=True))
    n_back = sum(step < 0 and not (restarts and value == 1) for step, value in zip(steps, values[1:], strict=True))
    return n_next >= 0.7 * len(steps) and n_back <= 0.1 * len(steps)


def remove_spans(text: str, spans: Iterable[Span]) -> str:
    """The text without its spans. Blank lines around one are kept once, and halves of a paragraph are joined."""
    kept: list[str] = []
    position = 0
    for start, end, breaks in _group(text, spans):
        start, end, between = _close(text, start, end, breaks=breaks)
        start = max(start, position)
        kept += text[position:start], between
        position = max(position, end)
    return "".join((*kept, text[position:]))


def _group(text: str, spans: Iterable[Span]) -> Iterator[tuple[int, int, bool]]:
    """Spans with nothing but white space between them as one, and whether all of them may break a paragraph."""
    group: tuple[int, int, bool] | None = None
    for span in sorted(spans):
        breaks = span.what in BREAKS
        if group and not text[group[1] : span.start].strip():
            group = group[0], max(group[1], span.end), group[2] and breaks
            continue
        if group:
            yield group
        group = span.start, span.end, breaks
    if group:
        yield group


def _close(text: str, start: int, end: int, *, breaks: bool) -> tuple[int, int, str]:
    """What of a text goes with a span, white space included, and what stands there instead."""
    line_start, line_end = text.rfind("\n", 0, start) + 1, text.find("\n", max(start, end - 1))
    line_end = len(text) if line_end < 0 else line_end
    if text[line_start:start].strip() or text[end:line_end].strip():
        before, after = text[line_start:start], text[end : end + 1]
        if not before.strip():  # at the beginning of a line: what follows moves there
            while text[end : end + 1] == " ":
                end += 1
        elif not after.strip() or after in ".,;:!?":
            start = line_start + len(before.rstrip(" "))
        return start, end, ""
    left, right = line_start, end
    while left and text[left - 1].isspace():
        left -= 1
    while right < len(text) and text[right].isspace():
        right += 1
    right = max(end, text.rfind("\n", 0, right) + 1) if right < len(text) else right
    if left == 0:
        return 0, right, ""
    if right == len(text):
        return left, right, "\n" * text.endswith("\n")
    before_line = text[text.rfind("\n", 0, left) + 1 : left]
    after_line = text[right : right + LONG_LINE]
    n_before, n_after = (
        text.count("\n", left, line_start),
        text.count("\n", end, right) + text[start:end].endswith("\n"),
    )
    if breaks and goes_on(before_line, after_line):
        return left, right, "\n" if max(n_before, n_after) < 2 or len(before_line) <= LONG_LINE else " "
    return left, right, "\n" * max(n_before, n_after, 1)
