"""Long texts on disk: `len` and slices as of a `str`, without the whole text in memory.

Short texts stay strings; the functions here treat both alike.
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
"""Of texts that are read together, the first ones stay strings, up to this many characters in all."""
MARKED_CHARACTERS = 1 << 14
"""Characters between two marks; a mark says where in the file a character is."""
BLOCK_CHARACTERS = 1 << 20
"""Characters of a long text that are read at once."""


class TempTextFile:
    """A temporary file with texts in it, one after another.

    It has no name, so the system deletes it when it is closed, even after a crash.
    """

    def __init__(self, folder: Path | None) -> None:
        """Raises OSError."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by the finalizer
        weakref.finalize(self, self._file.close)
        self._map: mmap.mmap | None = None
        self.n_bytes = 0

    def write(self, data: bytes) -> None:
        """Append bytes. Raises OSError."""
        self._file.write(data)
        self.n_bytes += len(data)

    def flush(self) -> None:
        """Flush what was written. Raises OSError."""
        self._file.flush()

    def read(self, start: int, end: int) -> bytes:
        """Bytes that were written and flushed."""
        if self._map is None or len(self._map) < end:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map[start:end]


@dataclass(frozen=True, slots=True)
class DiskText:
    """A text in a temporary file, or a part of one: `text[10:20]` and `len(text)` work as for a string."""

    file: TempTextFile = field(repr=False)
    marks: tuple[int, ...] = field(repr=False)
    """Where in the file each MARKED_CHARACTERS characters begin, and where the last ones end."""
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, part: slice) -> str:
        start, end, step = part.indices(len(self))
        if step != 1:
            raise ValueError("A text on disk can only be sliced with step 1.")
        if start >= end:
            return ""
        start, end = start + self.start, end + self.start
        first, last = start // MARKED_CHARACTERS, -(-end // MARKED_CHARACTERS)
        text = self.file.read(self.marks[first], self.marks[last]).decode("utf-8", "surrogatepass")
        before = first * MARKED_CHARACTERS
        return text[start - before : end - before]

    def __str__(self) -> str:
        return self[:]


Text = str | DiskText


def slice_text(text: Text, start: int, end: int) -> Text:
    """A part of a text; a text on disk is not read for it."""
    if isinstance(text, str):
        return text[start:end]
    return replace(text, start=text.start + start, end=text.start + min(end, len(text)))


def read_blocks(text: Text, size: int = BLOCK_CHARACTERS) -> Iterator[str]:
    """The text in blocks of `size` characters."""
    for start in range(0, len(text), size):
        yield text[start : start + size]


def divide_text(text: str, size: int) -> Iterator[str]:
    """A long string in parts of at most `size` characters, which end with a paragraph where there are any."""
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            end = text.rfind("\n\n", start, end) + 2
            end = end if end > start + 1 else start + size
        yield text[start:end]
        start = end


def read_some(texts: Sequence[Text], n_most: int = HELD_CHARACTERS) -> list[str]:
    """The texts; if they have more than `n_most` characters in all, parts at even distances in them."""
    n_all = sum(map(len, texts))
    if n_all <= n_most:
        return list(map(str, texts))
    n_places = max(1, n_most // BLOCK_CHARACTERS)
    n_each = n_most // n_places
    starts = [(n_all - n_each) * number // max(1, n_places - 1) for number in range(n_places)]
    return [part for start in starts for part in slice_across(texts, start, start + n_each)]


def read_end(texts: Sequence[Text], between: str, n_most: int) -> str:
    """The last `n_most` characters of consecutive texts."""
    found: list[str] = []
    for text in reversed(texts):
        found = [text[max(0, len(text) - n_most) :], *found]
        n_most -= len(text) + len(between)
        if n_most <= 0:
            break
    return between.join(found)


def read_beginning(texts: Sequence[Text], between: str, n_most: int) -> str:
    """The first `n_most` characters of consecutive texts."""
    found: list[str] = []
    for text in texts:
        found.append(text[:n_most])
        n_most -= len(text) + len(between)
        if n_most <= 0:
            break
    return between.join(found)


def count_lines(text: Text, end: int) -> int:
    """Line ends in the first `end` characters."""
    return sum(block.count("\n") for block in read_blocks(slice_text(text, 0, end)))


def slice_across(texts: Sequence[Text], start: int, end: int) -> Iterator[str]:
    """The characters from `start` to `end`, counted over all texts."""
    for text in texts:
        if start < len(text) and end > 0:
            yield text[max(0, start) : min(end, len(text))]
        start, end = start - len(text), end - len(text)


class TextSpooler:
    """Collects texts piece by piece: the first ones as strings, those beyond a limit in a temporary file."""

    def __init__(self, folder: Path | None = None, held_characters: int | None = None) -> None:
        """`folder`: where the file goes, if not to the system's temporary folder."""
        self.folder = folder
        self.room = HELD_CHARACTERS if held_characters is None else held_characters
        self._file: TempTextFile | None = None
        self._pieces: list[str] = []
        self._marks: list[int] = []
        self._n_characters = 0

    def add(self, piece: str) -> None:
        """The next piece of a text. Raises OutputError."""
        self._pieces.append(piece)
        self._n_characters += len(piece)
        if self._n_characters > self.room:
            with self._explain_os_errors():
                self._write(is_last=False)

    def finish(self) -> Text:
        """The text made of all pieces since the last call. Raises OutputError."""
        n_characters, pieces = self._n_characters, self._pieces
        if n_characters <= self.room:
            self.room -= n_characters
            text: Text = "".join(pieces)
        else:
            with self._explain_os_errors():
                text = DiskText(self._write(is_last=True), tuple(self._marks), 0, n_characters)
        self.forget()
        return text

    def forget(self) -> None:
        """Drop the pieces of an unfinished text."""
        self._pieces, self._marks, self._n_characters = [], [], 0

    def _write(self, *, is_last: bool) -> TempTextFile:
        file = self._file = self._file or TempTextFile(self.folder)
        self._marks = self._marks or [file.n_bytes]
        rest, pieces = "", self._pieces[::-1]
        self._pieces = []
        while pieces:  # each is gone once it is written: joined, all would be in memory twice
            text = rest + pieces.pop()
            n_whole = len(text) if is_last and not pieces else len(text) // MARKED_CHARACTERS * MARKED_CHARACTERS
            for start, end in pairwise([*range(0, n_whole, MARKED_CHARACTERS), n_whole]):
                file.write(text[start:end].encode("utf-8", "surrogatepass"))
                self._marks.append(file.n_bytes)
            rest = text[n_whole:]
        self._pieces = [rest]
        if is_last:
            file.flush()
        return file

    @contextmanager
    def _explain_os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"A long text cannot be stored in {self.folder or tempfile.gettempdir()} while it is read: "
                f"{error.strerror}.",
                hint="It needs as much free space there as the text is long.",
            ) from None
