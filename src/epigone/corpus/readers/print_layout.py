"""Rebuilds paragraphs and verse from the lines of printed pages: without heads, feet, page numbers and notes.

A page says where letters stand, and nothing else. A line ends where its author wanted it to if the first word of the
next one would still have had room on it; otherwise it was wrapped. Paragraphs begin with an indent, after a gap, or
after such a line; lines of verse end where they end without either.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from epigone.corpus.readers.layout import ITALIC, ITALIC_END, MARKS, Block, clean_block
from epigone.corpus.readers.reader import DropLog

SAME_LINE = 0.3
"""In sizes of the letters: how much higher or lower a run on the same line may be."""
WIDE_GAP = 1.5
"""In sizes: what is further apart may be in two columns."""
SMALL = 0.85
"""Size of footnote marks against the text."""
GAP = 1.3
"""In distances of lines: more is a gap between paragraphs."""
INDENT = 0.6
"""In sizes: less does not look like an indent."""
SMALL_NOTE = 0.93
"""Size of footnotes against the text."""
DROP_CAP = 1.8
"""Size of a large first letter against its line."""
USUAL_SHARE = 0.08
"""Of all lines: a distance or a margin that so many have is not an accident."""
FEWEST_PAGES = 3
"""On so many pages a line at the edge has to stand to be a running head."""
SHARE_WRAPPED, NEAR_EDGE = 0.25, 0.1
"""A text in which fewer lines end near the right edge than this share is not wrapped, so that its edge is unknown."""
SHARE_OF_CAPITALS = 0.8
"""Nor is one in which so many lines begin with a capital letter, as in verse."""
SHARE_OF_PARAGRAPHS = 0.35
"""Of units without space between them: if so many have several lines, they are paragraphs."""
SHARE_DIVIDED = 0.3
"""Of the hyphens at the ends of lines: if so many divide words that the document has whole, it divides words."""
MOST_INDENT = 24
MOST_LINES = 1_000
"""Of a page: in more, large first letters, footnote marks and columns are not searched for."""
LONGEST_WORD = 60
LINE_END = 200
"""Characters in which a table of contents has its dots and numbers."""
STANZAS_AROUND = 3
"""Before and after a page's end: so many of one length show how long a stanza is."""
SPREAD = 1.3
"""Width of letters in a line against what is usual: a table of contents has its page numbers at the other edge."""
NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,3}|[*†‡§¶]{1,3})[\])]?")
NOTE_START = re.compile(r"[\[(]?(?:\d{1,3}|[*†‡§¶]{1,3})[\]).]?\s*\S")
PAGE_NUMBER = re.compile(r"[-–—\[(|\s]*(?:page\s+)?(\d{1,4}|[ivxlc]{1,8})(?:\s*(?:of|/)\s*\d{1,4})?[-–—\])|.\s]*", re.I)
DIGITS = re.compile(r"\d+|\b[ivxlc]+\b", re.I)
CONTENTS = re.compile(r"(?:\.\s?){4,}\s*(?:\d{1,4}|[ivxlc]{1,8})\s*$", re.I)
LAST_WORD = re.compile(r"\w+$")
HYPHENS = ("-", "\u2010", "\u00ad", "\x02")
SOFT_HYPHEN = "\u00ad"
LINE_HYPHEN = "\x02"
"""What PDFium gives for every hyphen at the end of a line."""
SPEAKER = re.compile(r"[^\W\da-z_][\w'’]*(?: [^\W\da-z_][\w'’]*){0,2}[.:](?= |$)")
"""What a speech in a play begins with."""
FEWEST_SPEECHES = 5
"""Paragraphs that begin with the same name, within pages."""
SENTENCE_END = re.compile(r"[.!?…—–][\"'”’»)\]]{0,3}$")
CLOSING, OPENING = ('"', "”", "’", "»"), ('"', "“", "‘", "«", "„")
ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


