"""A text from the web comes from where the user asked for it, in a bounded time, and leaves nothing half done."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from conftest import Counting
from epigone.corpus import download
from epigone.corpus.corpus import read_corpus
from epigone.errors import TextNotFound
from epigone.files import name_temporary
from epigone.report.views import describe_receipt
from helpers_front import shared_run

POEM = b"Tyger Tyger, burning bright,\r\nIn the forests of the night;\r\n" * 50
ended = threading.Event()
"""Set when slow answers are to end."""


class Server(BaseHTTPRequestHandler):
    """Answers with a poem, a redirect to what follows "/to/", or so slowly that it would never end."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/slow-header":
            self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        elif self.path == "/slow-text":
            self._drip(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(POEM)

    def _drip(self, first: bytes) -> None:
        self.wfile.write(first)
        while not ended.wait(0.02):
            try:
                self.wfile.write(b"x")
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a running web server, with an empty cache."""
    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ended.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


def list_cache(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


# -- redirects


def test_the_receipt_says_where_a_redirect_led_without_keys_and_passwords(host: str) -> None:
    address = f"{host}/to//poem.txt?signature=secret"
    for _ in range(2):  # from the server, then from the cache
        (document,) = read_corpus([address]).documents
        assert document.receipt.address == f"{host}/poem.txt"
        assert document.receipt.n_bytes == len(POEM)
    receipt = shared_run().folder.read_receipt().model_copy(update={"files": (document.receipt,)})
    assert document.receipt.address in [row.value for row in describe_receipt(receipt)]


def test_without_a_redirect_there_is_no_other_address(host: str) -> None:
    (document,) = read_corpus([f"{host}/poem.txt"]).documents
    assert document.receipt.address == ""


@pytest.mark.parametrize(
    "target",
    [
        *("http://127.0.0.1:9/poem.txt", "http://localhost/poem.txt", "http://169.254.169.254/latest", "//10.0.0.1/"),
        *(
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[fe80::1]/",
            "http://0.0.0.0/",
            "https://192.168.1.1/",
        ),
        *("file:///etc/passwd", "ftp://127.0.0.1/a"),
    ],
)
def test_a_redirect_to_this_machine_or_a_private_network_is_not_followed(
    host: str, tmp_path: Path, target: str, counting: Counting
) -> None:
    with (
        counting("an address that redirects to this machine, a private network or a file") as tries,
        pytest.raises(TextNotFound, match=r"redirects to .*(private network|is not followed)"),
        tries.one(),
    ):
        download.download(f"{host}/to/{target}")
    assert list_cache(tmp_path) == []


def test_a_redirect_that_leads_in_a_circle_ends(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_REDIRECTS", 3)
    with pytest.raises(TextNotFound, match="redirects more than 3 times"):
        download.download(f"{host}/to/" + "/to/" * 9)


@pytest.mark.parametrize(
    ("asked", "target", "is_followed"),
    [
        ("http://example.org/a", "https://cdn.example.net/b", True),
        ("http://example.org/a", "http://inside.example.net/b", False),
        ("http://inside.example.net/a", "https://inside.example.net/b", True),
        ("http://inside.example.net/a", "http://inside.example.net:8080/b", False),
        ("http://example.org/a", "http://unknown.example.net/b", True),
    ],
)
def test_the_names_of_servers_count_by_what_they_lead_to(
    monkeypatch: pytest.MonkeyPatch, asked: str, target: str, is_followed: bool
) -> None:
    """A public name may lead to a private address; one that is not known here is a matter of the proxy."""

    def look_up(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if "unknown" in name:
            raise socket.gaierror
        return [(0, 0, 0, "", ("192.168.1.7" if "inside" in name else "8.8.8.8", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    fetch = download._Fetch(asked)
    try:
        fetch._check_redirect(httpx.URL(target), is_local=not download._is_public(httpx.URL(asked)))
    except TextNotFound:
        assert not is_followed
    else:
        assert is_followed


# -- time


@pytest.mark.parametrize(
    ("path", "limit", "message"),
    [
        ("slow-text", "WINDOW_SECONDS", "sends less than 1,000 bytes a second"),
        ("slow-header", "ANSWER_SECONDS", "does not answer within"),
    ],
)
def test_an_answer_that_drips_is_given_up(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: Counting, path: str, limit: str, message: str
) -> None:
    """The text itself, or what comes before it."""
    monkeypatch.setattr(download, limit, 0.2)
    with (
        counting("an address that answers a byte at a time") as tries,
        pytest.raises(TextNotFound, match=message),
        tries.one(),
    ):
        download.download(f"{host}/{path}")
    assert list_cache(tmp_path) == []


def test_what_a_killed_download_left_is_removed_and_one_at_work_is_not(host: str, tmp_path: Path) -> None:
    (folder := tmp_path / "cache" / "texts").mkdir(parents=True)
    left, at_work = name_temporary(folder), name_temporary(folder)
    for path, age in ((left, 2 * download.STALE_SECONDS), (at_work, 60)):
        path.write_bytes(b"half of it")
        os.utime(path, (time.time() - age,) * 2)
    assert download.download(f"{host}/poem.txt") == POEM
    assert not left.exists() and at_work.exists()
