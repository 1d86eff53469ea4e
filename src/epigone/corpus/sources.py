"""What the user names (files, folders, globs, "-", addresses, a sample) → `Sources`: each with a name and its bytes."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import httpx

from epigone.errors import OutputError, TextNotFound, TextUnreadable

URL_LIMIT_BYTES = 512 << 20
"""More text than one machine learns from; a larger answer is more likely a mistake."""
TIMEOUT_SECONDS = 30.0
"""To connect, and between two pieces of the answer."""
DOWNLOAD = "Download it yourself and give the file."


def download(url: str) -> bytes:
    """The bytes at the address, from the cache if they were fetched before and are undamaged.

    Raises TextNotFound, TextUnreadable, or OutputError if the cache cannot be written.
    """
    cache = cache_folder()
    record = _find_record(cache, url)
    data = _read_cached(cache, record)
    if data is not None:
        return data
    try:
        digest = _download(url, cache / "texts")
        _write_atomically(record, json.dumps({"url": hide_password(url), "sha256": digest}).encode())
        return (cache / "texts" / digest).read_bytes()
    except OSError as error:
        raise OutputError(
            f"The cache {cache} cannot be used: {error.strerror}.",
            hint="Set EPIGONE_CACHE to a folder that can be written to.",
        ) from None


def is_kept(url: str) -> bool:
    """Whether `fetch` would find it in the cache and ask nobody."""
    cache = cache_folder()
    return _read_cached(cache, _find_record(cache, url)) is not None


def cache_folder() -> Path:
    """$EPIGONE_CACHE, or epigone's folder in the user's cache."""
    if folder := os.environ.get("EPIGONE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epigone"


def hide_password(url: str) -> str:
    """The address without a user's name and password, which have no place in a receipt that is shared."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)


def _find_record(cache: Path, url: str) -> Path:
    return cache / "urls" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"


def _read_cached(cache: Path, record: Path) -> bytes | None:
    """The bytes, if they are there and are what was fetched; None otherwise."""
    try:
        digest = json.loads(record.read_bytes())["sha256"]
        data = (cache / "texts" / digest).read_bytes()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return data if hashlib.sha256(data).hexdigest() == digest else None


def _download(url: str, folder: Path) -> str:
    """Fetch into `folder`, under the sha256 of the content, which is returned."""
    shown = hide_password(url)
    digest = hashlib.sha256()
    with _new_file(folder) as temporary, _explained(shown):
        n_bytes = 0
        with (
            temporary.open("wb") as file,
            httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_SECONDS) as answer,
        ):
            _check_answer(answer, shown)
            for piece in answer.iter_bytes(1 << 16):
                n_bytes += len(piece)
                _check_size(n_bytes, shown)
                digest.update(piece)
                file.write(piece)
        temporary.replace(folder / digest.hexdigest())
    return digest.hexdigest()


def _check_answer(answer: httpx.Response, shown: str) -> None:
    if answer.status_code != httpx.codes.OK:
        what = f"{answer.status_code} {answer.reason_phrase}".strip()
        later = "Check the address." if answer.is_client_error else "Try again later."
        raise TextNotFound(f"{shown} cannot be fetched: the server answers {what}.", hint=later)
    if answer.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml+xml")):
        raise TextUnreadable(
            f"{shown} is a web page (HTML), not a text.",
            hint="Give the address of the plain text itself, or save the text as a .txt file and give that.",
        )
    announced = answer.headers.get("content-length", "")
    _check_size(int(announced) if announced.isdecimal() else 0, shown)


def _check_size(n_bytes: int, shown: str) -> None:
    if n_bytes > URL_LIMIT_BYTES:
        limit = URL_LIMIT_BYTES / (1 << 20)
        raise TextUnreadable(f"{shown} is larger than {limit:,.0f} MiB, the most that is fetched.", hint=DOWNLOAD)


@contextmanager
def _explained(shown: str) -> Iterator[None]:
    """httpx's errors in our words."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise TextNotFound(f"{shown} is no address: {error}.", hint="It looks like https://host/text.txt") from None
    except httpx.TimeoutException:
        raise TextNotFound(f"{shown} does not answer within {TIMEOUT_SECONDS:.0f} s.", hint=DOWNLOAD) from None
    except httpx.HTTPError as error:
        raise TextNotFound(
            f"{shown} cannot be fetched: {error or type(error).__name__}.",
            hint=f"Check the network and the address. {DOWNLOAD}",
        ) from None


@contextmanager
def _new_file(folder: Path) -> Iterator[Path]:
    """A temporary file in `folder` that is gone afterwards, unless it was moved to its name."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _write_atomically(path: Path, data: bytes) -> None:
    with _new_file(path.parent) as temporary:
        temporary.write_bytes(data)
        temporary.replace(path)


