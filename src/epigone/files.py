"""Reading and writing of files: written whole or not at all and never through a link; what cannot be read is named.

A file that is missing or holds something else is damaged, and may be restored. One that is there and cannot be read
now, because of its permissions or because a disk or network fails, may be intact: that is another error, and it stays.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from epigone.errors import FileUnreadable, OutputError

WINDOWS = os.name == "nt"
PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Seconds between tries to replace a file that another program holds, which only Windows refuses."""
CANNOT_WRITE = "Check that there is free space and that you may write there."
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""How a file is opened that must not be there yet, not even as a link."""
TEMPORARY = re.compile(r"\.epigone-[0-9a-f]{16}\.tmp")
"""Names of files and folders that are being written, and that a crash leaves behind."""
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""Errors that say that there is no such file; any other OSError says that it cannot be read now."""
NAMELESS = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Nothing can be there: no such file, a file in place of a folder, a name that no file can have."""


# -- reading


def unreadable(path: Path, error: OSError) -> FileUnreadable:
    """The error for a file that is there and cannot be read now."""
    hint = "Nothing was lost. Give the command again; if it stays so, copy the folder to another disk first."
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = "Nothing was lost. Get permission to read it, then give the command again."
    return FileUnreadable(f"{path} cannot be read now: {error.strerror or error}.", hint=hint)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Let FileNotFoundError and its like pass, and raise FileUnreadable for any other OSError inside the block."""
    try:
        yield
    except MISSING:
        raise
    except OSError as error:
        raise unreadable(path, error) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises FileUnreadable, and FileNotFoundError or its like if there is none."""
    with reading(path):
        return path.read_bytes()


def exists(path: Path) -> bool:
    """Whether there is such a file or folder. Raises FileUnreadable if that cannot be found out now."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in NAMELESS:
            return False
        raise unreadable(path, error) from None
    except ValueError:  # a null character
        return False
    return True


def list_names(folder: Path) -> list[str]:
    """The names in a folder in order; none if there is no such folder. Raises FileUnreadable."""
    try:
        with reading(folder):
            return sorted(path.name for path in folder.iterdir())
    except MISSING:
        return []


def walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder, however deep; links are listed and not followed. Raises FileUnreadable."""
    for name in list_names(folder):
        path = folder / name
        yield path
        if stat.S_ISDIR(_lstat(path)):
            yield from walk(path)


def _lstat(path: Path) -> int:
    """The mode of a file itself, not of what it links to; 0 if there is none."""
    try:
        with reading(path):
            return path.lstat().st_mode
    except MISSING:
        return 0


def is_link(path: Path) -> bool:
    """Whether the name itself is a link, or a junction of Windows. Raises FileUnreadable."""
    is_junction: Callable[[Path], bool] = getattr(os.path, "isjunction", lambda _: False)  # Python 3.12 or later
    return stat.S_ISLNK(_lstat(path)) or is_junction(path)


def is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, which would block a reader. Raises FileUnreadable."""
    mode = _lstat(path)
    return bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


# -- writing


def name_temporary(folder: Path) -> Path:
    """A name in a folder that nothing has and that cannot be guessed."""
    return folder / f".epigone-{secrets.token_hex(8)}.tmp"


def open_new(path: Path) -> BinaryIO:
    """A new file, open for writing, with the permissions that the umask gives. What had its name is deleted first.

    Raises OSError.
    """
    with suppress(FileNotFoundError):
        path.unlink()
    return os.fdopen(os.open(path, NEW, 0o666), "wb")


def open_to_append(path: Path) -> BinaryIO:
    """A file, open for writing at its end, created if needed. Raises OSError, also if it is a link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "ab")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file next to `path`, flush it to disk and rename it. Raises OutputError.

    `write` may replace the file; a link in place of `path` is replaced and not followed.
    """
    beside = name_temporary(path.parent)
    try:
        make_folder(path.parent)
        save_with_umask(write, beside)
        flush(beside)
        replace(beside, path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.",
            hint=CANNOT_WRITE,
        ) from None
    finally:
        with suppress(OSError):
            beside.unlink()


def replace(beside: Path, path: Path) -> None:
    """Rename a file or folder, in place of what has that name. Raises OSError.

    On Windows a virus scanner or another reader may hold either for a moment; there it is tried for longer.
    """
    for pause in PAUSES if WINDOWS else ():
        try:
            beside.replace(path)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    beside.replace(path)


def _set_mode(path: Path, mode: int) -> None:
    """Give a file its permissions, if it has others. Raises OSError."""
    if WINDOWS:  # where files inherit them
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if os.fstat(handle).st_mode != mode:
            os.fchmod(handle, stat.S_IMODE(mode))
    finally:
        os.close(handle)


def save_with_umask(save: Callable[[Path], object], path: Path) -> None:
    """Let `save` write a new file, and give it the permissions that the umask gives. Raises OSError.

    safetensors makes files that only their owner may read, whatever the umask says.
    """
    with open_new(path) as file:
        mode = os.fstat(file.fileno()).st_mode
    save(path)
    _set_mode(path, mode)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with everything in it, as far as that is possible; no link is followed."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, flush each to disk, and return it. Raises OSError."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for place in missing:
        flush(place.parent)
    return path


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file atomically and return its path. Raises OutputError."""
    write_whole(path, lambda beside: create_file(beside, content))
    return path


def create_file(path: Path, content: bytes) -> None:
    """Write a new file; what had its name is deleted first. Not atomic. Raises OSError."""
    with open_new(path) as file:
        file.write(content)


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
    if WINDOWS and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise  # some network file systems refuse to flush folders, and need no flush
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """$EPIGONE_CACHE, or epigone's folder in the user's cache."""
    if folder := os.environ.get("EPIGONE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epigone"


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
