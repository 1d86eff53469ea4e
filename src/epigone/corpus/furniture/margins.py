"""Numbers in the margins: of the lines of verse, and of scenes in screenplays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from epigone.corpus.furniture.spans import Lines, Span

RIGHT = re.compile(r"(?<=\S)(?: {3,}|\t[ \t]*)(\d{1,5})[ \t]*$")
STEPS = (3, 4, 5, 10, 20, 25)
FEWEST = 4
LEAST_PROVEN = 0.6
SCENE = re.compile(
    r"[ \t]*(?P<left>\d{1,3}[A-Z]{0,2}\.?)(?P<space>[ \t]+)(?=(?:INT|EXT|INT\.?/EXT|EXT\.?/INT|I/E)[ .])"
    r"(?P<words>[^\n]*?)(?P<right>[ \t]{2,}\d{1,3}[A-Z]{0,2}\.?)?[ \t]*"
)


def find_line_numbers(lines: Lines) -> Iterator[Span]:
    """Numbers at the right edge that count the lines of verse, by fives or tens."""
    if len(lines.numbered) < FEWEST:
        return
    places = ((line, RIGHT.search(lines.all[line])) for line in lines.numbered)
    found = [(line, int(match[1]), match.span()) for line, match in places if match]
    if len(found) < FEWEST:
        return
    proven: set[int] = set()
    for place, ((line, value, _), (following, more, _)) in enumerate(pairwise(found)):
        n_lines = sum(map(bool, lines.stripped[line + 1 : following + 1])) if following - line < 200 else 0
        if more - value in STEPS and abs(n_lines - (more - value)) <= 1:
            proven |= {place, place + 1}
    if len(proven) < max(FEWEST, LEAST_PROVEN * len(found)):
        return
    step = min(found[place + 1][1] - found[place][1] for place in proven if place + 1 in proven)
    for place, (line, value, (start, end)) in enumerate(found):
        if place in proven or (step > 0 and value % step == 0):
            yield Span(lines.starts[line] + start, lines.starts[line] + end, "line numbers")


def find_scene_numbers(lines: Lines) -> Iterator[Span]:
    """The numbers on both sides of a screenplay's scene headings."""
    if len(lines.numbered) < FEWEST:
        return
    places = ((line, SCENE.fullmatch(lines.all[line])) for line in lines.numbered)
    scenes = [(lines.starts[line], match) for line, match in places if match]
    if len(scenes) < FEWEST:
        return
    for place, match in scenes:
        yield Span(place + match.start("left"), place + match.end("space"), "scene numbers")
        if match["right"] and match["right"].strip() == match["left"]:
            yield Span(place + match.start("right"), place + match.end("right"), "scene numbers")
