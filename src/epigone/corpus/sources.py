"""Finds the texts that the user names: files, folders, globs, "-", web addresses, a sample."""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from epigone.corpus.download import download, hide_password, read_final_address
from epigone.corpus.missing import (
    explain_address,
    explain_folder,
    explain_missing,
    explain_several,
    refuse_online,
    refuse_run,
)
from epigone.corpus.object_store import is_stored, list_stored, open_stored
from epigone.corpus.readers.formats import SUFFIXES
from epigone.corpus.readers.reader import find_suffix
from epigone.corpus.readers.scrivener import is_project, list_manuscript
from epigone.corpus.readers.tweets import list_posts
from epigone.corpus.readers.whatsapp import find_chat
from epigone.errors import TextNotFound, TextUnreadable, pluralize

MOST_ENDINGS = 4
SAMPLES = ("sonnets",)
A_BOOK = "https://www.gutenberg.org/cache/epub/902/pg902.txt"
"""Fairy tales by Oscar Wilde, who died in 1900: prose to try a model on, which no bundled base has read."""
HELD_BYTES = 1 << 25
"""Of standard input; more goes into a temporary file."""
SMALL_BYTES = 1 << 16
"""Of a file that is held in memory while it is read."""
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
PIPE, SAMPLE = "-", "sample:"
"""How standard input is named, and how the name of a bundled sample begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One text to read."""

    name: str
    """What the receipt shows: never an absolute path."""
    read: Callable[[], bytes]
    """Raises TextNotFound or TextUnreadable."""
    named: bool = True
    """Whether the user named the file itself, not a folder or a glob that it is in."""
    listed: bool = False
    """Whether nothing but a folder or an archive brought it here, of which not all may be meant."""
    key: str = ""
    """Equal for two sources that are the same text."""
    opener: Callable[[], BinaryIO] | None = None
    """For a text that may be too large to be read whole. Raises as `read` does."""
    path: Path | None = None
    """Where it is, if it is a file."""
    n_bytes: int = 0
    """The size, if it is known beforehand, else 0."""
    row_groups: tuple[int, int] | None = None
    """Of a Parquet table, the first row group that is read and the one after the last; None for all."""
    span: tuple[int, int] | None = None
    """The bytes in which these are; None for the whole file."""
    find_address: Callable[[], str] = str
    """Where it was found in the end, once it has been read, if its address redirected; else ""."""

    def open(self) -> BinaryIO:
        """An open file with the same bytes that can be rewound. Raises TextNotFound or TextUnreadable."""
        return io.BytesIO(self.read()) if self.opener is None else self.opener()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """The texts to read, in order, and the files that will not be read, each with the reason."""

    sources: tuple[Source, ...]
    skipped: tuple[str, ...] = ()


def find_sources(texts: Sequence[str]) -> Sources:
    """Everything that `texts` name, each once, in the order given and by name within a folder or glob.

    Raises TextNotFound.
    """
    found = _resolve_all(texts)
    unique: dict[str, Source] = {}
    for source in (source for sources in found for source in sources.sources):
        earlier = unique.setdefault(source.key, source)
        if source.named and not earlier.named:  # the user named it after all, so it must be text
            unique[source.key] = source
    if not unique:
        raise TextNotFound("No text was named.", hint='Name a file, a folder, a glob, an address, or "-".')
    skipped = dict.fromkeys(line for sources in found for line in sources.skipped)
    return Sources(sources=tuple(unique.values()), skipped=tuple(skipped))


def _resolve_all(texts: Sequence[str]) -> list[Sources]:
    """What each text names. Of several that are missing and are one name together, the error says so."""
    try:
        return [_resolve(text) for text in texts]
    except TextNotFound as error:
        raise explain_several(texts) or error from None


def _resolve(text: str) -> Sources:
    if text == PIPE:
        return _single(_make_source(_open_standard_input, "standard input", key=PIPE))
    if text.startswith(SAMPLE):
        return _single(_make_sample_source(text))
    if is_stored(text):
        found = list_stored(text)
        alone = len(found) == 1
        return Sources(sources=tuple(make_stored_source(address, size, named=alone) for address, size in found))
    refuse_online(text)
    if ADDRESS.match(text):
        return _single(_make_url_source(text))
    path = Path(text).expanduser()
    if text in SAMPLES and not path.exists():
        raise TextNotFound(f"There is no file {text}.", hint=f"Did you mean {SAMPLE}{text}?")
    if text.strip() and path.is_dir():
        return _list_folder(path, text)
    if text.strip() and path.exists():
        return _single(make_file_source(path, path.name, named=True))
    if re.search(r"[*?\[]", text):
        return _list_glob(path, text)
    raise explain_missing(path, text)


