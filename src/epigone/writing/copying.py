"""What was learned from in, and a text or the tokens it may go on with; which passages are copied, and whence, out.

Two passages are the same if they differ in nothing but case and white space.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
BASE = 0x9E3779B97F4A7C15
"""Of the polynomials. 2^64 over the golden ratio spreads neighbours (Knuth 1973); it is odd, so it has an inverse."""
MODULUS = 1 << 64
FULL = MODULUS - 1
WINDOWS_AT_ONCE = 1 << 20
SIEVE_BITS = 20
"""A sieve of a megabyte stays in the processor's cache."""
FIRST_SIZE = 32
"""Characters. Texts of one language seldom share more by chance, so the search begins there and doubles."""
SEPARATOR = "\n"
"""Stands between documents: no normalised text holds it, so no passage is found across two of them."""
_UNEVEN = re.compile(r"[^\S ]\s*| \s+")
_N_SPELLED = 1 << 16
"""More than GPT-2 has tokens."""


def normalise(text: str) -> str:
    """The text as it is compared: every character case-folded, every run of white space one space.

    What is normalised stays as it is when more text follows.
    """
    return _UNEVEN.sub(" ", text.casefold())


def locate_characters(text: str) -> npt.NDArray[np.int64]:
    """For each character of `normalise(text)`, where in the text the one stands that it came from.

    A space came from the first character of its run.
    """
    n_folded = {character: len(character.casefold()) for character in set(text)}
    lengths = np.fromiter(map(n_folded.__getitem__, text), np.int64, len(text))
    origins = np.repeat(np.arange(len(text)), lengths)
    spaces = np.fromiter(map(str.isspace, text.casefold()), np.bool_, len(origins))
    kept = np.ones(len(origins), np.bool_)
    kept[1:] = ~(spaces[1:] & spaces[:-1])
    return origins[kept]


# -- an index of all windows


class CopyIndex:
    """All passages of n_characters + 1 normalised characters that stand in one of the documents.

    It keeps 8 bytes a character, 1 to 2 for a sieve, and the normalised text. What a hash finds is compared with the
    text itself, so a collision costs time and changes nothing.
    """

    def __init__(self, documents: Sequence[str], n_characters: int) -> None:
        """Raises ValueError where `n_characters` is negative."""
        if n_characters < 0:
            raise ValueError(f"A passage of {n_characters} characters is none.")
        self.size = n_characters + 1
        self._text = _join(documents)[0]
        self._lead, self._keys = self._sort_keys()
        self._shift, self._sieve = self._make_sieve()

    def _sort_keys(self) -> tuple[int, Hashes]:
        """A mask, and a key for each window: its hash's leading bits under the mask, then its place, in order."""
        n_places = 1 << len(self._text).bit_length()
        lead = FULL - (n_places - 1)
        keys = _hash_windows(self._text, self.size)
        keys &= np.uint64(lead)
        keys |= np.arange(len(keys), dtype=np.uint64)
        keys.sort()
        return lead, keys

    def _make_sieve(self) -> tuple[int, bytes]:
        """A bit for each value that the leading bits of a hash can have; about 1 in 10 is set."""
        n_bits = len(self._text).bit_length() + 3
        marks = _mark(self._keys, n_bits)
        return 64 - n_bits, np.packbits(marks, bitorder="little").tobytes()

    def contains(self, window: str) -> bool:
        """Whether a window of `size` normalised characters stands in a document. Raises ValueError if it is not one."""
        if len(window) != self.size:
            raise ValueError(f"The index knows windows of {self.size} characters; this one has {len(window)}.")
        return SEPARATOR not in window and self.holds(int(_hash_windows(window, self.size)[0]), window, 0)

    def holds(self, hashed: int, text: str, start: int) -> bool:
        """Whether the window that begins at `start` of a normalised text, and whose hash is given, is among them."""
        if not self._sieve[hashed >> self._shift + 3] >> (hashed >> self._shift & 7) & 1:
            return False
        lead, window = hashed & self._lead, text[start : start + self.size]
        for key in self._keys[self._keys.searchsorted(np.uint64(lead)) :]:
            place = int(key) - lead
            if place > FULL - self._lead:
                return False
            if self._text.startswith(window, place):
                return True
        return False

    def mark_copied(self, text: str) -> npt.NDArray[np.bool_]:
        """For each character of the normalised text, whether it lies in a window that stands in a document."""
        text = normalise(text)
        hashes = _hash_windows(text, self.size).tolist()
        starts = np.array([start for start, hashed in enumerate(hashes) if self.holds(hashed, text, start)], np.int64)
        steps = np.zeros(len(text) + 1, np.int64)
        steps[starts] += 1
        steps[starts + self.size] -= 1
        return steps.cumsum()[:-1] > 0


