"""An address → the bytes behind it, fetched once and then kept in a cache whose files are named by their content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from epigone.errors import OutputError, TextNotFound, TextUnreadable

URL_LIMIT_BYTES = 512 << 20
"""More text than one machine learns from; a larger answer is more likely a mistake."""
TIMEOUT_SECONDS = 30.0
"""To connect, and between two pieces of the answer."""
DOWNLOAD = "Download it yourself and give the file."


def fetch(url: str) -> bytes:
    """The bytes at the address, from the cache if they were fetched before and are undamaged.

    Raises TextNotFound, TextUnreadable, or OutputError if the cache cannot be written.
    """
    cache = find_cache()
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
    cache = find_cache()
    return _read_cached(cache, _find_record(cache, url)) is not None


def find_cache() -> Path:
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