def _single(source: Source) -> Sources:
    return Sources(sources=(source,))


def make_stored_source(address: str, n_bytes: int, *, named: bool) -> Source:
    """A text in an object store."""
    return _make_source(
        partial(open_stored, address), hide_password(address), key=address, named=named, n_bytes=n_bytes
    )


def _make_sample_source(text: str) -> Source:
    name = text.removeprefix(SAMPLE)
    if name not in SAMPLES:
        known = ", ".join(f"sample:{sample}" for sample in SAMPLES)
        raise TextNotFound(
            f'There is no sample "{name}".',
            hint=f"There is {known}. For any other text give its file, or the address of a book: {A_BOOK}",
        )
    file = resources.files("epigone").joinpath("sample", f"{name}.txt")
    return Source(name=text, read=file.read_bytes, key=text)


def _make_url_source(text: str) -> Source:
    if not text.lower().startswith(("http://", "https://")):
        raise explain_address(hide_password(text))
    return Source(
        name=hide_password(text),
        read=partial(download, text),
        key=text,
        find_address=partial(read_final_address, text),
    )


def _list_folder(folder: Path, text: str) -> Sources:
    refuse_run(folder, text)
    if is_project(folder):
        return _list_project(folder, text)
    if chat := find_chat(folder):
        skipped = f"What is beside {chat.name} in {text} was sent in the chat, and is not read."
        return Sources(sources=(make_file_source(chat, chat.name, named=True),), skipped=(skipped,))
    if posts := list_posts(folder):
        skipped = f"What else is in the archive {text} of X (Twitter) is not read."
        return Sources(
            sources=tuple(make_file_source(path, path.name, named=True) for path in posts), skipped=(skipped,)
        )
    found = sorted(_walk(folder), key=lambda file: file[0])
    files = [("/".join(parts), entry) for parts, entry in found]
    kept = [(name, entry) for name, entry in files if find_suffix(name) in SUFFIXES]
    if not kept:
        raise explain_folder(text, [name for name, _ in files])
    root = folder.resolve()
    return Sources(
        sources=tuple(_make_listed_source(entry, name, root) for name, entry in kept),
        skipped=name_skipped(text, [name for name, _ in files if find_suffix(name) not in SUFFIXES]),
    )


def _walk(folder: Path | str, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], os.DirEntry[str]]]:
    """All files below a folder that are not hidden, with the parts of their names. Links to folders are not followed.

    One call of the system for each folder, and hardly any for each file: folders may have 100,000.
    """
    try:
        with os.scandir(folder) as entries:
            inner = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:  # a folder that may not be read, or that was deleted in the meantime
        return
    for entry in inner:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, (*above, entry.name))
        elif _is_file(entry):
            yield (*above, entry.name), entry


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _make_listed_source(entry: os.DirEntry[str], name: str, root: Path) -> Source:
    """A file of a folder. `root`: the folder without links."""
    path = Path(entry.path)
    if entry.is_symlink():
        return make_file_source(path, name, named=False, listed=True)
    try:
        n_bytes = entry.stat().st_size
    except OSError:  # reading it will say why
        n_bytes = 0
    shown = name.encode("utf-8", "backslashreplace").decode()  # file names may contain any bytes
    return _make_source(
        partial(_open_file, path, shown),
        shown,
        key=f"{root}{os.sep}{name}",
        named=False,
        listed=True,
        path=path,
        n_bytes=n_bytes,
    )


def _list_project(folder: Path, text: str) -> Sources:
    """The manuscript of a Scrivener project."""
    paths = list_manuscript(folder)
    if not paths:
        raise TextNotFound(
            f"The Scrivener project {text} has no text in its manuscript.",
            hint="Compile it as .txt or .docx in Scrivener.",
        )
    return Sources(
        sources=tuple(make_file_source(path, path.relative_to(folder).as_posix(), named=False) for path in paths),
        skipped=(f"What is not in the manuscript of {text} (notes, research, trash) is not read.",),
    )


def name_unread(names: Sequence[str]) -> tuple[str, ...]:
    """One line about files that may be texts and may not be, and are read only if they are named."""
    if not names:
        return ()
    if len(names) == 1:
        return (f"{names[0]} is not read: it is not a chat. To read it, name it itself.",)
    return (f"{len(names):,} files are not read: {_count_endings(names)}. To read one of them, name it itself.",)


