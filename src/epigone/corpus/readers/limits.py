"""Limits on what a document may ask of a reader: size, compression ratio, entries, nesting and time.

Documents come from anywhere, and a few bytes can ask for gigabytes or hours. Every reader asks here before it expands,
descends or goes on; nothing is extracted to the disk.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import BinaryIO

from epigone.errors import TextUnreadable

MOST_BYTES = 1 << 29
"""Expanded, in all that one file of the user's contains."""
MOST_PART_BYTES = 1 << 26
"""Of one part that has to be held in memory, such as a page."""
MOST_RATIO, RATIO_FROM_BYTES = 200, 1 << 24
"""Expanded bytes for each byte of the file. Repetitive markup reaches 30; small files may be anything."""
MOST_ENTRIES = 100_000
DEEPEST_ARCHIVES, DEEPEST_ELEMENTS = 3, 400
SECONDS, SECONDS_PER_MB = 20.0, 2.0
PIECE_BYTES = 1 << 18
SAVE_AS_TEXT = "Open it in the program that made it, and save its text as .txt."


class Limits:
    """What is left of the limits while one file is read, with all that it contains."""

    def __init__(self, name: str, n_bytes: int, outer: Limits | None = None) -> None:
        """`n_bytes`: the size of the file itself. `outer`: the limits of the archive that it is in."""
        self.name, self.n_bytes, self.outer = name, n_bytes, outer
        self.n_expanded = self.n_entries = 0
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.deadline = time.monotonic() + SECONDS + SECONDS_PER_MB * n_bytes / 1e6

    def refuse(self, why: str) -> TextUnreadable:
        """The error for a file that goes beyond a limit."""
        return TextUnreadable(f"{self.name} is not read: {why}.", hint=SAVE_AS_TEXT)

    def expand(self, n_bytes: int) -> None:
        """Count bytes that were expanded. Raises TextUnreadable, as all checks do."""
        self.n_expanded += n_bytes
        if self.outer is not None:
            self.outer.expand(n_bytes)
        if self.n_expanded > MOST_BYTES:
            raise self.refuse(f"it expands to more than {MOST_BYTES >> 20:,} MB")
        if self.n_expanded > max(RATIO_FROM_BYTES, MOST_RATIO * self.n_bytes):
            raise self.refuse(f"it expands to more than {MOST_RATIO} times its size")
        self.check_time()

    def count_entry(self, n_entries: int = 1) -> None:
        """Count entries of an archive."""
        self.n_entries += n_entries
        if self.n_entries > MOST_ENTRIES:
            raise self.refuse(f"it has more than {MOST_ENTRIES:,} entries")

    def check_time(self) -> None:
        """Refuse to go on when reading takes far longer than such a file should."""
        if time.monotonic() > self.deadline:
            raise self.refuse("reading it takes too long")

    def check_depth(self, depth: int, deepest: int = DEEPEST_ELEMENTS) -> None:
        """Refuse elements, lists or archives that are nested too deeply."""
        if depth > deepest:
            raise self.refuse(f"its parts are nested more than {deepest} deep")

    def read_part(self, file: BinaryIO, most: int = MOST_PART_BYTES) -> bytes:
        """All that is left in an open part, which has to fit into memory."""
        pieces, n_bytes = [], 0
        for piece in self.read_pieces(file):
            pieces.append(piece)
            n_bytes += len(piece)
            if n_bytes > most:
                raise self.refuse(f"a part of it has more than {most >> 20:,} MB")
        return b"".join(pieces)

    def read_pieces(self, file: BinaryIO) -> Iterator[bytes]:
        """What is left in an open part, piece by piece."""
        while piece := file.read(PIECE_BYTES):
            self.expand(len(piece))
            yield piece


def is_safe_name(name: str) -> bool:
    """Whether a name in an archive stays inside it: not absolute, not upward, without a drive or control characters."""
    parts = re.split(r"[/\\]", name)
    return bool(name) and parts[0] != "" and ".." not in parts and ":" not in parts[0] and name.isprintable()
