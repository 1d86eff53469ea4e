"""Pages of a site that only list others: overviews and archives, in which the beginnings of posts stand again.

A model that learns them learns those beginnings several times, and to break off. Whether a page is one shows only
beside the others: most of its paragraphs begin as those of different other pages do, or all as longer ones elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from epigone.corpus.large_text import Text

COMPARED_CHARACTERS, SHORTEST_PARAGRAPH = 50, 60
"""Of a paragraph: its beginning, since what is listed is often cut off, and how long it is at least."""
FEWEST_PARAGRAPHS, FEWEST_OTHERS = 3, 3
LEAST_CUT = 20
"""Characters that a paragraph has less than one that begins alike elsewhere: it is cut off."""
SHARE_OF_SHARED = 0.6
"""Of a page's paragraphs."""
LONGEST_PAGE = 1 << 20
"""Characters: a longer one does not list others."""


def find_overview_pages(pages: Sequence[Text]) -> list[int]:
    """The numbers of the pages that list others. What only such pages have stays in one of them."""
    beginnings = [_list_beginnings(page) for page in pages]
    owners: dict[str, set[int]] = defaultdict(set)
    longest: dict[str, int] = defaultdict(int)
    for number, found in enumerate(beginnings):
        for beginning, length in found.items():
            owners[beginning].add(number)
            longest[beginning] = max(longest[beginning], length)
    n_shared = {number: _count_others(found, owners) for number, found in enumerate(beginnings)}
    listings = [number for number, found in enumerate(beginnings) if found and _is_cut_off(found, longest)]
    for number in sorted(n_shared, key=lambda each: -n_shared[each]):
        if _count_others(beginnings[number], owners) >= FEWEST_OTHERS:
            listings.append(number)
            for beginning in beginnings[number]:
                owners[beginning].discard(number)
    return sorted(set(listings))


def _list_beginnings(page: Text) -> dict[str, int]:
    """The beginning of each paragraph, and how long it is."""
    if len(page) > LONGEST_PAGE:
        return {}
    paragraphs = (paragraph.strip() for paragraph in page[:].split("\n\n"))
    return {each[:COMPARED_CHARACTERS]: len(each) for each in paragraphs if len(each) >= SHORTEST_PARAGRAPH}


def _is_cut_off(beginnings: Mapping[str, int], longest: Mapping[str, int]) -> bool:
    return all(length + LEAST_CUT <= longest[beginning] for beginning, length in beginnings.items())


def _count_others(beginnings: Collection[str], owners: Mapping[str, set[int]]) -> int:
    """How many different groups of pages have what a page has; 0 if most of it is nowhere else.

    What stands on all pages, such as a remark on the author, has one group only.
    """
    shared = [owners[beginning] for beginning in beginnings if len(owners[beginning]) > 1]
    if len(beginnings) < FEWEST_PARAGRAPHS or len(shared) < SHARE_OF_SHARED * len(beginnings):
        return 0
    return len({frozenset(others) for others in shared})
