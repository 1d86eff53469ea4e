"""Small texts and any amount of documents in; the longest match that begins at each character of a text out.

The documents go by once, block by block. A sieve of the hashes of the texts' windows lets through what may stand in
them, which is little; what comes twice is dropped; and what is left is compared by the order of its suffixes. So the
time is that of reading, however much is copied and however often the same comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from epigone.text.folding import list_codes
from epigone.text.hashes import hash_windows, mark
from epigone.text.index import SEPARATOR
from epigone.text.suffixes import Integers, match_suffixes

HELD_CHARACTERS = 1 << 20
"""Of documents, that wait to be compared. They take about 200 bytes each while they are."""
REMEMBERED_CHARACTERS = 1 << 25
"""Of what was compared before."""
FIRST_SEPARATOR = 0x110000
"""The code after the last character's: from here on each separator has its own."""


class Overlaps:
    """What normalised texts share with documents, in passages of at least `size` characters."""

    def __init__(self, texts: Sequence[str], size: int) -> None:
        self.ours, self.size = SEPARATOR.join(texts), size
        ends = np.cumsum([len(text) + len(SEPARATOR) for text in texts]) - len(SEPARATOR)
        self.parts = [(int(end) - len(text), int(end)) for end, text in zip(ends, texts, strict=True)]
        """Where in `ours` each text begins and ends."""
        self.lengths = np.zeros(len(self.ours), np.int64)
        """Of the longest match that begins at each character; 0 where it is shorter than `size`."""
        self.places = np.zeros(len(self.ours), np.int64)
        """Where that match begins, counted over all documents."""
        self.longest = [(0, 0, 0)] * len(texts)
        """Of each text: where in it, where in the documents and how long; the first in the documents, if several."""
        self._hashes = hash_windows(self.ours, size)
        self._wanted = np.unique(self._hashes)
        n_bits = min(24, max(10, len(self._wanted).bit_length() + 4))
        self._marks, self._shift = mark(self._wanted, n_bits), np.uint64(64 - n_bits)
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self._n_held = self._n_seen = 0
        self._seen: set[str] = set()

    def read(self, blocks: Iterable[str], start: int) -> None:
        """A document in normalised blocks, the first of which is at `start`."""
        text = ""
        for block in blocks:
            text += block
            n_done = self._take_runs(text, start)
            text, start = text[n_done:], start + n_done
        if len(text) >= self.size:
            self._take(text, start)

    def finish(self) -> None:
        """To be called when all documents were read."""
        if self._pieces:
            self._compare()

    def _take_runs(self, text: str, start: int) -> int:
        """Take what may stand in ours; how many characters are done with, so that no match goes over that edge."""
        n_windows = max(0, len(text) - self.size + 1)
        runs = list(_split_runs(self._find_known(text)))
        is_open = bool(runs) and runs[-1][1] == n_windows
        n_done = runs.pop()[0] if is_open else n_windows
        for first, end in runs:
            self._take(text[first : end + self.size - 1], start + first)
        while is_open and len(text) - n_done > 3 * len(self.ours):  # no match is longer than ours
            self._take(text[n_done : n_done + 2 * len(self.ours)], start + n_done)
            n_done += len(self.ours)
        return n_done

    def _find_known(self, text: str) -> Integers:
        """The places of the windows that stand in ours as well, if equal hashes are equal windows."""
        if not len(self._wanted):
            return np.zeros(0, np.int64)
        hashes = hash_windows(text, self.size)
        near = np.flatnonzero(self._marks[hashes >> self._shift])
        hashes = hashes[near]
        found = np.minimum(self._wanted.searchsorted(hashes), len(self._wanted) - 1)
        known: Integers = near[self._wanted[found] == hashes]
        return known

    def _take(self, piece: str, start: int) -> None:
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
        """Measure the matches with the pieces that are held, and hold none any more."""
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
        kept = lengths >= self.size  # where several runs of ours overlap, a character comes more than once
        origins, lengths, places = origins[kept], lengths[kept], places[kept]
        better = lengths > self.lengths[origins]
        self.lengths[origins[better]] = lengths[better]
        self.places[origins[better]] = places[better]

    def _keep_longest(self, number: int, theirs: str) -> None:
        """Look whether a text has now a longer match than before, and where that comes first."""
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
    """Each stretch of places without a gap: its first, and one more than its last."""
    edges = np.flatnonzero(np.diff(places, prepend=-2) > 1)
    ends = places[np.append(edges[1:], len(places)) - 1] + 1 if len(places) else places
    return zip(places[edges].tolist(), ends.tolist(), strict=True)


def _separate(text: str) -> Integers:
    """The codes of a text, each separator with one of its own."""
    codes = list_codes(text).astype(np.int64)
    separators = np.flatnonzero(codes == ord(SEPARATOR))
    codes[separators] = FIRST_SEPARATOR + np.arange(len(separators))
    return codes
