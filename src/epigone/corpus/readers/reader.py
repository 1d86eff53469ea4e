"""What a reader is given and what it returns: a format's definition, the documents in a file, and what was dropped."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import BinaryIO, cast

from epigone.corpus.encoding import DecodedText, decode, read_pieces
from epigone.corpus.readers.limits import MOST_PART_BYTES, Limits
from epigone.corpus.readers.speakers import Speakers
from epigone.settings import ReadSettings

BEGINNING_BYTES = 1 << 16
EXAMPLE_CHARACTERS = 80
HELD_BYTES = 1 << 25
MOST_LINES = 300
"""By which a chat or a log is recognised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDocument:
    """The text of one document as a plain-text editor would show it, and what the file says about it."""

    text: str
    title: str = ""
    author: str = ""
    date: str = ""
    """As the file has it; an ISO date where it is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """Parts of one kind that a reader left out."""

    what: str
    """In the plural, such as "footnote marks"."""
    count: int
    n_characters: int
    example: str
    """The beginning of the first one that has text."""


def find_suffix(name: str) -> str:
    """The ending of a file's name in lower case, such as ".html". Much quicker than a path's."""
    last = name.rpartition("/")[2]
    point = last.rfind(".")
    return last[point:].lower() if 0 < point < len(last) - 1 else ""


def to_valid(text: str) -> str:
    """Text that can be written: "?" for halves of characters, which JSON and damaged files may have."""
    return text.encode("utf-8", "replace").decode("utf-8")


class DropLog:
    """Counts what is left out, by kind, with one example each."""

    def __init__(self) -> None:
        self._found: dict[str, list[int]] = {}
        self._examples: dict[str, str] = {}

    def add(self, what: str, text: str = "", count: int = 1) -> None:
        """Note that a part was left out. `text`: all of its text, as far as it has any."""
        counts = self._found.setdefault(what, [0, 0])
        counts[0] += count
        counts[1] += len(text)
        if not self._examples.get(what):
            self._examples[what] = to_valid(" ".join(text[: 4 * EXAMPLE_CHARACTERS].split())[:EXAMPLE_CHARACTERS])

    def add_counted(self, part: Dropped) -> None:
        """Note parts that another log has counted."""
        self.add(part.what, part.example, part.count)
        self._found[part.what][1] += part.n_characters - len(part.example)

    def list(self) -> tuple[Dropped, ...]:
        """Everything that was left out, in the order in which the kinds were first seen."""
        return tuple(
            Dropped(what=what, count=count, n_characters=n_characters, example=self._examples[what])
            for what, (count, n_characters) in self._found.items()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadContext:
    """What a reader is given besides the file."""

    name: str
    """Of the file, for messages."""
    settings: ReadSettings
    limits: Limits
    drops: DropLog = field(default_factory=DropLog)
    decoded: list[DecodedText] = field(default_factory=list)
    """How texts in the file were decoded: the receipt shows the first."""
    speakers: Speakers = field(default_factory=Speakers)
    """Who speaks in the file, as far as it is a conversation."""
    notes: list[str] = field(default_factory=list)
    """What the user should know of how the file was read, in a few words each."""
    row_groups: tuple[int, int] | None = None
    """Of a Parquet table, the first row group that is read and the one after the last; None for all."""

    def decode(self, data: bytes) -> str:
        """The text of a file without markup of its own for its encoding. Raises TextUnreadable or TextTooShort."""
        found = decode(data, name=self.name, encoding=self.settings.encoding)
        self.decoded.append(found)
        return found.text

    def decode_pieces(self, file: BinaryIO) -> Iterator[str]:
        """The same of an open file that may be longer than the memory, in pieces of some megabytes."""
        for _, found in read_pieces(file, name=self.name, encoding=self.settings.encoding):
            self.limits.check_time()
            if not self.decoded:
                self.decoded.append(replace(found, text=""))
            yield found.text

    @contextmanager
    def open_copy(self, pieces: Iterable[bytes]) -> Iterator[BinaryIO]:
        """What is in an archive, as a file that can be rewound: in memory if it is short, else in a temporary file."""
        with tempfile.SpooledTemporaryFile(HELD_BYTES) as copy:
            for piece in pieces:
                copy.write(piece)
            copy.seek(0)
            yield cast(BinaryIO, copy)

    def read_lines(self, file: BinaryIO) -> Iterator[str]:
        """The lines of such a file, without their ends."""
        held = ""
        for piece in self.decode_pieces(file):
            if len(held) > MOST_PART_BYTES:
                raise self.limits.refuse(f"a line in it has more than {MOST_PART_BYTES >> 20:,} MB")
            *lines, held = (held + piece).split("\n")
            yield from lines
        if held:
            yield held


class Beginning:
    """What a format is recognised by: the first bytes of a file, its name, and the names in it if it is a zip."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """The file can be rewound; it is left at its beginning."""
        self.file, self.name = file, name
        file.seek(0)
        self.head = file.read(BEGINNING_BYTES)
        file.seek(0)

    @cached_property
    def suffix(self) -> str:
        """The ending of the name in lower case, such as ".html"."""
        return find_suffix(self.name)

    @cached_property
    def markup(self) -> bytes:
        """The first kilobytes in lower case, without what may stand before the first element."""
        return self.head[:4096].removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \t\r\n").lower()

    @cached_property
    def first_sign(self) -> str:
        """The first character after white space, in lower case; "" if it is not in ASCII, or if there is none."""
        sign = self.markup[:1]
        return sign.decode() if b" " < sign < b"\x7f" else ""

    @cached_property
    def text(self) -> str:
        """The first kilobytes as text, with "\ufffd" for what is not valid in UTF-8 or, if its mark says so, UTF-16."""
        is_wide = self.head.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = self.head.decode("utf-16" if is_wide else "utf-8-sig", "replace")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    @cached_property
    def first_line(self) -> str:
        """The first line that is not blank; most formats that have lines are excluded by it alone."""
        rest = self.text.lstrip()
        place = len(self.text) - len(rest)
        return self.text[self.text.rfind("\n", 0, place) + 1 : place] + rest.partition("\n")[0]

    @cached_property
    def lines(self) -> list[str]:
        """The first lines that are not blank, each as far as it is in the first kilobytes."""
        return [line for line in self.text.split("\n") if line.strip()][:MOST_LINES]

    @cached_property
    def zip_names(self) -> frozenset[str]:
        """The names in a zip archive; none if it is not one, or is damaged."""
        if not self.head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return frozenset()
        try:
            with zipfile.ZipFile(self.file) as archive:
                return frozenset(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return frozenset()
        finally:
            self.file.seek(0)


ReadFunction = Callable[[BinaryIO, ReadContext], Iterator[ParsedDocument]]
"""Yields the documents in a file. Raises TextError; nothing else may come out of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A format: its name for --format, what it is called in messages, how it is recognised, and how it is read."""

    name: str
    title: str
    """In the singular with its article, such as "a Word document"."""
    suffixes: tuple[str, ...]
    """Endings, in lower case with the point, that are taken in a folder."""
    recognise: Callable[[Beginning], bool]
    read: ReadFunction
    begins: str = ""
    """Small letters and signs, of which one is the first in every such file, after white space; "" if any may be."""
    only_named: bool = False
    """Whether a file of a folder or an archive is read as it only if the format was asked for: not all data is text."""
    version: int = 1
    """Raised when the same file gives another text, so that what is in the cache is read again."""
