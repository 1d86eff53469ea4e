"""Page numbers and running heads on lines of their own, where pages end within sentences or at form feeds."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from epigone.corpus.furniture.spans import Lines, Span, goes_on

NUMBER_LINE = re.compile(
    r"[-–—~*\[(|. \t]*(?:page[ \t]+|p\. ?)?(\d{1,4})(?P<of>[ \t]*(?:of|/)[ \t]*\d{1,4})?[-–—~*\])|. \t]*", re.I
)
HEAD_LINE = re.compile(r"(?:(\d{1,4})[ \t|.\[\]–—-]+(?=\D*$))?(\D{3,60}?)(?:[ \t|.\[\]–—-]+(\d{1,4}))?[\]. \t]*")
FEWEST = 5
"""Numbers that count up."""
FEWEST_WITHIN, LEAST_WITHIN = 3, 0.08
"""Of the numbers, those within a sentence: half of a novel's, a tenth of a play's, and never those of chapters. Of
21,000 texts without pages, one had a single number there."""
MOST_SMALL = 0.06
"""Of other paragraphs, those that begin in the middle of a sentence: in more, its paragraphs show nothing."""
PAGE_CHARACTERS = range(400, 9_000)
"""Between two numbers, in the middle."""
AHEAD = 8
"""Candidates that may stand between two that count."""
LONGEST_HEAD = 80
FEWEST_HEADS = 3
MOST_AROUND = 2
"""Lines of heads beside a number."""
FEWEST_PAGES = 4
"""With form feeds between them."""


@dataclass(slots=True)
class Candidate:
    """A line that may have a page's number, with the words beside it."""

    line: int
    value: int
    head: str = ""
    length: int = 1
    """Of the longest chain of numbers that ends here."""
    before: Candidate | None = field(default=None, repr=False)


def find_pages(lines: Lines) -> Iterator[Span]:
    """Numbers and heads of pages."""
    if len(lines.numbered) < FEWEST:  # most short texts
        return
    chain = _find_chain(_list_candidates(lines))
    if len(chain) < FEWEST:
        return
    repeated = {line for line, count in _count_short(lines).items() if count >= FEWEST_HEADS}
    if not (_all_say_so(lines, chain) or _is_of_pages(lines, chain, repeated)):
        return
    numbers = {candidate.line for candidate in chain}
    beside = Counter(lines.stripped[near] for line in numbers for near in _list_beside(lines, line, repeated))
    all_lines = Counter(line for line in lines.stripped if line in beside)
    heads = {line for line, count in beside.items() if count >= FEWEST_HEADS and count >= 0.5 * all_lines[line]}
    for candidate in chain:
        yield lines.span(candidate.line, candidate.line, "running heads" if candidate.head else "page numbers")
        for near in _list_beside(lines, candidate.line, heads):
            yield lines.span(near, near, "running heads")


def _count_short(lines: Lines) -> Counter[str]:
    return Counter(line for line in lines.stripped if 2 < len(line) <= LONGEST_HEAD)


def _list_candidates(lines: Lines) -> list[Candidate]:
    """Lines with a number alone, and those with a number and words that stand beside others too."""
    alone: list[Candidate] = []
    headed: dict[str, list[Candidate]] = defaultdict(list)
    for number in lines.numbered:
        line = lines.stripped[number]
        if len(line) > LONGEST_HEAD + 10:
            continue
        if match := NUMBER_LINE.fullmatch(line):
            alone.append(Candidate(number, int(match[1])))
        elif (match := HEAD_LINE.fullmatch(line)) and bool(match[1]) != bool(match[3]):
            head = "".join(filter(str.isalpha, match[2])).casefold()
            if len(head) > 2:
                headed[head].append(Candidate(number, int(match[1] or match[3]), head))
    usual = [group for group in headed.values() if len(group) >= FEWEST_HEADS and _rises(group)]
    return sorted((each for group in (alone, *usual) for each in group), key=lambda each: each.line)


def _rises(group: Sequence[Candidate]) -> bool:
    return all(b.value > a.value for a, b in pairwise(group))


