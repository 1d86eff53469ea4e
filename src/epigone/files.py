"""Bytes in, a file on the disk out: whole or not at all, whatever happens in between."""

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


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, flush it to the disk and put it in place. Raises OutputError."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        make_folder(path.parent)
        beside.touch()
        mode = beside.stat().st_mode
        write(beside)
        beside.chmod(mode)  # safetensors makes files that nobody else may read, whatever the user's umask says
        flush(beside)
        beside.replace(path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            beside.unlink()
        raise OutputError(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.",
            hint="Is there room, and may we write there?",
        ) from None


def make_folder(path: Path) -> Path:
    """Make a folder and those above it, each of them in its parent on the disk too, and return it. Raises OSError."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for place in missing:
        flush(place.parent)
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """A file with this content, written whole. Returns its path."""
    write_whole(path, lambda beside: beside.write_bytes(content))
    return path


def write_text(path: Path, text: str) -> None:
    """A UTF-8 text file, written whole. Line ends stay as they are."""
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def append_text(path: Path, text: str) -> None:
    """Put a text at the end of a UTF-8 file, which is made if it is not there. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", hint="Is there room, and may we write there?"
        ) from None


def write_json(path: Path, value: object) -> None:
    """A JSON file for programs and people, written whole."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def flush(path: Path) -> None:
    """Make sure that a file, or the names in a folder, are on the disk and not only in memory."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise  # some file systems of networks keep folders safe by themselves and refuse to be asked
    finally:
        os.close(handle)


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_room(folder: Path, n_bytes: int, what: str) -> None:
    """Raise OutputError where a file system has less room than `what` needs. Where that cannot be told, pass."""
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return
    if free < n_bytes:
        raise OutputError(
            f"{what} needs {n_bytes / 1e9:,.2f} GB, and {place} has {free / 1e9:,.2f} GB left.",
            hint="Make room there, or work in another place.",
        )