def measure_copied(text: str, documents: Sequence[str], n_characters: int) -> float:
    """The share of the normalised text that lies in passages of `n_characters` or more from the documents, 0 to 1.

    Raises ValueError where `n_characters` is not positive.
    """
    marks = CopyIndex(documents, n_characters - 1).mark_copied(text)
    return float(marks.mean()) if len(marks) else 0.0


# -- a guard while tokens are drawn


class Said(NamedTuple):
    """What counts of a text that is being written."""

    tail: str = ""
    """Its last normalised characters, one fewer than a window has."""
    hashed: int = 0
    """The polynomial of the tail."""
    after_space: bool = False
    pending: bytes = b""
    """Of a character that is not yet complete."""


class CopyGuard:
    """Knows for one text which tokens would complete a passage of more than n_characters from the documents.

    Only what was taken counts as the text, so a prompt may be copied. Bytes become text as in `endings.Scribe`.
    """

    def __init__(self, index: CopyIndex, token_bytes: Sequence[bytes]) -> None:
        """`token_bytes` are the bytes of each token, as from `list_token_bytes`."""
        self.index, self.token_bytes = index, token_bytes
        self._leaving = pow(BASE, index.size, MODULUS)
        self._said = Said()

    def forbids(self, token: int) -> bool:
        """Whether the text would be copied too far with this token next."""
        return self._read(token)[1]

    def take(self, token: int) -> None:
        """Go on with this token, forbidden or not."""
        self._said = self._read(token)[0]

    def _read(self, token: int) -> tuple[Said, bool]:
        """What was said with this token, and whether it completes a copy."""
        said = self._said
        new, pending = _spell(said.pending + self.token_bytes[token])
        if said.after_space and new.startswith(" "):
            new = new[1:]
        text = said.tail + new
        hashed, copied = self._roll(text, len(said.tail))
        after_space = new.endswith(" ") if new else said.after_space
        return Said(text[max(0, len(text) - self.index.size + 1) :], hashed, after_space, pending), copied

    def _roll(self, text: str, n_old: int) -> tuple[int, bool]:
        """The polynomial of the text's tail, and whether a window stands in a document that ends after `n_old`."""
        hashed, copied, holds = self._said.hashed, False, self.index.holds
        for first, character in enumerate(text[n_old:], n_old + 1 - self.index.size):
            hashed = (hashed + ord(character)) * BASE & FULL
            if first >= 0:
                copied = copied or holds(hashed, text, first)
                hashed = hashed - ord(text[first]) * self._leaving & FULL
        return hashed, copied


@lru_cache(maxsize=_N_SPELLED)
def _spell(data: bytes) -> tuple[str, bytes]:
    """The normalised text of bytes, and what is left at their end of a character that is not complete."""
    text, n_read = codecs.utf_8_decode(data, "replace", False)
    return normalise(text), data[n_read:]


# -- the longest passage


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """A passage of a text that stands in a document too."""

    passage: str
    """As it stands in the text."""
    original: str
    """As it stands in the document."""
    n_characters: int
    """Normalised."""
    document: int
    """The document's number, from 0."""
    offset: int
    """Characters of the document before the original."""
    line: int
    """The document's line, from 1, with the first character of the original that is not white space."""