@dataclass(frozen=True, slots=True)
class Run:
    """Letters of one size that follow each other on one line, in points from the lower left corner of the page."""

    left: float
    right: float
    word: float
    """Where the first word ends."""
    second: float
    """Where the second one begins."""
    y: float
    size: float
    text: str
    """With `ITALIC` and `ITALIC_END` around what is in italics."""


@dataclass(slots=True, eq=False)
class Line:
    """A line of a page, or of one of its columns."""

    left: float
    right: float
    word_width: float
    """Of its first word."""
    space: float
    """Between this and the next; 0 if there is none."""
    y: float
    size: float
    text: str
    page: int
    column: int = 0
    """Equal for lines that follow each other on a page; a band across the page begins a new one."""
    has_mark: bool = False
    """Whether a footnote mark stood at its beginning."""

    @property
    def plain(self) -> str:
        """Its text without marks of italics."""
        return MARKS.sub("", self.text).strip()


@dataclass(slots=True, eq=False)
class Unit:
    """Lines that belong together: a paragraph, a heading, or a line of verse with what of it was wrapped."""

    lines: list[Line]
    spaced: bool | None
    """Whether there is a gap before it; None if that is unknown, at the beginning of a page."""
    at_page_end: bool = False
    """Whether it begins a page or a column, so that a gap before it might not be seen."""
    far: bool = False
    """Whether the gap is larger than between paragraphs."""
    is_line: bool = False


@dataclass(slots=True)
class Metrics:
    """What is usual in a document."""

    size: float = 10.0
    space: float = 0.3
    """Between words, in sizes."""
    letter: float = 0.5
    """Width of a letter, in sizes."""
    spacing: dict[int, float] = field(default_factory=dict)
    """Distance of lines by size, in half points."""
    margins: dict[int, float] = field(default_factory=dict)
    """Left margin of even and odd pages."""
    edges: dict[int, float] = field(default_factory=dict)
    """Right edge of even and odd pages."""
    indent: float = 0.0
    """Of the first lines of paragraphs; 0 if they have none."""
    is_hanging: bool = False
    """Whether what was wrapped is indented."""
    divides: bool = False
    """Whether words are divided at the ends of lines."""
    spaced_ends: bool = False
    """Whether the file has a space at the end of a line that was wrapped between two words."""
    top: float = 0.0
    bottom: float = 0.0

    def find_spacing(self, line: Line) -> float:
        """The usual distance of lines of this size."""
        return self.spacing.get(round(2 * line.size), 1.2 * line.size)


# -- runs to lines


def build_lines(runs: Sequence[Run], page: int, drops: DropLog) -> list[Line]:
    """The lines of a page in reading order, columns one after the other; footnote marks are dropped."""
    lines = _join_runs(runs, page, drops)
    return _order_columns(_attach_capitals(lines)) if len(lines) <= MOST_LINES else lines


def _join_runs(runs: Sequence[Run], page: int, drops: DropLog) -> list[Line]:
    """Lines from top to bottom; runs that are far apart stay apart."""
    lines: list[Line] = []
    marks: list[Run] = []
    usual = _most_common((run.size, len(run.text)) for run in runs) if len(runs) < 4 * MOST_LINES else 0.0
    for run in sorted(runs, key=lambda run: (-run.y, run.left)):
        if run.size <= SMALL * usual and NOTE_MARK.fullmatch(MARKS.sub("", run.text).strip()):
            marks.append(run)
            continue
        same = next((line for line in reversed(lines[-12:]) if _is_next(line, run)), None)
        if same is None:
            lines.append(_start_line(run, page))
        else:
            _append(same, run)
    for run in marks:
        _place_mark(run, lines, page, drops)
    return lines


def _is_next(line: Line, run: Run) -> bool:
    size = max(line.size, run.size)
    if size > DROP_CAP * min(line.size, run.size):
        return False
    return abs(line.y - run.y) <= SAME_LINE * min(line.size, run.size) and (
        -0.5 * size < run.left - line.right < WIDE_GAP * size
    )


