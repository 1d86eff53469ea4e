"""Archives (zip, tar) and compressed files (gz, xz, bz2): what is in them is read like the files of a folder."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from epigone.corpus.readers.limits import Limits, is_safe_name
from epigone.corpus.readers.reader import Beginning
from epigone.corpus.readers.zipped import CHECK_FILE, open_zip
from epigone.errors import TextUnreadable

COMPRESSED: dict[bytes, Callable[[BinaryIO], AbstractContextManager[object]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}
DAMAGED = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)
ENDINGS = (".zip", ".tar", ".gz", ".tgz", ".xz", ".txz", ".bz2")
OTHERS = ("xl/", "ppt/", "Index/")
"""Folders of sheets, slides and Pages documents, which are zip archives without texts."""
HELD_BYTES = 1 << 25
TAR_MARK = slice(257, 262)


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    data: bytes


def is_archive(beginning: Beginning) -> bool:
    """Whether a file is an archive, or a compressed one, and not a document that is stored as a zip."""
    head = beginning.head
    is_zip = head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
    if is_zip and any(name.startswith(OTHERS) for name in beginning.zip_names):
        return False
    is_compressed = any(head.startswith(mark) for mark in COMPRESSED) and beginning.suffix != ".txt"
    return is_zip or head[TAR_MARK] == b"ustar" or is_compressed


def read_members(file: BinaryIO, beginning: Beginning, limits: Limits) -> Iterator[Member]:
    """The files in an archive, in memory, in its order; a compressed file is one. Links and the like are left out.

    Raises TextUnreadable for what is damaged, encrypted or beyond the limits.
    """
    if beginning.head.startswith(b"PK"):
        yield from _read_zip(file, limits)
        return
    with _explain(limits):
        if beginning.head[TAR_MARK] == b"ustar":
            yield from _read_tar(file, limits)
            return
        open_compressed = next(opener for mark, opener in COMPRESSED.items() if beginning.head.startswith(mark))
        with open_compressed(file) as stream, _copy(cast(BinaryIO, stream), limits) as inner:
            if Beginning(inner, "").head[TAR_MARK] == b"ustar":
                yield from _read_tar(inner, limits)
                return
            name = PurePosixPath(beginning.name).name
            yield Member(name[: -len(beginning.suffix)] if beginning.suffix in ENDINGS else name, inner.read())


def _read_zip(file: BinaryIO, limits: Limits) -> Iterator[Member]:
    with open_zip(file, limits) as parts:
        for name in parts.names:
            if not is_hidden(name):
                yield Member(name, parts.read(name))


def _read_tar(file: BinaryIO, limits: Limits) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            limits.count_entry()
            limits.check_time()
            if not info.isreg() or info.issparse() or not is_safe_name(info.name) or is_hidden(info.name):
                continue
            part = archive.extractfile(info)
            if part is not None:
                yield Member(info.name, limits.read_part(cast(BinaryIO, part)))


def is_hidden(name: str) -> bool:
    """Whether a name, or a folder in it, begins with a point, or is what macOS adds to archives."""
    return any((part.startswith(".") and part != ".") or part == "__MACOSX" for part in name.split("/"))


@contextmanager
def _copy(stream: BinaryIO, limits: Limits) -> Iterator[BinaryIO]:
    """What is compressed, as a file that can be rewound: in memory if it is short, else in a temporary file."""
    with tempfile.SpooledTemporaryFile(HELD_BYTES) as copy:
        for piece in limits.read_pieces(stream):
            copy.write(piece)
        copy.seek(0)
        yield cast(BinaryIO, copy)


@contextmanager
def _explain(limits: Limits) -> Iterator[None]:
    try:
        yield
    except DAMAGED as error:
        raise TextUnreadable(f"{limits.name} is a damaged archive: {error}.", hint=CHECK_FILE) from None