def _find_chain(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The longest series in which each number is at most three more than the one before."""
    best: Candidate | None = None
    for place, candidate in enumerate(candidates):
        for earlier in candidates[max(0, place - AHEAD) : place]:
            if 0 < candidate.value - earlier.value <= 3 and earlier.length >= candidate.length:
                candidate.length, candidate.before = earlier.length + 1, earlier
        if best is None or candidate.length > best.length:
            best = candidate
    chain: list[Candidate] = []
    while best:
        chain.append(best)
        best = best.before
    return chain[::-1]


def _all_say_so(lines: Lines, chain: Sequence[Candidate]) -> bool:
    """Whether all say of how many pages they are one: "Page 12 of 300"."""
    found = [NUMBER_LINE.fullmatch(lines.stripped[each.line]) for each in chain]
    return len({match["of"] for match in found if match}) == 1 and all(match and match["of"] for match in found)


def _is_of_pages(lines: Lines, chain: Sequence[Candidate], repeated: set[str]) -> bool:
    """Whether the text goes on across many of these lines, as it does across nothing that its author put there."""
    apart = [lines.starts[b.line] - lines.starts[a.line] for a, b in pairwise(chain)]
    if int(median(apart)) not in PAGE_CHARACTERS:
        return False
    n_within = sum(_is_within(lines, candidate.line, repeated) for candidate in chain)
    return (
        n_within >= max(FEWEST_WITHIN, LEAST_WITHIN * len(chain))
        and _measure_small(lines, chain, repeated) <= MOST_SMALL
    )


def _is_within(lines: Lines, number: int, repeated: set[str]) -> bool:
    around = [number, *_list_beside(lines, number, repeated)]
    before, after = lines.find_text(min(around) - 1, -1), lines.find_text(max(around) + 1, 1)
    return before is not None and after is not None and goes_on(lines.stripped[before], lines.stripped[after])


def _list_beside(lines: Lines, number: int, wanted: set[str]) -> list[int]:
    """The lines before and after a page's number that are wanted, with only blank lines between."""
    found: list[int] = []
    for step in (-1, 1):
        near: int | None = number
        for _ in range(MOST_AROUND):
            near = lines.find_text(near + step, step) if near is not None else None
            if near is None or lines.stripped[near] not in wanted:
                break
            found.append(near)
    return found


def _measure_small(lines: Lines, chain: Sequence[Candidate], repeated: set[str]) -> float:
    """Of the paragraphs that do not stand beside one of these numbers, the share that goes on from the one before."""
    edges = {near for each in chain for near in (each.line, *_list_beside(lines, each.line, repeated))}
    n_all = n_small = 0
    before: int | None = None
    for start, end in lines.list_paragraphs(0, len(lines.all)):
        if before is not None and not edges.intersection((before, start)):
            n_all += 1
            n_small += goes_on(lines.stripped[before], lines.stripped[start])
        before = end
    return n_small / n_all if n_all >= FEWEST else 0.0


# -- form feeds


def find_fed_pages(lines: Lines) -> Iterator[Span]:
    """Numbers and heads at the edges of pages that form feeds divide, and the form feeds."""
    if "\f" not in lines.text:
        return
    starts = [0, *(number for number, line in enumerate(lines.all) if line.startswith("\f"))]
    if len(starts) < FEWEST_PAGES:
        return
    pages = [_list_edges(lines, first, last) for first, last in zip(starts, [*starts[1:], len(lines.all)], strict=True)]
    numbers, heads = _choose_numbers(lines, pages), _choose_heads(lines, pages)
    if not numbers and not heads:
        return
    for number in sorted(numbers):
        yield lines.span(number, number, "page numbers")
    for number in sorted(heads - numbers):
        yield lines.span(number, number, "running heads")
    for number in starts[1:]:
        if number not in numbers | heads:
            start = lines.starts[number]
            yield Span(start, start + 1, "page breaks")


def _list_edges(lines: Lines, first: int, last: int) -> list[int]:
    """The first and the last two lines of a page with something on them."""
    shown = [number for number in range(first, last) if lines.stripped[number]]
    return sorted({*shown[:2], *shown[-2:]}) if len(shown) > 4 else shown[:1] + shown[-1:] if len(shown) > 1 else []


def _choose_numbers(lines: Lines, pages: Sequence[Sequence[int]]) -> set[int]:
    """Lines whose number counts the pages."""
    by_offset: dict[int, list[int]] = defaultdict(list)
    for page, edges in enumerate(pages):
        for line in edges:
            shown = lines.stripped[line]
            match = NUMBER_LINE.fullmatch(shown)
            if match or (match := HEAD_LINE.fullmatch(shown)):
                values = [int(value) for value in match.groups() if value and value.isdigit()]
                for value in values[:1]:
                    by_offset[value - page].append(line)
    best = max(by_offset.values(), key=len, default=[])
    return set(best) if len(best) >= max(FEWEST_HEADS, 0.3 * len(pages)) else set()


def _choose_heads(lines: Lines, pages: Sequence[Sequence[int]]) -> set[int]:
    """Lines at the edges that are the same on many pages."""
    edges = [line for page in pages for line in page if len(lines.stripped[line]) <= LONGEST_HEAD]
    counts = Counter(lines.stripped[line] for line in edges)
    all_lines = Counter(line for line in lines.stripped if line in counts)
    least = max(FEWEST_HEADS, 0.1 * len(pages))
    usual = {shown for shown, count in counts.items() if count >= least and count >= 0.7 * all_lines[shown]}
    return {line for line in edges if lines.stripped[line] in usual and any(map(str.isalnum, lines.stripped[line]))}