def _start_line(run: Run, page: int) -> Line:
    n_spaces = len(run.text) - len(run.text.lstrip(" "))
    width = (run.right - run.left) / max(1, len(run.text.rstrip()))
    left = run.left + n_spaces * width
    word = run.word - run.left
    if n_spaces:  # they are before the first word
        word = len(run.text.split(maxsplit=1)[0]) * width
    return Line(left, run.right, word, max(0.0, run.second - run.word), run.y, run.size, run.text.lstrip(" "), page)


def _append(line: Line, run: Run) -> None:
    needs_space = run.left - line.right > 0.15 * run.size and not line.text.endswith(" ")
    if len(run.text) > len(line.text):
        line.size, line.y = run.size, run.y
    if " " not in line.plain:
        line.word_width += 0 if needs_space or line.text.endswith(" ") else run.word - run.left
    line.text += " " * needs_space + run.text
    line.right = max(line.right, run.right)


def _place_mark(run: Run, lines: list[Line], page: int, drops: DropLog) -> None:
    """Drop a small raised number; one that is not raised or stands alone is text."""
    for line in lines:
        height = run.y - line.y
        is_near = line.left - 2 * line.size < run.left < line.right + line.size
        if is_near and 0.1 * line.size < height < line.size and run.size <= SMALL * line.size:
            drops.add("footnote marks", MARKS.sub("", run.text).strip())
            line.has_mark |= run.right <= line.left + 0.2 * line.size
            return
    near = next((line for line in lines if _is_next(line, run)), None)
    if near is not None:
        _append(near, run)
    else:
        lines.append(_start_line(run, page))
        lines.sort(key=lambda line: -line.y)


def _attach_capitals(lines: list[Line]) -> list[Line]:
    """Put a large first letter before its line."""
    kept = list(lines)
    for letter in lines:
        if len(letter.plain) > 2 or not letter.plain[-1:].isalpha():
            continue
        beside = [
            line
            for line in kept
            if line is not letter
            and DROP_CAP * line.size <= letter.size
            and -0.1 * letter.size <= line.y - letter.y < letter.size
            and -2 < line.left - letter.right < letter.size
        ]
        if beside:
            first = max(beside, key=lambda line: line.y)
            first.text = letter.plain + first.text
            for line in beside:
                line.left = letter.left
            kept.remove(letter)
    return kept


def _order_columns(lines: list[Line]) -> list[Line]:
    """The lines in reading order: one column, or two with what goes across both in between."""
    gutter = _find_gutter(lines)
    ordered: list[Line] = []
    if gutter is None:
        for line in lines:  # what stands apart on one line of the page is one line
            before = ordered[-1] if ordered else None
            if before and abs(before.y - line.y) <= SAME_LINE * line.size and line.left > before.right:
                before.text = f"{before.text.rstrip()} {line.text}"
                before.right = line.right
            else:
                ordered.append(line)
        return ordered
    column, sides = 0, (list[Line](), list[Line]())
    for line in lines:
        if not line.left < gutter < line.right:
            sides[line.left >= gutter].append(line)
            continue
        column = _end_band(sides, ordered, column) + 1
        line.column = column
        ordered.append(line)
    _end_band(sides, ordered, column)
    return ordered


def _end_band(sides: tuple[list[Line], list[Line]], ordered: list[Line], column: int) -> int:
    """Put the columns that are open one after the other; returns the number of the last one."""
    for side in sides:
        column += bool(side)
        for line in side:
            line.column = column
        ordered += side
        side.clear()
    return column


def _find_gutter(lines: Sequence[Line]) -> float | None:
    """Where the space between two columns is; None if there is one column only."""
    if len(lines) < 8:
        return None
    left, right = min(line.left for line in lines), max(line.right for line in lines)
    width = right - left
    spots = [left + width * (0.35 + 0.01 * i) for i in range(31)]
    best = min(spots, key=lambda x: (sum(line.left < x < line.right for line in lines), abs(x - left - width / 2)))
    sides = [line for line in lines if line.right <= best], [line for line in lines if line.left >= best]
    n_across = len(lines) - len(sides[0]) - len(sides[1])
    if n_across > 0.15 * len(lines) or min(map(len, sides)) < max(4, 0.2 * len(lines)):
        return None
    if any(median(line.right - line.left for line in side) < 0.25 * width for side in sides):
        return None
    heights = [(min(line.y for line in side), max(line.y for line in side)) for side in sides]
    overlap = min(heights[0][1], heights[1][1]) - max(heights[0][0], heights[1][0])
    shorter = min(high - low for low, high in heights)
    return best if overlap > 0.5 * shorter else None


