"""Texts in object stores and on other hosts (s3://, gs://, hf://, …), read by fsspec as they are needed, not copied."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

from epigone.errors import TextNotFound, TextUnreadable, first_line

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "hdfs", "webhdfs", "memory")
"""Those of fsspec that name a place and run nothing: no chains of several, no local caches."""
BLOCK_BYTES = 1 << 23
"""Read at once: requests to an object store take some tens of milliseconds each."""


def is_stored(text: str) -> bool:
    """Whether a name is an address that fsspec reads."""
    scheme, separator, rest = text.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES and "::" not in rest


def list_stored(text: str) -> list[tuple[str, int]]:
    """The files that an address names, one, or those below it or matching it, with their sizes in bytes, by name.

    Raises TextNotFound.
    """
    files, path = _connect(text)
    try:
        if any(mark in path for mark in "*?["):
            found = sorted(files.glob(path))
        else:
            found = [path] if files.isfile(path) else sorted(files.find(path))
        named = [(files.unstrip_protocol(one), int(files.size(one) or 0)) for one in found]
    except Exception as error:  # noqa: BLE001  # each store has errors of its own
        raise _unreachable(text, error) from None
    shown = [(name, size) for name, size in named if size and not name.rpartition("/")[2].startswith(".")]
    if not shown:
        raise TextNotFound(f"There is no file {text}.", hint="Check the address, and that you may read it.")
    return shown


def open_stored(address: str) -> BinaryIO:
    """A file that can be rewound, and is fetched piece by piece. Raises TextUnreadable."""
    files, path = _connect(address)
    try:
        return cast(BinaryIO, files.open(path, "rb", block_size=BLOCK_BYTES, cache_type="readahead"))
    except Exception as error:  # noqa: BLE001
        raise _unreachable(address, error) from None


def _connect(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # imports much, and most texts are files

    try:
        files, path = url_to_fs(address)
    except ImportError as error:
        raise TextNotFound(
            f"{address} needs another package: {first_line(error)}.",
            hint="For s3://: pip install s3fs. For gs://: pip install gcsfs. For az:// and abfs://: pip install adlfs.",
        ) from None
    except Exception as error:  # noqa: BLE001
        raise _unreachable(address, error) from None
    return files, path


def _unreachable(address: str, error: Exception) -> TextUnreadable:
    why = first_line(error) or type(error).__name__
    return TextUnreadable(f"{address} cannot be read: {why}.", hint="Check the address, the network and your access.")
