"""A long text piece by piece in; the text in a file out, which is read where it is needed and never held whole.

Short texts stay what they are, strings; both are cut and read by the same functions.
"""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from epigone.errors import OutputError

HELD_CHARACTERS = 1 << 24
"""Of all texts that are read together, those that come first are held as strings up to so much."""
MARKED_CHARACTERS = 1 << 14
"""Between two marks, which say where in the file a character stands."""
BLOCK_CHARACTERS = 1 << 20
"""Of a long text that are read at once."""


class TempTextFile:
    """A temporary file that stored texts lie in, one after another.

    It has no name, so it is gone when nobody needs it any more, whatever happens.
    """

    def __init__(self, folder: Path | None) -> None:
        """Raises OSError."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # it closes when nobody needs it
        weakref.finalize(self, self._file.close)
        self._map: mmap.mmap | None = None
        self.n_bytes = 0

    def write(self, data: bytes) -> None:
        """Put bytes at the end. Raises OSError."""
        self._file.write(data)
        self.n_bytes += len(data)

    def flush(self) -> None:
        """Let all that was written be in the file. Raises OSError."""
        self._file.flush()

    def read(self, start: int, end: int) -> bytes:
        """Bytes that were written and flushed."""
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map[start:end]


@dataclass(frozen=True, slots=True)
class DiskText:
    """A text on a shelf, or a stretch of one: `text[10:20]` and `len(text)` are a string's."""

    shelf: TempTextFile = field(repr=False)
    marks: tuple[int, ...] = field(repr=False)
    """Where on the shelf each MARKED_CHARACTERS characters begin, and where the last end."""
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, part: slice) -> str:
        start, end, step = part.indices(len(self))
        if step != 1:
            raise ValueError("A stored text is read in unbroken stretches.")
        if start >= end:
            return ""
        start, end = start + self.start, end + self.start
        first, last = start // MARKED_CHARACTERS, -(-end // MARKED_CHARACTERS)
        text = self.shelf.read(self.marks[first], self.marks[last]).decode("utf-8", "surrogatepass")
        before = first * MARKED_CHARACTERS
        return text[start - before : end - before]

    def __str__(self) -> str:
        return self[:]


Text = str | DiskText


def slice_text(text: Text, start: int, end: int) -> Text:
    """A stretch of a text; of a stored one without reading it."""
    if isinstance(text, str):
        return text[start:end]
    return replace(text, start=text.start + start, end=text.start + min(end, len(text)))


def read_blocks(text: Text, size: int = BLOCK_CHARACTERS) -> Iterator[str]:
    """The text in blocks of `size` characters."""
    for start in range(0, len(text), size):
        yield text[start : start + size]


def read_some(texts: Sequence[Text], n_most: int = HELD_CHARACTERS) -> list[str]:
    """The texts; where they have more than `n_most` characters in all, stretches at even distances in them."""
    n_all = sum(map(len, texts))
    if n_all <= n_most:
        return list(map(str, texts))
    n_places = max(1, n_most // BLOCK_CHARACTERS)
    n_each = n_most // n_places
    starts = [(n_all - n_each) * number // max(1, n_places - 1) for number in range(n_places)]
    return [stretch for start in starts for stretch in slice_across(texts, start, start + n_each)]


def read_end(texts: Sequence[Text], between: str, n_most: int) -> str:
    """The last characters of texts that stand one behind another."""
    found: list[str] = []
    for text in reversed(texts):
        found = [text[max(0, len(text) - n_most) :], *found]
        n_most -= len(text) + len(between)
        if n_most <= 0:
            break
    return between.join(found)


def read_beginning(texts: Sequence[Text], between: str, n_most: int) -> str:
    """The first ones."""
    found: list[str] = []
    for text in texts:
        found.append(text[:n_most])
        n_most -= len(text) + len(between)
        if n_most <= 0:
            break
    return between.join(found)


def count_lines(text: Text, end: int) -> int:
    """Line ends among the first `end` characters."""
    return sum(block.count("\n") for block in read_blocks(slice_text(text, 0, end)))


def slice_across(texts: Sequence[Text], start: int, end: int) -> Iterator[str]:
    """What stands from one place to another, counted over all texts."""
    for text in texts:
        if start < len(text) and end > 0:
            yield text[max(0, start) : min(end, len(text))]
        start, end = start - len(text), end - len(text)


class TextSpooler:
    """Keeps texts: the first ones as strings, those for which there is no room left in a temporary file."""

    def __init__(self, folder: Path | None = None, held_characters: int | None = None) -> None:
        """`folder`: where the file is, if not where temporary files are."""
        self.folder = folder
        self.room = HELD_CHARACTERS if held_characters is None else held_characters
        self._shelf: TempTextFile | None = None
        self._pieces: list[str] = []
        self._marks: list[int] = []
        self._n_characters = 0

    def add(self, piece: str) -> None:
        """The next piece of a text. Raises OutputError."""
        self._pieces.append(piece)
        self._n_characters += len(piece)
        if self._n_characters > self.room:
            with self._explained():
                self._write(is_last=False)

    def finish(self) -> Text:
        """The text that all pieces since the last one make. Raises OutputError."""
        n_characters, pieces = self._n_characters, self._pieces
        if n_characters <= self.room:
            self.room -= n_characters
            text: Text = "".join(pieces)
        else:
            with self._explained():
                text = DiskText(self._write(is_last=True), tuple(self._marks), 0, n_characters)
        self.forget()
        return text

    def forget(self) -> None:
        """Drop what was added of a text that is not finished."""
        self._pieces, self._marks, self._n_characters = [], [], 0

    def _write(self, *, is_last: bool) -> TempTextFile:
        shelf = self._shelf = self._shelf or TempTextFile(self.folder)
        self._marks = self._marks or [shelf.n_bytes]
        text = "".join(self._pieces)
        n_whole = len(text) if is_last else len(text) // MARKED_CHARACTERS * MARKED_CHARACTERS
        for start, end in pairwise([*range(0, n_whole, MARKED_CHARACTERS), n_whole]):
            shelf.write(text[start:end].encode("utf-8", "surrogatepass"))
            self._marks.append(shelf.n_bytes)
        self._pieces = [text[n_whole:]]
        if is_last:
            shelf.flush()
        return shelf

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"A long text cannot be kept in {self.folder or tempfile.gettempdir()} while it is read: "
                f"{error.strerror}.",
                hint="It takes as much room there as the text itself.",
            ) from None
