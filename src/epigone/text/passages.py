"""A text and documents in; the passages that stand in both, each with its place on both sides, out."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from epigone.text.folding import BLOCK_CHARACTERS, locate_characters, locate_in_block, normalise, normalise_blocks
from epigone.text.index import SEPARATOR
from epigone.text.overlaps import Overlaps
from epigone.text.storing import Text, count_lines

SEED_CHARACTERS = 24
"""Texts of one language share some passage as long as this, and few; so one reading finds the longest."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A passage of a text that stands in a document and cannot be longer on either side."""

    start: int
    """Characters of the text before it."""
    end: int
    """The same, up to its end."""
    n_characters: int
    """Normalised."""
    document: int
    """The document's number, from 0."""
    offset: int
    """Characters of the document before the original."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What one of the texts shares with the documents."""

    n_characters: int
    """Of the normalised text."""
    n_covered: int
    """Of these, the ones that lie in a passage."""
    passages: tuple[Passage, ...]
    """In the order of the text. None lies inside another; two may overlap."""
    longest: Shared | None
    """Of whatever length; the first in the documents, where several are as long."""

    @property
    def share(self) -> float:
        """Of the normalised text, what lies in passages: 0 to 1."""
        return self.n_covered / max(1, self.n_characters)


def find_passages(texts: Sequence[str], documents: Iterable[Text], n_characters: int) -> list[Found]:
    """For each text all passages of at least `n_characters` normalised characters that it shares with a document.

    The documents go by once for all texts, and no index is made of them: beside them it takes some 200 bytes for each
    character of the texts and of what they share, and 24 for every 131,072 characters of the documents. Raises
    ValueError where `n_characters` is not positive.
    """
    if n_characters < 1:
        raise ValueError(f"A passage of {n_characters} characters is none.")
    library = Library(documents)
    overlaps = library.compare(list(map(normalise, texts)), min(n_characters, SEED_CHARACTERS))
    return [_describe(text, library, overlaps, number, n_characters) for number, text in enumerate(texts)]


def find_longest_shared(text: str, documents: Iterable[Text]) -> Shared | None:
    """The longest passage, in normalised characters, that the text shares with a document.

    Where several are as long, it is the one that comes first in the documents.
    """
    library = Library(documents)
    return library.show_longest(text, library.compare([normalise(text)], SEED_CHARACTERS).longest[0])


def measure_longest(texts: Sequence[str], documents: Iterable[Text], n_characters: int) -> list[int]:
    """For each text the size of the longest passage that it shares, normalised; 0 below `n_characters`.

    The documents go by once for all texts.
    """
    found = Library(documents).compare(list(map(normalise, texts)), n_characters).longest
    return [size if size >= n_characters else 0 for _, _, size in found]


class Library:
    """Documents, and where the blocks of their normalised texts begin."""

    def __init__(self, documents: Iterable[Text]) -> None:
        if isinstance(documents, str):
            documents = [documents]
        self.documents = documents if isinstance(documents, Sequence) else list(documents)
        self._starts, self._numbers, self._origins, self._end = array("q"), array("q"), array("q"), 0

    def compare(self, texts: Sequence[str], size: int) -> Overlaps:
        """What normalised texts share with the documents, in passages of `size` characters or more."""
        self._starts, self._numbers, self._origins, self._end = array("q"), array("q"), array("q"), 0
        overlaps = Overlaps(texts, max(1, min(size, max(map(len, texts), default=0))))
        for number, document in enumerate(self.documents):
            overlaps.read(self._read_blocks(number, document), self._end)
            self._end += len(SEPARATOR)
        overlaps.finish()
        return overlaps

    def _read_blocks(self, number: int, document: Text) -> Iterator[str]:
        for block_number, block in enumerate(normalise_blocks(document)):
            self._starts.append(self._end)
            self._numbers.append(number)
            self._origins.append(block_number * BLOCK_CHARACTERS)
            self._end += len(block)
            yield block

    def locate(self, place: int) -> tuple[int, int]:
        """A document's number, and how many characters of it come before the one that a normalised one came from."""
        block = bisect_right(self._starts, place) - 1
        number, origin = self._numbers[block], self._origins[block]
        return number, locate_in_block(self.documents[number], origin, place - self._starts[block])

    def show_longest(self, text: str, longest: tuple[int, int, int]) -> Shared | None:
        """A text's longest passage on both sides; where none as long as was looked for was found, look for shorter."""
        ours, size = normalise(text), SEED_CHARACTERS
        while not longest[2] and size > 1:
            size = max(1, min(size // 2, len(ours)))
            longest = self.compare([ours], size).longest[0]
        return self._show(text, *longest) if longest[2] else None

    def _show(self, text: str, first: int, place: int, size: int) -> Shared:
        origins = locate_characters(text)
        passage = text[int(origins[first]) : int(origins[first + size - 1]) + 1]
        (number, offset), (_, last) = self.locate(place), self.locate(place + size - 1)
        document = self.documents[number]
        original = document[offset : last + 1]
        visible = offset + len(original) - len(original.lstrip())
        return Shared(
            passage=passage,
            original=original,
            n_characters=size,
            document=number,
            offset=offset,
            line=count_lines(document, visible) + 1,
        )


def _describe(text: str, library: Library, overlaps: Overlaps, number: int, n_characters: int) -> Found:
    first, end = overlaps.parts[number]
    lengths = overlaps.lengths[first:end]
    lengths = np.where(lengths >= n_characters, lengths, 0)
    before = np.concatenate([[0], lengths[:-1]])
    kept = np.flatnonzero((lengths > 0) & (lengths >= before))  # any other ends where the one before it does
    origins, places = locate_characters(text), overlaps.places[first:end]
    steps = np.zeros(end - first + 1, np.int64)
    np.add.at(steps, kept, 1)
    np.add.at(steps, kept + lengths[kept], -1)
    passages = []
    for start, size, place in zip(kept.tolist(), lengths[kept].tolist(), places[kept].tolist(), strict=True):
        document, offset = library.locate(place)
        span = {"start": int(origins[start]), "end": int(origins[start + size - 1]) + 1}
        passages.append(Passage(**span, n_characters=size, document=document, offset=offset))
    longest = library.show_longest(text, overlaps.longest[number])
    n_covered = int((steps.cumsum() > 0).sum())
    return Found(n_characters=end - first, n_covered=n_covered, passages=tuple(passages), longest=longest)