def name_skipped(folder: str, paths: Sequence[str]) -> tuple[str, ...]:
    """One line about the files in a folder or an archive that are of no known kind."""
    if not paths:
        return ()
    if len(paths) == 1:
        return (f"{paths[0]} is not read: it is of no known kind.",)
    return (f"{len(paths):,} files in {folder} are not read: {_count_endings(paths)}.",)


def _count_endings(paths: Iterable[str]) -> str:
    """ "12 ending in .png, 3 ending in .mp3"."""
    endings = Counter(map(find_suffix, paths)).most_common()
    shown = [f"{n:,} ending in {ending}" for ending, n in endings[:MOST_ENDINGS]]
    if n_more := sum(n for _, n in endings[MOST_ENDINGS:]):
        shown.append(pluralize(n_more, "other"))
    return ", ".join(shown)


def _list_glob(path: Path, text: str) -> Sources:
    """Files that match, whatever their names end in. As in a folder, "**" follows no links, which could be circular."""
    n_fixed = next(i for i, part in enumerate(path.parts) if re.search(r"[*?\[]", part))
    root, pattern = Path(*path.parts[:n_fixed]), path.parts[n_fixed:]
    pattern = (*pattern, "*") if pattern[-1] == "**" else pattern  # before Python 3.13 ** finds folders only
    files = _list_files(root.glob("/".join(pattern)), root)
    if not files:
        raise TextNotFound(f"No file matches {text}.", hint=f"Check the pattern, or name the folder {root} itself.")
    return Sources(sources=tuple(make_file_source(path, name, named=False) for name, path in files))


def _list_files(paths: Iterable[Path], root: Path) -> list[tuple[str, Path]]:
    """Each file's name below `root`, and its path, in order of name; hidden ones are left out."""
    files = {path.relative_to(root): path for path in paths if path.is_file()}
    return [
        (name.as_posix(), path)
        for name, path in sorted(files.items())
        if not any(part.startswith(".") for part in name.parts)
    ]


def make_file_source(path: Path, name: str, *, named: bool, listed: bool = False) -> Source:
    """A file that is called `name` in messages and receipts."""
    try:
        n_bytes = path.stat().st_size
    except OSError:  # reading it will say why
        n_bytes = 0
    name = name.encode("utf-8", "backslashreplace").decode()  # file names may contain any bytes
    return _make_source(
        partial(_open_file, path, name),
        name,
        key=str(path.resolve()),
        named=named,
        listed=listed,
        path=path,
        n_bytes=n_bytes,
    )


def _make_source(opener: Callable[[], BinaryIO], name: str, *, key: str, **more: Any) -> Source:
    """`more`: further fields."""
    return Source(name=name, read=partial(_read_whole, opener), key=key, opener=opener, **more)


def _read_whole(opener: Callable[[], BinaryIO]) -> bytes:
    with opener() as file:
        return file.read()


def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        status = path.stat()
        kind = status.st_mode
        if stat.S_ISFIFO(kind) and path.is_relative_to("/dev/fd"):  # from the shell's <(command), and already open
            return _copy_aside(path.open("rb"))
        if not stat.S_ISREG(kind):
            what = "a pipe" if stat.S_ISFIFO(kind) else "a folder" if stat.S_ISDIR(kind) else "a device"
            raise TextUnreadable(
                f"{name} is {what}, not a file.",
                hint='To read from a pipe, name the text "-": command | epigone train -',
            )
        # If it has become a pipe in the meantime, this does not block until data arrives.
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if status.st_size > SMALL_BYTES:
            return os.fdopen(opened, "rb")
        with FileIO(opened) as file:  # a small file is read once, in a quarter of the time
            return io.BytesIO(file.read())
    except OSError as error:
        raise unreadable(name, error) from None


def unreadable(name: str, error: OSError) -> TextUnreadable:
    """The error for a file that the system does not let us read."""
    return TextUnreadable(
        f"{name} cannot be read: {error.strerror}.", hint="Check that it exists and that you may read it."
    )


def _open_standard_input() -> BinaryIO:
    return _copy_aside(sys.stdin.buffer)


def _copy_aside(stream: BinaryIO) -> BinaryIO:
    """The contents of a pipe as a file that can be rewound: in memory if it is short."""
    aside = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115  # the caller closes it
    shutil.copyfileobj(stream, aside, 1 << 20)
    aside.seek(0)
    return aside  # type: ignore[return-value]