# -- heads, feet and page numbers


def drop_furniture(pages: list[list[Line]], drops: DropLog) -> None:
    """Remove running heads and feet, page numbers, notes at the foot and tables of contents from all pages."""
    for _ in range(2):  # under a head there may be a second line
        _drop_page_numbers(pages, drops)
        _drop_heads(pages, drops)
    body = _most_common((line.size, len(line.text)) for lines in pages for line in lines)
    for lines in pages:
        _drop_notes(lines, body, drops)
        for line in [line for line in lines if CONTENTS.search(line.plain[-LINE_END:])]:
            drops.add("tables of contents", line.plain)
            lines.remove(line)


def _list_edges(pages: Sequence[Sequence[Line]]) -> Iterator[tuple[bool, int, Line, bool]]:
    """The first and the last line of each page: whether at the top, number of the page, line, whether it is apart."""
    for number, lines in enumerate(pages):
        by_height = sorted(lines, key=lambda line: -line.y)
        if by_height:
            yield True, number, by_height[0], len(lines) == 1 or _is_apart(by_height[0], by_height[1])
            yield False, number, by_height[-1], len(lines) == 1 or _is_apart(by_height[-1], by_height[-2])


def _is_apart(line: Line, inner: Line) -> bool:
    return abs(line.y - inner.y) > 1.55 * inner.size or abs(line.size - inner.size) > 0.04 * inner.size


def _drop_page_numbers(pages: list[list[Line]], drops: DropLog) -> None:
    """Remove numbers at an edge that count the pages."""
    found: dict[tuple[bool, int], list[tuple[int, Line]]] = defaultdict(list)
    for is_top, number, line, is_apart in _list_edges(pages):
        match = PAGE_NUMBER.fullmatch(line.plain) if is_apart else None
        value = _read_number(match[1]) if match else 0
        if value:
            found[is_top, value - number].append((number, line))
    best = max(found.values(), key=len, default=[])
    for (_, offset), numbered in found.items():
        is_usual = len(numbered) >= max(2, len(best) / 4) or (len(pages) == 1 and offset == 1)
        if is_usual:
            for number, line in numbered:
                drops.add("page numbers", line.plain)
                pages[number].remove(line)


def _read_number(text: str) -> int:
    if text.isdigit():
        return int(text)
    values = [ROMAN[letter] for letter in text.lower()]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


def _drop_heads(pages: list[list[Line]], drops: DropLog) -> None:
    """Remove lines at an edge whose words stand there on several pages, and others in the same place."""
    edges = [
        (is_top, number, line, is_apart, _strip_numbers(line)) for is_top, number, line, is_apart in _list_edges(pages)
    ]
    texts = Counter((is_top, words) for is_top, _, _, is_apart, words in edges if is_apart and words)
    at_edges = {id(line) for _, _, line, _, _ in edges}
    within = Counter(_strip_numbers(line) for lines in pages for line in lines if id(line) not in at_edges)
    places: dict[tuple[bool, int, int], list[bool]] = defaultdict(list)
    for is_top, _, line, _, words in edges:
        places[is_top, round(line.y / 2), round(2 * line.size)].append(texts[is_top, words] >= FEWEST_PAGES)
    for is_top, number, line, is_apart, words in edges:
        here = places[is_top, round(line.y / 2), round(2 * line.size)]
        in_place = is_apart and len(here) >= FEWEST_PAGES and sum(here) > len(here) / 2
        n_edges = texts[is_top, words]
        # “Yes, sir.” stands at the edge of some pages of a novel, and within many more
        is_repeated = bool(words) and is_apart and n_edges >= FEWEST_PAGES and n_edges > within[words]
        if (in_place or is_repeated) and line in pages[number]:
            drops.add("running heads" if is_top else "running feet", line.plain)
            pages[number].remove(line)


