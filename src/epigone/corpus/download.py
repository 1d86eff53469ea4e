"""Downloads of texts from web addresses: cached, limited in size and time, and not led astray by redirects.

A redirect may lead to any public server. To this machine, the local network or a cloud's metadata service it leads
only if the user named that very server: what is there is meant for the user, and not for the author of the redirect.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from queue import Empty, Full, Queue

import httpx

from epigone.errors import OutputError, TextNotFound, TextUnreadable
from epigone.files import TEMPORARY, cache_folder, list_names, name_temporary, open_new, remove, write_text

URL_LIMIT_BYTES = 512 << 20
"""More text than one machine can learn from; a larger file is more likely a mistake."""
TIMEOUT_SECONDS = 30.0
"""To connect, and between two pieces of the answer."""
ANSWER_SECONDS = 60.0
"""From the request to the first piece of the text, redirects included."""
WINDOW_SECONDS, SLOWEST_BYTES = 30.0, 1_000
"""In any such window an answer has to bring so many bytes a second, or it would never end."""
MOST_REDIRECTS = 10
MOST_WAITING = 8
"""Pieces that were received and not yet written."""
STALE_SECONDS = 3_600.0
"""A temporary file that was not written to for so long was left by a process that was killed."""
UNKNOWN_HOST = re.compile(r"Name or service not known|getaddrinfo|nodename nor servname|name resolution", re.I)
"""What systems say of a name that has no address."""
DOWNLOAD = "Download it yourself and give the file."


def download(url: str) -> bytes:
    """The bytes at the address, from the cache if it has them undamaged.

    Raises TextNotFound, TextUnreadable, or OutputError if the cache cannot be written.
    """
    data = _read_cached(url)
    if data is not None:
        return data
    try:
        return _download(url, _cached_texts()).read_bytes()
    except OSError as error:
        raise OutputError(
            f"The cache {cache_folder()} cannot be used: {error.strerror}.",
            hint="Set EPIGONE_CACHE to a folder that can be written to.",
        ) from None


def is_cached(url: str) -> bool:
    """Whether `download` would find it in the cache, without a request."""
    return _read_cached(url) is not None


def read_final_address(url: str) -> str:
    """Where a downloaded text was found if its address redirected, without password and query; else ""."""
    try:
        return _name_address_file(url).read_text("utf-8")
    except (OSError, ValueError):
        return ""


def hide_password(url: str) -> str:
    """The address without a user's name and password, which do not belong in a receipt that is shared."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)


def _cached_texts() -> Path:
    """The folder of downloaded texts. A file's name is the sha256 of its address, "-" and the sha256 of its content."""
    return cache_folder() / "texts"


def _name_address_file(url: str) -> Path:
    return _cached_texts() / f"{_hash_url(url)}.address"