def find_longest_shared(text: str, documents: Sequence[str]) -> Shared | None:
    """The longest passage, in normalised characters, that the text shares with a document.

    Where several are as long, it is the one that comes first in the documents.
    """
    ours, (theirs, starts) = normalise(text), _join(documents)
    codes, best = _list_codes(theirs), (0, 0, 0)
    low, high = 0, min(len(ours), len(theirs))
    while low < high:
        size = min((low + high + 1) // 2, 2 * low + FIRST_SIZE)
        found = _find_shared(ours, theirs, codes, size)
        low, high = (low, size - 1) if found is None else (size, high)
        best = best if found is None else (*found, size)
    return _show(text, documents, starts, best) if low else None


def _find_shared(ours: str, theirs: str, codes: npt.NDArray[np.uint32], size: int) -> tuple[int, int] | None:
    """Where one window of this size stands in both texts."""
    wanted = _hash_windows(ours, size)
    marks = _mark(wanted, SIEVE_BITS)
    for first, hashes in _stream_hashes(codes, size):
        near = np.flatnonzero(marks[hashes >> np.uint64(64 - SIEVE_BITS)])
        for place in near[np.isin(hashes[near], wanted)] + first:
            found = ours.find(theirs[place : place + size])
            if found >= 0:
                return found, int(place)
    return None


def _show(text: str, documents: Sequence[str], starts: list[int], found: tuple[int, int, int]) -> Shared:
    ours, theirs, size = found
    number = bisect_right(starts, theirs) - 1
    document = _list_documents(documents)[number]
    passage, original = _cut(text, ours, size), _cut(document, theirs - starts[number], size)
    visible = original.start + len(original.text) - len(original.text.lstrip())
    return Shared(
        passage=passage.text,
        original=original.text,
        n_characters=size,
        document=number,
        offset=original.start,
        line=document.count("\n", 0, visible) + 1,
    )


class Cutting(NamedTuple):
    """A part of a text and the characters before it."""

    start: int
    text: str


def _cut(text: str, first: int, size: int) -> Cutting:
    """The part that `size` characters of the normalised text came from."""
    origins = locate_characters(text)
    start, end = int(origins[first]), int(origins[first + size - 1]) + 1
    return Cutting(start, text[start:end])


# -- documents and hashes


def _list_documents(documents: Sequence[str]) -> Sequence[str]:
    return [documents] if isinstance(documents, str) else documents


def _join(documents: Sequence[str]) -> tuple[str, list[int]]:
    """The documents normalised, in one text, and where in it each begins."""
    texts = [normalise(document) for document in _list_documents(documents)]
    lengths = np.array([0, *(len(text) + len(SEPARATOR) for text in texts)])
    return SEPARATOR.join(texts), lengths.cumsum()[:-1].tolist()


def _list_codes(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _mark(hashes: Hashes, n_bits: int) -> npt.NDArray[np.bool_]:
    """For each value of the first bits, whether a hash has it."""
    marks = np.zeros(1 << n_bits, np.bool_)
    marks[hashes >> np.uint64(64 - n_bits)] = True
    return marks


def _hash_windows(text: str, size: int) -> Hashes:
    """The hash of every window of `size` characters: uint64 [len(text) - size + 1]."""
    hashes = np.empty(max(0, len(text) - size + 1), np.uint64)
    for first, some in _stream_hashes(_list_codes(text), size):
        hashes[first : first + len(some)] = some
    return hashes


def _stream_hashes(codes: npt.NDArray[np.uint32], size: int) -> Iterator[tuple[int, Hashes]]:
    """The same in blocks, each with the number of its first window.

    A window's hash is the sum of its codes times falling powers of BASE, the last times BASE itself (Karp and Rabin
    1987). With sums of codes times powers of the inverse, it is a difference times a power.
    """
    n_windows = len(codes) - size + 1
    n_at_once = min(WINDOWS_AT_ONCE, n_windows)
    if n_at_once < 1:
        return
    falling = _list_powers(pow(BASE, -1, MODULUS), n_at_once + size - 1)
    rising = _list_powers(BASE, n_at_once) * np.uint64(pow(BASE, size, MODULUS))
    for first in range(0, n_windows, n_at_once):
        block = codes[first : first + n_at_once + size - 1]
        sums = np.zeros(len(block) + 1, np.uint64)
        np.cumsum(block * falling[: len(block)], out=sums[1:])
        differences = sums[size:] - sums[:-size]
        yield first, differences * rising[: len(differences)]


def _list_powers(base: int, count: int) -> Hashes:
    """Powers 0 to count - 1, modulo 2^64."""
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)