def _strip_numbers(line: Line) -> str:
    return DIGITS.sub("", line.plain).casefold().strip()


def _drop_notes(lines: list[Line], body: float, drops: DropLog) -> None:
    """Remove lines at a page's foot that begin with a raised mark, or are small and begin with a number or a star."""
    first = len(lines)
    while first and lines[first - 1].size <= SMALL_NOTE * body:
        first -= 1
    if first == len(lines) or not (lines[first].has_mark or NOTE_START.match(lines[first].plain)):
        first = next((i for i, line in enumerate(lines) if line.has_mark), len(lines))
    notes = lines[first:]
    if first and notes:
        starts = [i for i, line in enumerate(notes) if line.has_mark or (not i and NOTE_START.match(line.plain))]
        for start, end in zip(starts, [*starts[1:], len(notes)], strict=True):
            drops.add("footnotes", " ".join(line.plain for line in notes[start:end]))
        del lines[first:]


# -- lines to blocks


def join_pages(pages: Sequence[Sequence[Line]], widths: Sequence[float]) -> list[Block]:
    """The blocks of a document. `widths`: of the pages, in points."""
    lines = [line for page in pages for line in page]
    if not lines:
        return []
    metrics = _measure(lines, widths)
    units = _find_units(lines, metrics)
    _tell_lines(units, metrics)
    words = Counter(word.casefold() for line in lines for word in re.findall(r"\w+(?:-\w+)*", line.plain))
    metrics.divides = _find_division(lines, words)
    return list(_make_blocks(units, metrics, words))


def _most_common(weighted: Iterable[tuple[float, int]]) -> float:
    counts = Counter[float]()
    for value, weight in weighted:
        counts[round(2 * value) / 2] += weight
    return counts.most_common(1)[0][0] if counts else 10.0