SUFFIXES = (".txt", ".text", ".md", "")
"""What is read in a folder, in upper or lower case; a file that is named itself may be called anything."""
SAMPLES = ("sonnets",)
HELD_BYTES = 1 << 25
"""Of what comes through a pipe; more goes into a temporary file."""
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Something to read."""

    name: str
    """What the receipt shows: never an absolute path."""
    read: Callable[[], bytes]
    """Raises TextNotFound or TextUnreadable."""
    named: bool = True
    """Whether the user named it, and not a folder or a glob that it is in."""
    key: str = ""
    """Equal for two sources that are the same thing."""
    opener: Callable[[], BinaryIO] | None = None
    """For what may be too large to be read whole. Raises as `read` does."""
    n_bytes: int = 0
    """Where it is known beforehand."""

    def open(self) -> BinaryIO:
        """An open file with the same bytes, which can be rewound. Raises TextNotFound or TextUnreadable."""
        return io.BytesIO(self.read()) if self.opener is None else self.opener()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What to read, in order, and what was found but will not be read, each with the reason."""

    sources: tuple[Source, ...]
    skipped: tuple[str, ...] = ()


def find_sources(texts: Sequence[str]) -> Sources:
    """Everything that `texts` name, each once, in the order given and by name within a folder or glob.

    Raises TextNotFound.
    """
    found = [_find(text) for text in texts]
    unique: dict[str, Source] = {}
    for source in (source for sources in found for source in sources.sources):
        earlier = unique.setdefault(source.key, source)
        if source.named and not earlier.named:  # named after all: must be text
            unique[source.key] = source
    if not unique:
        raise TextNotFound("No text was named.", hint='Name a file, a folder, a glob, an address, or "-".')
    skipped = dict.fromkeys(line for sources in found for line in sources.skipped)
    return Sources(sources=tuple(unique.values()), skipped=tuple(skipped))


def _find(text: str) -> Sources:
    if text == "-":
        return _only(_make_source(_open_standard_input, "standard input", key="-"))
    if text.startswith("sample:"):
        return _only(_find_sample(text))
    if ADDRESS.match(text):
        return _only(_find_address(text))
    path = Path(text).expanduser()
    if path.is_dir():
        return _find_in_folder(path, text)
    if path.exists():
        return _only(_make_file_source(path, path.name, named=True))
    if re.search(r"[*?\[]", text):
        return _find_by_glob(path, text)
    raise _not_found(path, text)


def _only(source: Source) -> Sources:
    return Sources(sources=(source,))


def _find_sample(text: str) -> Source:
    name = text.removeprefix("sample:")
    if name not in SAMPLES:
        known = ", ".join(f"sample:{sample}" for sample in SAMPLES)
        raise TextNotFound(f'There is no sample "{name}".', hint=f"There is {known}.")
    file = resources.files("epigone").joinpath("sample", f"{name}.txt")
    return Source(name=text, read=file.read_bytes, key=text)


def _find_address(text: str) -> Source:
    if not text.lower().startswith(("http://", "https://")):
        raise TextNotFound(
            f"{hide_password(text)} cannot be fetched: only http and https are.",
            hint="Download it yourself and give the file.",
        )
    return Source(name=hide_password(text), read=partial(download, text), key=text)


def _find_in_folder(folder: Path, text: str) -> Sources:
    files = _list_files(folder.rglob("*"), folder)
    kept = [(name, path) for name, path in files if path.suffix.lower() in SUFFIXES]
    if not kept:
        raise TextNotFound(f"The folder {text} holds no text: {_describe(files)}.", hint=_ask_for_text(files))
    return Sources(
        sources=tuple(_make_file_source(path, name, named=False) for name, path in kept),
        skipped=tuple(
            f"{name} is not read: in a folder only .txt, .text, .md and names without an ending are."
            for name, path in files
            if path.suffix.lower() not in SUFFIXES
        ),
    )