def _hash_url(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _read_cached(url: str) -> bytes | None:
    """The cached bytes if they are what was downloaded, else None."""
    for path in _cached_texts().glob(f"{_hash_url(url)}-*"):
        with suppress(OSError):
            data = path.read_bytes()
            if path.name.endswith(hashlib.sha256(data).hexdigest()):
                return data
    return None


def _download(url: str, folder: Path) -> Path:
    """Download into `folder`, and return the path."""
    shown = hide_password(url)
    digest = hashlib.sha256()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    temporary = name_temporary(folder)
    try:
        with _explain_http_errors(shown), open_new(temporary) as file:
            fetch, n_bytes = _Fetch(url), 0
            for piece in fetch.receive():
                n_bytes += len(piece)
                _check_size(n_bytes, shown)
                digest.update(piece)
                file.write(piece)
        _keep_address(url, fetch.address)
        return temporary.replace(folder / f"{_hash_url(url)}-{digest.hexdigest()}")
    finally:
        temporary.unlink(missing_ok=True)


def _remove_stale(folder: Path) -> None:
    for name in list_names(folder):
        path = folder / name
        with suppress(OSError):
            if TEMPORARY.fullmatch(name) and abs(time.time() - path.stat().st_mtime) > STALE_SECONDS:
                remove(path)


def _keep_address(url: str, final: httpx.URL) -> None:
    """Keep where a redirect led, without its query: that of a cloud's storage is a key to it."""
    if httpx.URL(url) == final:
        _name_address_file(url).unlink(missing_ok=True)
    else:
        write_text(_name_address_file(url), str(final.copy_with(userinfo=b"", query=None, fragment=None)))


# -- the request


class _Fetch(threading.Thread):
    """Fetches an address in a thread of its own, which can be left at any moment, whatever the server does."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.shown = url, hide_password(url)
        self.address = httpx.URL(url)
        """Where redirects have led so far."""
        self._pieces: Queue[bytes | Exception | None] = Queue(MOST_WAITING)
        self._is_left = threading.Event()

    def receive(self) -> Iterator[bytes]:
        """The text, piece by piece. Raises TextNotFound, TextUnreadable and httpx's errors."""
        self.start()
        pace = _Pace(self.shown)
        try:
            while True:
                try:
                    piece = self._pieces.get(timeout=pace.seconds_left)
                except Empty:
                    piece = b""
                if piece is None:
                    return
                if isinstance(piece, Exception):
                    raise piece
                pace.check(len(piece))
                yield piece
        finally:
            self._is_left.set()

    def run(self) -> None:
        """Put the pieces into the queue, then None or the error."""
        try:
            with httpx.Client(timeout=TIMEOUT_SECONDS) as client, self._open(client) as answer:
                _check_answer(answer, self.shown)
                for piece in answer.iter_bytes():
                    self._put(piece)
            self._put(None)
        except Exception as error:  # noqa: BLE001  # it is raised in the thread that waits
            self._put(error)

    def _put(self, piece: bytes | Exception | None) -> None:
        """Wait until there is room. Raises EOFError once the text is no longer wanted."""
        while not self._is_left.is_set():
            with suppress(Full):
                self._pieces.put(piece, timeout=0.2)
                return
        if not isinstance(piece, Exception):
            raise EOFError

    @contextmanager
    def _open(self, client: httpx.Client) -> Iterator[httpx.Response]:
        """The answer at the end of all redirects."""
        is_local = not _is_public(self.address)
        request = client.build_request("GET", self.url)
        for _ in range(MOST_REDIRECTS + 1):
            answer = client.send(request, stream=True, follow_redirects=False)
            with closing(answer):
                if answer.next_request is None:
                    yield answer
                    return
                request = answer.next_request
            self._check_redirect(request.url, is_local=is_local)
            self.address = request.url
        raise TextNotFound(f"{self.shown} redirects more than {MOST_REDIRECTS} times.", hint=DOWNLOAD)

    def _check_redirect(self, target: httpx.URL, *, is_local: bool) -> None:
        if target.scheme not in ("http", "https"):
            raise TextNotFound(f"{self.shown} redirects to {target.scheme}:, which is not followed.", hint=DOWNLOAD)
        if not _is_public(target) and not (is_local and _is_same_server(httpx.URL(self.url), target)):
            raise TextNotFound(
                f"{self.shown} redirects to {target.host}, which is on this machine or in a private network.",
                hint="That is not followed. If you trust it, give the address that it leads to.",
            )


class _Pace:
    """Notices an answer that does not come, or comes so slowly that it would never end."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self._n_bytes: int | None = None
        """In this window; None before the first piece."""
        self._ends = time.monotonic() + ANSWER_SECONDS

    @property
    def seconds_left(self) -> float:
        """In this window."""
        return max(0.0, self._ends - time.monotonic())

    def check(self, n_bytes: int) -> None:
        """Count a piece; 0 if none came in time. Raises TextNotFound."""
        if self._n_bytes is None and n_bytes:
            self._n_bytes, self._ends = 0, time.monotonic() + WINDOW_SECONDS
        elif not self.seconds_left:
            if self._n_bytes is None:
                raise _no_answer(self.shown, ANSWER_SECONDS)
            if self._n_bytes < SLOWEST_BYTES * WINDOW_SECONDS:
                raise TextNotFound(
                    f"{self.shown} sends less than {SLOWEST_BYTES:,} bytes a second.", hint=f"Try again. {DOWNLOAD}"
                )
            self._n_bytes, self._ends = 0, time.monotonic() + WINDOW_SECONDS
        if self._n_bytes is not None:
            self._n_bytes += n_bytes


def _no_answer(shown: str, seconds: float) -> TextNotFound:
    return TextNotFound(f"{shown} does not answer within {seconds:.0f} s.", hint=DOWNLOAD)


def _is_same_server(one: httpx.URL, other: httpx.URL) -> bool:
    """The same host and port, or the same host by http and by https."""
    usual = {"http": 80, "https": 443}
    ports = [url.port or usual.get(url.scheme) for url in (one, other)]
    return one.host == other.host and (ports[0] == ports[1] or set(ports) <= set(usual.values()))


def _is_public(url: httpx.URL) -> bool:
    """Whether a server is outside this machine and its networks, or has a name that is not known here."""
    return all(_is_global(address) for address in _resolve(url))


def _resolve(url: httpx.URL) -> list[IPv4Address | IPv6Address]:
    with suppress(ValueError):
        return [ip_address(url.host)]
    if not url.host:
        return []
    try:
        found = socket.getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # behind a proxy, which may know it
        return []
    return [ip_address(str(address[0]).partition("%")[0]) for *_, address in found]


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    return address.is_global and not address.is_multicast


def _check_answer(answer: httpx.Response, shown: str) -> None:
    if answer.status_code != httpx.codes.OK:
        what = f"{answer.status_code} {answer.reason_phrase}".strip()
        later = "Check the address." if answer.is_client_error else "Try again later."
        raise TextNotFound(f"{shown} cannot be downloaded: the server answers {what}.", hint=later)
    announced = answer.headers.get("content-length", "")
    _check_size(int(announced) if announced.isdecimal() else 0, shown)


def _check_size(n_bytes: int, shown: str) -> None:
    if n_bytes > URL_LIMIT_BYTES:
        limit = URL_LIMIT_BYTES / (1 << 20)
        raise TextUnreadable(f"{shown} is larger than {limit:,.0f} MiB, the most that is downloaded.", hint=DOWNLOAD)


@contextmanager
def _explain_http_errors(shown: str) -> Iterator[None]:
    """Turns httpx's errors into ours."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise TextNotFound(
            f"{shown} is not a valid address: {error}.", hint="An address looks like https://host/text.txt"
        ) from None
    except httpx.TimeoutException:
        raise _no_answer(shown, TIMEOUT_SECONDS) from None
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        if UNKNOWN_HOST.search(why):
            why = "there is no server of this name, or no network"
        raise TextNotFound(
            f"{shown} cannot be downloaded: {why}.",
            hint=f"Check the network and the address. {DOWNLOAD}",
        ) from None
