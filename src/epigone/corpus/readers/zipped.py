"""Zip archives that are documents or hold them: their parts are read in memory, within limits, and never extracted."""

from __future__ import annotations

import lzma
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast
from urllib.parse import unquote

from epigone.corpus.readers.limits import Limits, is_safe_name
from epigone.errors import TextUnreadable

DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What Python raises for an archive that is damaged, encrypted, or compressed in a way that it does not know."""
CHECK_FILE = "The file may be damaged or incomplete. Open it in the program that made it, and save it again."


class ZippedParts:
    """The parts of an open zip archive."""

    def __init__(self, archive: zipfile.ZipFile, limits: Limits) -> None:
        self.archive, self.limits = archive, limits
        self._found: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            limits.count_entry()
            if is_safe_name(info.filename) and not info.is_dir():
                self._found.setdefault(info.filename, info)

    @property
    def names(self) -> list[str]:
        """The names of the parts in the order of the archive, without those that lead out of it."""
        return list(self._found)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A part to read from. Raises KeyError, and TextUnreadable for what is encrypted or damaged."""
        info = self._found[name]
        if info.flag_bits & 1:
            raise TextUnreadable(
                f"{self.limits.name} is protected by a password or by digital rights management (DRM).",
                hint="Give a file without protection.",
            )
        with self.explain(), self.archive.open(info) as part:
            yield cast(BinaryIO, part)

    def read(self, name: str) -> bytes:
        """All of a part that has to fit into memory. Raises as `open` does."""
        with self.open(name) as part:
            return self.limits.read_part(part)

    def stream(self, name: str) -> Iterator[bytes]:
        """A part piece by piece. Raises as `open` does."""
        with self.open(name) as part:
            yield from self.limits.read_pieces(part)

    @contextmanager
    def explain(self) -> Iterator[None]:
        """Turn the errors of a damaged archive into TextUnreadable."""
        try:
            yield
        except DAMAGED as error:
            raise TextUnreadable(f"{self.limits.name} is damaged: {error}.", hint=CHECK_FILE) from None


@contextmanager
def open_zip(file: IO[bytes], limits: Limits) -> Iterator[ZippedParts]:
    """The parts of a zip archive. Raises TextUnreadable if it is damaged."""
    try:
        archive = zipfile.ZipFile(file)
    except (*DAMAGED, OSError) as error:
        raise TextUnreadable(f"{limits.name} is damaged: {error}.", hint=CHECK_FILE) from None
    with archive:
        yield ZippedParts(archive, limits)


def resolve(base: str, reference: str) -> str:
    """The name of the part that a reference in another part leads to, without its fragment."""
    path = unquote(reference.partition("#")[0])
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), path)) if path else base