def _find_by_glob(path: Path, text: str) -> Sources:
    """Files that match, whatever their names end in. As in a folder, "**" follows no links, which may go in circles."""
    n_fixed = next(i for i, part in enumerate(path.parts) if re.search(r"[*?\[]", part))
    root, pattern = Path(*path.parts[:n_fixed]), path.parts[n_fixed:]
    pattern = (*pattern, "*") if pattern[-1] == "**" else pattern  # before Python 3.13 ** finds folders only
    files = _list_files(root.glob("/".join(pattern)), root)
    if not files:
        raise TextNotFound(f"No file matches {text}.", hint=f"Check the pattern, or name the folder {root} itself.")
    return Sources(sources=tuple(_make_file_source(path, name, named=False) for name, path in files))


def _list_files(paths: Iterable[Path], root: Path) -> list[tuple[str, Path]]:
    """Each file's name below `root`, and its path, in order of name; hidden ones are left out."""
    files = {path.relative_to(root): path for path in paths if path.is_file()}
    return [
        (name.as_posix(), path)
        for name, path in sorted(files.items())
        if not any(part.startswith(".") for part in name.parts)
    ]


def _make_file_source(path: Path, name: str, *, named: bool) -> Source:
    try:
        n_bytes = path.stat().st_size
    except OSError:  # reading it will tell
        n_bytes = 0
    name = name.encode("utf-8", "backslashreplace").decode()  # a name on the disk may be any bytes
    source = _make_source(partial(_open_file, path, name), name, key=str(path.resolve()), named=named)
    return replace(source, n_bytes=n_bytes)


def _make_source(opener: Callable[[], BinaryIO], name: str, *, key: str, named: bool = True) -> Source:
    def read() -> bytes:
        with opener() as file:
            return file.read()

    return Source(name=name, read=read, named=named, key=key, opener=opener)


def _open_file(path: Path, name: str) -> BinaryIO:
    try:
        kind = path.stat().st_mode
        if stat.S_ISFIFO(kind) and path.is_relative_to("/dev/fd"):  # a shell made it of <(command), and it is open
            return _copy_aside(path.open("rb"))
        if not stat.S_ISREG(kind):
            what = "a pipe" if stat.S_ISFIFO(kind) else "a folder" if stat.S_ISDIR(kind) else "a device"
            raise TextUnreadable(
                f"{name} is {what} and no file.", hint='Pipe a text in and call it "-": command | epigone train -'
            )
        # Should it become a pipe by now, this does not wait for somebody to write into it.
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    except OSError as error:
        raise unreadable(name, error) from None


def unreadable(name: str, error: OSError) -> TextUnreadable:
    """What to say where the system does not let a file be read."""
    return TextUnreadable(
        f"{name} cannot be read: {error.strerror}.", hint="Check that it is there and that you may read it."
    )


def _open_standard_input() -> BinaryIO:
    return _copy_aside(sys.stdin.buffer)


def _copy_aside(stream: BinaryIO) -> BinaryIO:
    """What comes through a pipe, as a file that can be rewound: in memory if it is short."""
    aside = tempfile.SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115  # whoever asked for it closes it
    shutil.copyfileobj(stream, aside, 1 << 20)
    aside.seek(0)
    return aside  # type: ignore[return-value]


def _describe(files: Sequence[tuple[str, Path]]) -> str:
    """ "12 files that end in .png, 3 in .docx", or "it is empty"."""
    endings = Counter(path.suffix.lower() for _, path in files)
    counted = ", ".join(f"{n:,} ending in {ending}" for ending, n in endings.most_common(4))
    return f"found {len(files):,} files: {counted}" if files else "it is empty"


def _ask_for_text(files: Sequence[tuple[str, Path]]) -> str:
    if not files:
        return "Put .txt files into it, or name another folder."
    return f"Name the files themselves to read them whatever they are called, for example {files[0][0]}."


def _not_found(path: Path, text: str) -> TextNotFound:
    if path.is_symlink():
        return TextNotFound(f"{text} is a link that leads to nothing.", hint="Name the text itself.")
    if not path.parent.is_dir():
        return TextNotFound(f"There is no folder {path.parent}.", hint=_suggest(path.parent))
    return TextNotFound(f"There is no file {text}.", hint=_suggest(path))


def _suggest(path: Path) -> str:
    """The name most like `path` beside it."""
    names = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    alike = difflib.get_close_matches(path.name, sorted(names), n=1, cutoff=0.5)
    return f"Did you mean {path.with_name(alike[0])}?" if alike else "Check the spelling and the folder you are in."


PIPE, SAMPLE = "-", "sample:"