def _measure(lines: Sequence[Line], widths: Sequence[float]) -> Metrics:
    metrics = Metrics(size=_most_common((line.size, len(line.text)) for line in lines))
    spaces = [line.space / line.size for line in lines if line.space]
    metrics.letter = median((line.right - line.left) / line.size / len(line.text) for line in lines)
    metrics.space = min(1.0, median(spaces)) if spaces else 0.3
    distances: dict[int, Counter[int]] = defaultdict(Counter)
    for line, following in pairwise(lines):
        if _is_same_flow(line, following) and abs(line.size - following.size) < 0.5 and line.y > following.y:
            distances[round(2 * line.size)][round(2 * (line.y - following.y))] += 1
    for size, counts in distances.items():
        n = counts.total()
        usual = [distance for distance in counts if _count_near(counts, distance) >= max(1, USUAL_SHARE * n)]
        metrics.spacing[size] = min(usual) / 2
    for key, group in _group(lines).items():
        lefts = Counter(round(line.left) for line in group)
        usual = [left for left in lefts if _count_near(lefts, left) >= USUAL_SHARE * len(group)]
        metrics.margins[key] = min(usual)
        rights = sorted(line.right for line in group)
        edge = rights[-1 - len(rights) // 100]
        near = NEAR_EDGE * (edge - metrics.margins[key])
        n_capitals = sum(line.plain.lstrip("“\"'‘(").lstrip()[:1].isupper() for line in group)
        is_wrapped = sum(right > edge - near for right in rights) >= SHARE_WRAPPED * len(rights)
        if key < 2 and (not is_wrapped or n_capitals > SHARE_OF_CAPITALS * len(group)):
            edge = max(edge, median(widths) - metrics.margins[key])
        metrics.edges[key] = edge
    metrics.top, metrics.bottom = max(line.y for line in lines), min(line.y for line in lines)
    full = [(a, b) for a, b in pairwise(lines) if _is_same_flow(a, b) and _is_full(a, b, metrics)]
    n_indented = sum(_find_line_indent(b, metrics) > INDENT * b.size for _, b in full)
    metrics.is_hanging = bool(full) and n_indented > len(full) / 2
    metrics.indent = _find_indent(full, metrics)
    n_spaces = sum(line.text.rstrip(f"{ITALIC}{ITALIC_END}").endswith(" ") for line, _ in full)
    metrics.spaced_ends = n_spaces > 0.8 * len(full)
    return metrics


def _find_indent(full: Sequence[tuple[Line, Line]], metrics: Metrics) -> float:
    """The usual indent of lines that go on at the margin; 0 if there is none."""
    indents = Counter(
        round(_find_line_indent(a, metrics))
        for a, b in full
        if abs(_find_line_indent(b, metrics)) < INDENT * b.size / 2
        and _find_line_indent(a, metrics) > INDENT * metrics.size
    )
    indent, count = indents.most_common(1)[0] if indents else (0, 0)
    return indent if count > USUAL_SHARE * len(full) else 0.0


def _count_near(counts: Counter[int], value: int) -> int:
    return counts[value - 1] + counts[value] + counts[value + 1]


def _key(line: Line) -> int:
    """Lines with the same margins: those of even or odd pages, and of one column."""
    return line.page % 2 + 2 * min(line.column, 3)


def _group(lines: Iterable[Line]) -> dict[int, list[Line]]:
    groups: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        groups[_key(line)].append(line)
    return groups


def _is_same_flow(line: Line, following: Line) -> bool:
    return line.page == following.page and line.column == following.column


def _find_line_indent(line: Line, metrics: Metrics) -> float:
    return line.left - metrics.margins[_key(line)]


def _is_full(line: Line, following: Line, metrics: Metrics) -> bool:
    """Whether the next word had no room, so that the line was wrapped."""
    if line.text.rstrip()[-1:].isdigit() and line.right - line.left > SPREAD * metrics.letter * line.size * len(
        line.text
    ):
        return False
    return line.right + (metrics.space + 0.1) * line.size + following.word_width > metrics.edges[_key(line)]


def _find_units(lines: Sequence[Line], metrics: Metrics) -> list[Unit]:
    units = [Unit([lines[0]], spaced=True)]
    pairs = list(pairwise(lines))
    breaks = [_find_break(line, following, metrics) for line, following in pairs]
    names = Counter(
        _find_speaker(following)
        for (line, following), (ends, _) in zip(pairs, breaks, strict=True)
        if ends and _is_same_flow(line, following)
    )
    for (line, following), (ends, spaced) in zip(pairs, breaks, strict=True):
        if not ends and _begins_speech(line, following, names):
            ends, spaced = True, None
        if ends:
            units.append(Unit([following], spaced, at_page_end=not _is_same_flow(line, following)))
        else:
            units[-1].lines.append(following)
    _guess_spaces(units)
    gaps = [_find_gap(a, b, metrics) for a, b in pairwise(units)]
    usual = _most_common((gap, 1) for gap in gaps if gap > GAP)
    n_spaced, n_tight = sum(gap > GAP for gap in gaps), sum(0 < gap <= GAP for gap in gaps)
    if n_spaced < 0.1 * n_tight or (metrics.indent and n_spaced <= n_tight):
        usual = 1.0  # paragraphs have no gaps, so that each is a break
    for unit, gap in zip(units[1:], gaps, strict=True):
        unit.far = bool(unit.spaced) and gap > usual + 0.75
    return units


def _find_speaker(line: Line) -> str:
    """The name that a line begins with, if it may be that of a speaker."""
    found = SPEAKER.match(line.plain.lstrip())
    return found[0] if found else ""


def _begins_speech(line: Line, following: Line, names: Counter[str]) -> bool:
    """Whether a page's last line, however full, is the end of a speech: the next page begins with a speaker's name."""
    return (
        not _is_same_flow(line, following)
        and bool(SENTENCE_END.search(line.plain.rstrip()))
        and bool(name := _find_speaker(following))
        and names[name] >= FEWEST_SPEECHES
    )


def _guess_spaces(units: Sequence[Unit]) -> None:
    """Where a page ends, decide by the length of the stanzas around, else by whether lines there stand together."""
    unknown = [number for number, unit in enumerate(units) if unit.at_page_end]
    starts = [number for number, unit in enumerate(units) if unit.spaced or unit.at_page_end] + [len(units)]
    whole = [  # stanzas that no page divides: where they end, and their lines
        (end, end - start)
        for start, end in pairwise(starts)
        if end < len(units) and not units[start].at_page_end and not units[end].at_page_end and end - start > 1
    ]
    ends = [end for end, _ in whole]
    for number in unknown:
        unit, place = units[number], bisect_left(ends, number)
        around = Counter(length for _, length in whole[max(0, place - STANZAS_AROUND) : place + STANZAS_AROUND])
        length, count = around.most_common(1)[0] if around else (0, 0)
        before, after = _count_together(units, number)
        if count >= STANZAS_AROUND and before + after == length:
            unit.spaced = False
        elif count >= STANZAS_AROUND and length in (before, after):
            unit.spaced = True
        elif unit.spaced is None:
            unit.spaced = before == 1 and after == 1


def _count_together(units: Sequence[Unit], number: int) -> tuple[int, int]:
    """How many units stand together before a break and after it."""
    first, last = number - 1, number
    while first > 0 and units[first].spaced is False:
        first -= 1
    while last + 1 < len(units) and units[last + 1].spaced is False:
        last += 1
    return number - first, last + 1 - number


def _find_gap(unit: Unit, following: Unit, metrics: Metrics) -> float:
    """Between two units of the text's own size on a page, in distances of lines; else 0."""
    a, b = unit.lines[-1], following.lines[0]
    if not _is_same_flow(a, b) or abs(a.size - b.size) > 0.5:
        return 0.0
    return (a.y - b.y) / metrics.find_spacing(a)


def _find_break(line: Line, following: Line, metrics: Metrics) -> tuple[bool, bool | None]:
    """Whether a unit ends between two lines, and whether there is a gap between them, None if that is unknown."""
    if abs(line.size - following.size) > 0.08 * metrics.size:
        return True, True
    if not _is_same_flow(line, following):
        return _find_break_of_page(line, following, metrics)
    if line.y - following.y > GAP * metrics.find_spacing(line):
        return True, True
    is_indented = _begins_indented(following, metrics)
    if not _is_full(line, following, metrics):
        return True, False
    if metrics.is_hanging:
        return not is_indented, False
    indent = _find_line_indent(following, metrics)
    was_indented = abs(following.left - line.left) < INDENT * line.size  # a quotation or verse that is set apart
    is_usual = abs(indent - metrics.indent) < 0.25 * line.size
    return is_indented and (is_usual or not was_indented), False


def _find_break_of_page(line: Line, following: Line, metrics: Metrics) -> tuple[bool, bool | None]:
    """The same where a page or a column ends, so that there may be a gap that is not seen."""
    is_speech = line.plain.endswith(CLOSING) and following.plain.startswith(OPENING)
    if _is_full(line, following, metrics) and not is_speech and not _begins_indented(following, metrics):
        return False, False
    spacing = metrics.find_spacing(line)
    is_short = line.y > metrics.bottom + 0.9 * spacing or following.y < metrics.top - 0.9 * spacing
    return True, True if is_short and line.page != following.page else None


def _begins_indented(line: Line, metrics: Metrics) -> bool:
    return _find_line_indent(line, metrics) > INDENT * line.size


def _tell_lines(units: Sequence[Unit], metrics: Metrics) -> None:
    """Tell lines of verse, which stand together, from paragraphs."""
    if metrics.indent:
        for unit, following in pairwise(units):
            goes_on = following.spaced is False and not following.at_page_end and not _is_indented(following, metrics)
            if goes_on:  # without an indent it belongs to the paragraph before
                unit.spaced = unit.spaced or not unit.is_line
                unit.is_line = following.is_line = True
    start = 0
    for end in range(1, len(units) + 1):
        if end < len(units) and not units[end].spaced:
            continue
        together = units[start:end]
        n_several = sum(len(unit.lines) > 1 for unit in together)
        are_lines = len(together) > 1 and n_several < SHARE_OF_PARAGRAPHS * len(together)
        for unit in together:
            unit.is_line = unit.is_line or (are_lines and not _is_indented(unit, metrics))
        start = end


def _is_indented(unit: Unit, metrics: Metrics) -> bool:
    """Whether a unit begins as paragraphs do."""
    indent = _find_line_indent(unit.lines[0], metrics)
    return bool(metrics.indent) and abs(indent - metrics.indent) < 0.25 * metrics.size


def _make_blocks(units: Sequence[Unit], metrics: Metrics, words: Counter[str]) -> Iterator[Block]:
    for unit in units:
        if unit.far:
            yield Block("")
        text = _join_text(unit.lines, metrics, words)
        if unit.is_line:
            first = unit.lines[0]
            width = max(1.0, (first.right - first.left) / max(1, len(first.plain)))
            text = "\xa0" * min(MOST_INDENT, round(_find_line_indent(first, metrics) / width)) + text
        yield Block(clean_block(text), spaced=bool(unit.spaced) or not unit.is_line, is_line=unit.is_line)


def _find_division(lines: Sequence[Line], words: Counter[str]) -> bool:
    """Whether the document divides words at the ends of lines: without hyphens many of them are words of it."""
    n_whole = n_hyphens = 0
    for line, following in pairwise(lines):
        before, after = _find_divided(line.plain), re.match(r"\w+", following.plain)
        if before and after:
            n_hyphens += 1
            n_whole += words[(before + after[0]).casefold()] > words[f"{before}-{after[0]}".casefold()]
    return n_whole > SHARE_DIVIDED * n_hyphens


def _find_divided(text: str) -> str:
    """The word before a hyphen at the end of a line, or ""."""
    match = LAST_WORD.search(text[-LONGEST_WORD:-1]) if text.endswith(HYPHENS) else None
    return match[0] if match else ""


def _join_text(lines: Sequence[Line], metrics: Metrics, words: Counter[str]) -> str:
    parts = [lines[0].text]
    for line in lines[1:]:
        parts[-1] = _end_line(parts[-1], line.text, metrics, words)
        parts.append(line.text)
    return "".join(parts)


def _end_line(text: str, following: str, metrics: Metrics, words: Counter[str]) -> str:
    """A line of a paragraph, with a space at its end unless it ends with a divided word or a dash."""
    bare = text.rstrip(f" {ITALIC}{ITALIC_END}")
    marks = "".join(mark for mark in text[len(bare) :] if mark != " ")
    has_space = text[len(bare) :].rstrip(f"{ITALIC}{ITALIC_END}").endswith(" ")
    before = "" if has_space else _find_divided(bare)
    if before:
        after = re.match(r"\w+", MARKS.sub("", following))
        divides = metrics.divides or bare[-1] == SOFT_HYPHEN
        if after and _is_divided(before, after[0], words, divides=divides):
            return bare[:-1] + marks
        return (bare[:-1] + "-" if bare[-1] in (SOFT_HYPHEN, LINE_HYPHEN) else bare) + marks
    if bare.endswith(("—", "--")) and not (metrics.spaced_ends and has_space):
        return bare + marks
    return bare + marks + " "


def _is_divided(before: str, after: str, words: Counter[str], *, divides: bool) -> bool:
    """Whether a hyphen at the end of a line only divides a word there."""
    whole, hyphenated = words[(before + after).casefold()], words[f"{before}-{after}".casefold()]
    if whole != hyphenated:
        return whole > hyphenated
    return divides and after[:1].islower()
