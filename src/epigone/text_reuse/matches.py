"""All passages that a text shares with documents, and the longest one, found exactly and in little memory.

Rolling hashes select the parts of the documents that can match, and suffix ranks (Manber and Myers 1990) measure the
matches in these. Documents of any length are read once, block by block.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epigone.corpus.large_text import Text, count_lines
from epigone.text_reuse.hashing import (
    BLOCK_CHARACTERS,
    SEPARATOR,
    code_points,
    hash_windows,
    locate_characters,
    locate_in_block,
    mark_prefixes,
    normalise,
    normalise_blocks,
)

Integers = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int32]
HELD_CHARACTERS = 1 << 20
"""Characters of documents that are collected before they are compared; each takes about 200 bytes meanwhile."""
REMEMBERED_CHARACTERS = 1 << 25
"""Characters of pieces that are remembered, so that equal ones are not compared again."""
FIRST_SEPARATOR = 0x110000
"""The first number after the last code point: from here on each separator has its own."""
SEED_CHARACTERS = 24
"""Two texts of one language share a few passages of this length, so one reading finds the longest."""


# -- what is found


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The longest passage that a text shares with a document, quoted from both."""

    passage: str
    """As it is in the text."""
    original: str
    """As it is in the document."""
    n_characters: int
    """Of the passage after normalising."""
    document: int
    """The document's number, from 0."""
    offset: int
    """Characters of the document before the original."""
    line: int
    """The line of the document, from 1, with the original's first character that is not white space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A passage that a text shares with a document and that cannot be extended on either side."""

    start: int
    """Characters of the text before it."""
    end: int
    """Characters of the text up to its end."""
    n_characters: int
    """Of the passage after normalising."""
    document: int
    """The document's number, from 0."""
    offset: int
    """Characters of the document before the original."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchReport:
    """What a text shares with the documents."""

    n_characters: int
    """Of the normalised text."""
    n_covered: int
    """Of these, the ones that are in a passage."""
    passages: tuple[Passage, ...]
    """In text order. They may overlap, but none is inside another."""
    longest: Match | None
    """Of any length; the first in the documents, if several are as long."""

    @property
    def share(self) -> float:
        """The share of the normalised text that is in passages: 0 to 1."""
        return self.n_covered / max(1, self.n_characters)


# -- finding it


def find_matches(texts: Sequence[str], documents: Iterable[Text], n_characters: int) -> list[MatchReport]:
    """For each text, all passages of at least `n_characters` normalised characters that it shares with a document.

    The documents are read once for all texts, without an index: this takes some 200 bytes for each character of the
    texts and of what they share, and 24 for every 131,072 characters of the documents. Raises ValueError if
    `n_characters` is not positive.
    """
    if n_characters < 1:
        raise ValueError(f"A passage cannot have {n_characters} characters.")
    searched = SearchedDocuments(documents)
    finder = searched.compare(list(map(normalise, texts)), min(n_characters, SEED_CHARACTERS))
    return [_report(text, searched, finder, number, n_characters) for number, text in enumerate(texts)]


def find_longest_shared(text: str, documents: Iterable[Text]) -> Match | None:
    """The longest passage, in normalised characters, that the text shares with a document.

    If several are as long, it is the first in the documents.
    """
    searched = SearchedDocuments(documents)
    return searched.quote_longest(text, searched.compare([normalise(text)], SEED_CHARACTERS).longest[0])


def measure_longest(texts: Sequence[str], documents: Iterable[Text], n_characters: int) -> list[int]:
    """For each text, the normalised length of the longest passage that it shares; 0 if below `n_characters`.

    The documents are read once for all texts.
    """
    found = SearchedDocuments(documents).compare(list(map(normalise, texts)), n_characters).longest
    return [size if size >= n_characters else 0 for _, _, size in found]


def _report(text: str, searched: SearchedDocuments, finder: MatchFinder, number: int, n_characters: int) -> MatchReport:
    first, end = finder.parts[number]
    lengths = finder.lengths[first:end]
    lengths = np.where(lengths >= n_characters, lengths, 0)
    before = np.concatenate([[0], lengths[:-1]])
    kept = np.flatnonzero((lengths > 0) & (lengths >= before))  # any other one ends where its predecessor does
    origins, places = locate_characters(text), finder.places[first:end]
    steps = np.zeros(end - first + 1, np.int64)
    np.add.at(steps, kept, 1)
    np.add.at(steps, kept + lengths[kept], -1)
    passages = []
    for start, size, place in zip(kept.tolist(), lengths[kept].tolist(), places[kept].tolist(), strict=True):
        document, offset = searched.locate(place)
        span = {"start": int(origins[start]), "end": int(origins[start + size - 1]) + 1}
        passages.append(Passage(**span, n_characters=size, document=document, offset=offset))
    longest = searched.quote_longest(text, finder.longest[number])
    n_covered = int((steps.cumsum() > 0).sum())
    return MatchReport(n_characters=end - first, n_covered=n_covered, passages=tuple(passages), longest=longest)


class SearchedDocuments:
    """Documents, and where the blocks of their normalised text begin."""

    def __init__(self, documents: Iterable[Text]) -> None:
        if isinstance(documents, str):
            documents = [documents]
        self.documents = documents if isinstance(documents, Sequence) else list(documents)
        self._starts, self._numbers, self._origins, self._end = array("q"), array("q"), array("q"), 0

    def compare(self, texts: Sequence[str], size: int) -> MatchFinder:
        """Find what normalised texts share with the documents, in passages of `size` characters or more."""
        self._starts, self._numbers, self._origins, self._end = array("q"), array("q"), array("q"), 0
        finder = MatchFinder(texts, max(1, min(size, max(map(len, texts), default=0))))
        for number, document in enumerate(self.documents):
            finder.read(self._read_blocks(number, document), self._end)
            self._end += len(SEPARATOR)
        finder.finish()
        return finder

    def _read_blocks(self, number: int, document: Text) -> Iterator[str]:
        for block_number, block in enumerate(normalise_blocks(document)):
            self._starts.append(self._end)
            self._numbers.append(number)
            self._origins.append(block_number * BLOCK_CHARACTERS)
            self._end += len(block)
            yield block

    def locate(self, place: int) -> tuple[int, int]:
        """A document's number and a place in it, from a place in all the normalised documents."""
        block = bisect_right(self._starts, place) - 1
        number, origin = self._numbers[block], self._origins[block]
        return number, locate_in_block(self.documents[number], origin, place - self._starts[block])

    def quote_longest(self, text: str, longest: tuple[int, int, int]) -> Match | None:
        """Quote a text's longest passage from both sides; if none was found yet, look for shorter ones."""
        ours, size = normalise(text), SEED_CHARACTERS
        while not longest[2] and size > 1:
            size = max(1, min(size // 2, len(ours)))
            longest = self.compare([ours], size).longest[0]
        return self._quote(text, *longest) if longest[2] else None

    def _quote(self, text: str, first: int, place: int, size: int) -> Match:
        origins = locate_characters(text)
        passage = text[int(origins[first]) : int(origins[first + size - 1]) + 1]
        (number, offset), (_, last) = self.locate(place), self.locate(place + size - 1)
        document = self.documents[number]
        original = document[offset : last + 1]
        visible = offset + len(original) - len(original.lstrip())
        return Match(
            passage=passage,
            original=original,
            n_characters=size,
            document=number,
            offset=offset,
            line=count_lines(document, visible) + 1,
        )


# -- comparing normalised texts


class MatchFinder:
    """Finds what normalised texts share with documents, in passages of at least `size` characters."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        self.ours, self.size = SEPARATOR.join(texts), size
        ends = np.cumsum([len(text) + len(SEPARATOR) for text in texts]) - len(SEPARATOR)
        self.parts = [(int(end) - len(text), int(end)) for end, text in zip(ends, texts, strict=True)]
        """Where each text begins and ends in `ours`."""
        self.lengths = np.zeros(len(self.ours), np.int64)
        """The length of the longest match at each character; 0 if it is shorter than `size`."""
        self.places = np.zeros(len(self.ours), np.int64)
        """Where that match begins, counted over all documents."""
        self.longest = [(0, 0, 0)] * len(texts)
        """Each text's longest match: its place in the text and in the documents, and its length."""
        self._hashes = hash_windows(self.ours, size)
        self._wanted = np.unique(self._hashes)
        n_bits = min(24, max(10, len(self._wanted).bit_length() + 4))
        self._marks, self._shift = mark_prefixes(self._wanted, n_bits), np.uint64(64 - n_bits)
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self._n_held = self._n_seen = 0
        self._seen: set[str] = set()

    def read(self, blocks: Iterable[str], start: int) -> None:
        """Read a document in normalised blocks, the first of which begins at `start`."""
        text = ""
        for block in blocks:
            text += block
            n_done = self._collect_runs(text, start)
            text, start = text[n_done:], start + n_done
        if len(text) >= self.size:
            self._collect(text, start)

    def finish(self) -> None:
        """To be called after the last document."""
        if self._pieces:
            self._compare()

    def _collect_runs(self, text: str, start: int) -> int:
        """Collect what can match; returns how many characters are done, so that no match crosses that edge."""
        n_windows = max(0, len(text) - self.size + 1)
        runs = list(_split_runs(self._candidate_windows(text)))
        is_open = bool(runs) and runs[-1][1] == n_windows
        n_done = runs.pop()[0] if is_open else n_windows
        for first, end in runs:
            self._collect(text[first : end + self.size - 1], start + first)
        while is_open and len(text) - n_done > 3 * len(self.ours):  # no match is longer than ours
            self._collect(text[n_done : n_done + 2 * len(self.ours)], start + n_done)
            n_done += len(self.ours)
        return n_done

    def _candidate_windows(self, text: str) -> Integers:
        """The places of the windows whose hashes are in ours as well."""
        if not len(self._wanted):
            return np.zeros(0, np.int64)
        hashes = hash_windows(text, self.size)
        near = np.flatnonzero(self._marks[hashes >> self._shift])
        hashes = hashes[near]
        found = np.minimum(self._wanted.searchsorted(hashes), len(self._wanted) - 1)
        known: Integers = near[self._wanted[found] == hashes]
        return known

    def _collect(self, piece: str, start: int) -> None:
        if piece in self._seen:
            return
        if self._n_seen + len(piece) > REMEMBERED_CHARACTERS:
            self._seen.clear()
            self._n_seen = 0
        self._seen.add(piece)
        self._n_seen += len(piece)
        self._n_held += len(piece)
        self._pieces.append(piece)
        self._starts.append(start)
        if self._n_held > max(HELD_CHARACTERS, len(self.ours)):
            self._compare()

    def _compare(self) -> None:
        """Measure the matches with the collected pieces, and drop them."""
        theirs = SEPARATOR.join([*self._pieces, ""])
        known = np.flatnonzero(np.isin(self._hashes, hash_windows(theirs, self.size)))
        runs = list(_split_runs(known))
        ours = "".join(self.ours[first : end + self.size - 1] + SEPARATOR for first, end in runs)
        if ours:
            lengths, found = match_suffixes(_separate(ours + theirs), len(ours))
            origins = np.concatenate([np.arange(first, end + self.size) for first, end in runs])
            self._keep(origins, lengths, self._locate(found - len(ours)))
            for number in range(len(self.parts)):
                self._keep_longest(number, theirs)
        self._pieces, self._starts, self._n_held = [], [], 0

    def _locate(self, places: Integers) -> Integers:
        """From places in the joined pieces to places in the documents."""
        edges = np.cumsum([0, *(len(piece) + 1 for piece in self._pieces)])[:-1]
        numbers = edges.searchsorted(places, "right") - 1
        starts = np.array(self._starts, np.int64)
        located: Integers = starts[numbers] + places - edges[numbers]
        return located

    def _keep(self, origins: Integers, lengths: Integers, places: Integers) -> None:
        kept = lengths >= self.size  # if runs of ours overlap, a character occurs more than once
        origins, lengths, places = origins[kept], lengths[kept], places[kept]
        better = lengths > self.lengths[origins]
        self.lengths[origins[better]] = lengths[better]
        self.places[origins[better]] = places[better]

    def _keep_longest(self, number: int, theirs: str) -> None:
        """Update a text's longest match, and find where it is first."""
        begins, ends = self.parts[number]
        lengths = self.lengths[begins:ends]
        size = int(lengths.max(initial=0))
        if size <= self.longest[number][2]:
            return
        firsts = (begins + np.flatnonzero(lengths == size)).tolist()
        windows = {self.ours[first : first + size] for first in firsts}
        place, window = min((theirs.find(window), window) for window in windows)
        first = self.ours.find(window, begins) - begins
        self.longest[number] = (first, int(self._locate(np.array([place]))[0]), size)


def _split_runs(places: Integers) -> Iterator[tuple[int, int]]:
    """Each run of consecutive places: its first, and one more than its last."""
    edges = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    ends = places[np.append(edges[1:], len(places)) - 1] + 1 if len(places) else places
    return zip(places[edges].tolist(), ends.tolist(), strict=True)


def _separate(text: str) -> Integers:
    """The code points of a text, with a number of its own for each separator."""
    codes = code_points(text).astype(np.int64)
    separators = np.flatnonzero(codes == ord(SEPARATOR))
    codes[separators] = FIRST_SEPARATOR + np.arange(len(separators))
    return codes


# -- the suffixes of two texts


def match_suffixes(codes: Integers, n_ours: int) -> tuple[Integers, Integers]:
    """For each of the first `n_ours` suffixes: the longest prefix it shares with a later suffix, and which one that is.

    Both are int64 [n_ours]. Later suffixes begin at `n_ours` or after, and there must be one. The last code must occur
    only once, and so must one before `n_ours`. A suffix has its longest match right before or after itself in sorted
    order (Manber and Myers 1990).
    """
    levels = _rank_suffixes(codes)
    order = np.empty(len(codes), np.int64)
    order[levels[-1]] = np.arange(len(codes))
    numbers, theirs = np.arange(len(codes)), order >= n_ours
    before = np.maximum.accumulate(np.where(theirs, numbers, -1))
    after = np.minimum.accumulate(np.where(theirs, numbers, len(codes))[::-1])[::-1]
    ours, last = levels[-1][:n_ours], len(codes) - 1  # the last code matches nothing
    earlier = np.where(before[ours] >= 0, order[before[ours]], last)
    later = np.where(after[ours] <= last, order[np.minimum(after[ours], last)], last)
    n_earlier, n_later = _count_common(levels, earlier), _count_common(levels, later)
    return np.maximum(n_earlier, n_later), np.where(n_earlier > n_later, earlier, later)


def _rank_suffixes(codes: Integers) -> list[Ranks]:
    """The rank of the 1, 2, 4 ... characters from each place among all such, until no two ranks are equal."""
    levels = [np.unique(codes, return_inverse=True)[1].astype(np.int32)]
    while levels[-1].max() + 1 < len(codes):
        size = 1 << len(levels) - 1
        keys = levels[-1].astype(np.int64) * (len(codes) + 1)
        keys[:-size] += levels[-1][size:] + 1
        order = np.argsort(keys)
        ranks = np.empty(len(codes), np.int32)
        ranks[order] = np.concatenate([[0], np.cumsum(np.diff(keys[order]) != 0)])
        levels.append(ranks)
    return levels


def _count_common(levels: list[Ranks], others: Integers) -> Integers:
    """The common prefix of each of the first suffixes and the given other one, in characters."""
    places, others, lengths = np.arange(len(others)), others.copy(), np.zeros(len(others), np.int64)
    for number in reversed(range(len(levels) - 1)):
        step = (levels[number][places] == levels[number][others]).astype(np.int64) << number
        places += step
        others += step
        lengths += step
    return lengths
