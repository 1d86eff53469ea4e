"""Cache of what was read of small files, many to a file: a folder of thousands of posts is not read again.

An entry is found by all that its text depends on: the file's content and name, the settings of reading, and the program
code. It has a checksum, and a file whose entry is damaged is read again; so is every file if the cache cannot be read
or written. Entries are beside those of large files, in the user's cache. They are written some megabytes at a time into
a file that begins with its index and does not change any more, so that several processes do not need each other.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from epigone.corpus.parse_cache import SMALLEST_BYTES, find_folder, hash_code, write_entry
from epigone.files import remove
from epigone.settings import ReadSettings

LARGEST_BYTES = SMALLEST_BYTES - 1
"""Of a file: a larger one has an entry of its own."""
HELD_BYTES = 1 << 22
"""Of new entries, which are then written."""
JOINED_BYTES = 1 << 18
"""A file of fewer is written again together with new entries, so that there are not ever more files."""
ENDING = ".small"
MOST_INDEX_BYTES = 1 << 24
"""Of an index that is not damaged: its entries have more bytes than their keys."""
HEAD, INDEXED = struct.Struct("<II"), struct.Struct("<32sII")
"""Number of entries and checksum of the index; key, length and checksum of an entry."""


class _Place(NamedTuple):
    """Where an entry is."""

    path: Path
    start: int
    length: int
    checksum: int


@dataclass(slots=True)
class _New:
    """Entries that wait until they are written."""

    entries: dict[bytes, bytes] = field(default_factory=dict)
    n_bytes: int = 0

    def add(self, key: bytes, entry: bytes) -> None:
        self.entries[key] = entry
        self.n_bytes += len(entry)


class SmallFileCache:
    """What is known of small files. Not for several threads; several processes may have one each."""

    def __init__(self, settings: ReadSettings) -> None:
        """`settings`: those of reading, which must not look at several files together."""
        self._depends = f"{hash_code('pypdfium2')}\n{settings.model_dump_json()}\n"
        self._folder = find_folder()
        self._places: dict[bytes, _Place] | None = None
        self._opened: tuple[Path, BinaryIO] | None = None
        """The file that was read last: entries of one folder follow each other."""
        self._new = _New()

    def find_key(self, data: bytes | memoryview, name: str, *, listed: bool) -> bytes:
        """What the entry of a file is found by. Its format depends on the last part of its name too."""
        digest = hashlib.sha256(f"{self._depends}{listed}\n{name.rpartition('/')[2]}\n".encode())
        digest.update(data)
        return digest.digest()

    def load(self, key: bytes) -> bytes | None:
        """An entry; None if there is none, or if it is damaged."""
        if self._places is None:
            self._places = {key: place for path in self._list_files() for key, place in _read_index(path)}
        place = self._places.get(key)
        return self._read(place) if place else None

    def store(self, key: bytes, entry: bytes) -> None:
        """Keep an entry; it is written with others."""
        self._new.add(key, entry)
        if self._new.n_bytes >= HELD_BYTES:
            self.write()

    def write(self) -> None:
        """Write what is kept so far, as far as that is possible."""
        new, self._new = self._new.entries, _New()
        if not new or self._folder is None:
            return
        index = b"".join(INDEXED.pack(key, len(entry), zlib.crc32(entry)) for key, entry in new.items())
        head = HEAD.pack(len(new), zlib.crc32(index))
        name = hashlib.sha256(index).hexdigest()
        write_entry(self._folder / f"{name}{ENDING}", [head, index, *new.values()])

    def close(self) -> None:
        """Write what is kept, with what is in small files of earlier times."""
        if self._new.entries:
            for path in self._list_files():
                if self._new.n_bytes < HELD_BYTES and _measure(path) < JOINED_BYTES:
                    self._join(path)
            self.write()
        self._close_file()

    def _join(self, path: Path) -> None:
        """Keep what is in a file, and remove it."""
        for key, place in _read_index(path):
            if key not in self._new.entries and (entry := self._read(place)) is not None:
                self._new.add(key, entry)
        self._close_file()
        remove(path)

    def _list_files(self) -> list[Path]:
        try:
            return sorted(self._folder.glob(f"*{ENDING}")) if self._folder else []
        except OSError:
            return []

    def _read(self, place: _Place) -> bytes | None:
        try:
            if self._opened is None or self._opened[0] != place.path:
                self._close_file()
                self._opened = place.path, place.path.open("rb")
                place.path.touch()  # the files that were not used for longest go first
            file = self._opened[1]
            file.seek(place.start)
            entry = file.read(place.length)
        except OSError:
            return None
        return entry if zlib.crc32(entry) == place.checksum else None

    def _close_file(self) -> None:
        if self._opened:
            self._opened[1].close()
            self._opened = None


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return JOINED_BYTES


def _read_index(path: Path) -> Iterator[tuple[bytes, _Place]]:
    """The key and place of each entry in a file; none if it is damaged."""
    with suppress(OSError, struct.error), path.open("rb") as file:
        n_entries, checksum = HEAD.unpack(file.read(HEAD.size))
        index = file.read(min(INDEXED.size * n_entries, MOST_INDEX_BYTES))
        if zlib.crc32(index) != checksum:
            return
        start = file.tell()
        for key, length, its_checksum in INDEXED.iter_unpack(index):
            yield key, _Place(path, start, length, its_checksum)
            start += length
