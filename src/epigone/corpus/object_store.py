"""Texts in object stores and on other hosts (s3://, gs://, hf://, …), read by fsspec as they are needed, not copied."""

from __future__ import annotations

import errno
import io
from typing import Any, BinaryIO, cast

from epigone.corpus.download import hide_password
from epigone.errors import TextNotFound, TextUnreachable, first_line

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "hdfs", "webhdfs", "memory")
"""Those of fsspec that name a place and run nothing: no chains of several, no local caches."""
BLOCK_BYTES = 1 << 23
"""Read at once: requests to an object store take some tens of milliseconds each."""


GONE = (errno.ENOENT, errno.EBUSY, errno.ESTALE)
"""Errors of a file that is no longer what it was: s3fs says that it is busy."""


def is_stored(text: str) -> bool:
    """Whether a name is an address that fsspec reads."""
    scheme, separator, rest = text.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES and "::" not in rest


def list_stored(text: str) -> list[tuple[str, int]]:
    """The files that an address names, one, or those below it or matching it, with their sizes in bytes, by name.

    Raises TextNotFound, TextUnreachable.
    """
    files, path = _connect(text)
    try:
        if any(mark in path for mark in "*?["):
            found = files.glob(path, detail=True)
        else:
            found = {path: files.info(path)} if files.isfile(path) else files.find(path, detail=True)
        named = [
            (files.unstrip_protocol(one), int(facts["size"] or 0))
            for one, facts in sorted(found.items())
            if facts["type"] == "file"
        ]
    except Exception as error:  # noqa: BLE001  # each store has errors of its own
        raise _unreachable(text, error) from None
    shown = [(name, size) for name, size in named if size and not name.rpartition("/")[2].startswith(".")]
    if not shown:
        raise TextNotFound(f"There is no file {text}.", hint="Check the address, and that you may read it.")
    return shown


def open_stored(address: str) -> BinaryIO:
    """A file that can be rewound, and is fetched piece by piece. Raises TextUnreachable, then and while it is read."""
    files, path = _connect(address)
    try:
        file = files.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead")
    except Exception as error:  # noqa: BLE001
        raise _unreachable(address, error, was_listed=True) from None
    return cast(BinaryIO, io.BufferedReader(_StoredFile(file, address)))


class _StoredFile(io.RawIOBase):
    """A file of fsspec, whose errors are TextUnreachable: those of a store's client need not even be OSErrors."""

    def __init__(self, file: Any, address: str) -> None:
        super().__init__()
        self._file, self._address = file, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._file.read(len(buffer))
        except Exception as error:  # noqa: BLE001
            raise _unreachable(self._address, error, was_listed=True) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _connect(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # imports much, and most texts are files

    try:
        files, path = url_to_fs(address)
    except ImportError as error:
        raise TextNotFound(
            f"{address} needs another package: {first_line(error).rstrip('.')}.",
            hint="For s3://: pip install s3fs. For gs://: pip install gcsfs. For az:// and abfs://: pip install adlfs.",
        ) from None
    except Exception as error:  # noqa: BLE001
        raise _unreachable(address, error) from None
    return files, path


def _unreachable(address: str, error: Exception, *, was_listed: bool = False) -> TextUnreachable:
    """`was_listed`: whether it was there before."""
    if was_listed and isinstance(error, OSError) and (error.errno in GONE or isinstance(error, FileNotFoundError)):
        return TextUnreachable(
            f"{hide_password(address)} was deleted or changed since it was listed.", hint="Give the command again."
        )
    hint = "Check the address, the network and your access"
    if address.lower().startswith("s3://"):
        hint += ": AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true where all may read; "
        hint += "AWS_ENDPOINT_URL for a store that is not Amazon's"
    why = first_line(error).rstrip(".")
    return TextUnreachable(f"{hide_password(address)} cannot be read: {why}.", hint=f"{hint}.")
