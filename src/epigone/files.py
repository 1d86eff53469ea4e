"""Atomic, durable writing of files: whole or not at all, whatever happens in between; and checksums and free space."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from epigone.errors import OutputError

CANNOT_WRITE = "Check that there is free space and that you may write there."


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file next to `path`, flush it to disk and rename it. Raises OutputError."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        make_folder(path.parent)
        beside.touch()
        mode = beside.stat().st_mode
        write(beside)
        beside.chmod(mode)  # safetensors makes files that only their owner may read, whatever the umask says
        flush(beside)
        beside.replace(path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            beside.unlink()
        raise OutputError(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.",
            hint=CANNOT_WRITE,
        ) from None


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, flush each to disk, and return it. Raises OSError."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for place in missing:
        flush(place.parent)
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically and return its path. Raises OutputError."""
    write_whole(path, lambda beside: beside.write_bytes(content))
    return path


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically, with line ends unchanged. Raises OutputError."""
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def append_text(path: Path, text: str) -> None:
    """Append text to a UTF-8 file, which is created if needed. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.", hint=CANNOT_WRITE) from None


def write_json(path: Path, value: object) -> None:
    """Write an indented JSON file atomically. Raises OutputError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, from memory to disk (fsync)."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise  # some network file systems refuse to flush folders, and need no flush
    finally:
        os.close(handle)


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_room(folder: Path, n_bytes: int, what: str) -> None:
    """Raise OutputError if a file system has less free space than `what` needs; pass if the space is unknown."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return
    if free < n_bytes:
        raise OutputError(
            f"{what} needs {n_bytes / 1e9:,.2f} GB, and {place} has {free / 1e9:,.2f} GB left.",
            hint="Free some space there, or use another folder.",
        )
