"""Everything a user names is found once, in a fixed order, and nothing is skipped silently."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from epigone import files
from epigone.corpus import download
from epigone.corpus.corpus import read_corpus
from epigone.corpus.sources import find_sources
from epigone.errors import OutputError, TextNotFound, TextTooShort, TextUnreadable


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder of texts and other files."""
    for name in ("b.txt", "a.TXT", "notes.md", "README", "cover.png", ".hidden.txt", "sub/c.txt", ".git/d.txt"):
        path = tmp_path / "shelf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "shelf"


def names(*texts: str | Path) -> list[str]:
    return [source.name for source in find_sources([str(text) for text in texts]).sources]


def test_a_file_is_found_whatever_it_is_called(shelf: Path) -> None:
    (source,) = find_sources([str(shelf / "cover.png")]).sources
    assert (source.name, source.read(), source.named) == ("cover.png", b"cover.png", True)


def test_a_folder_gives_its_texts_in_order_and_names_the_rest(shelf: Path) -> None:
    found = find_sources([str(shelf)])
    assert [source.name for source in found.sources] == ["README", "a.TXT", "b.txt", "notes.md", "sub/c.txt"]
    assert len(found.skipped) == 1 and found.skipped[0].startswith("cover.png is not read")


def test_a_glob_need_not_be_expanded_by_the_shell(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf.parent)
    assert names("shelf/*.txt") == ["b.txt"]
    assert names("shelf/**/*.txt") == ["b.txt", "sub/c.txt"]
    assert names(shelf / "*" / "c.*") == ["sub/c.txt"]
    assert names("**/c.txt") == ["shelf/sub/c.txt"]


def test_a_file_may_have_a_name_like_a_glob(shelf: Path) -> None:
    (shelf / "poems [1].txt").touch()
    assert names(shelf / "poems [1].txt") == ["poems [1].txt"]


def test_a_file_that_is_named_twice_is_read_once(shelf: Path) -> None:
    (shelf.parent / "link.txt").symlink_to(shelf / "b.txt")
    found = find_sources([str(shelf), str(shelf / "b.txt"), str(shelf / "*.txt"), str(shelf.parent / "link.txt")])
    assert Counter(source.name for source in found.sources)["b.txt"] == 1
    assert len(found.sources) == 5
    assert [source.name for source in found.sources if source.named] == ["b.txt"]


def test_sources_keep_the_order_in_which_they_were_named(shelf: Path) -> None:
    assert names(shelf / "notes.md", shelf / "b.txt") == ["notes.md", "b.txt"]


def test_standard_input_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\xff")))
    (source,) = find_sources(["-"]).sources
    assert (source.name, source.read()) == ("standard input", b"from a pipe\xff")


def test_the_sonnets_come_with_the_package() -> None:
    (source,) = find_sources(["sample:sonnets"]).sources
    assert source.name == "sample:sonnets"
    assert b"From fairest creatures we desire increase" in source.read()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("shelf/zebra", "There is no file", "Check the spelling"),
        ("shelf/notse.md", "There is no file", "Did you mean shelf/notes.md?"),
        ("shlef/b.txt", "There is no folder shlef", "Did you mean shelf?"),
        ("shelf/*.epub", r"No file matches shelf/\*\.epub", "Check"),
        ("sample:sonets", 'no sample "sonets"', "sample:sonnets"),
        ("ftp://host/a.txt", "only http and https", "Download"),
        ("file:///etc/passwd", "a file on this computer", "/etc/passwd"),
    ],
)
def test_a_missing_text_is_an_error_with_a_hint(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str, hint: str
) -> None:
    monkeypatch.chdir(shelf.parent)
    with pytest.raises(TextNotFound, match=message) as caught:
        find_sources([text])
    assert hint in caught.value.hint


def test_the_error_for_a_folder_without_text_lists_its_files(tmp_path: Path) -> None:
    with pytest.raises(TextNotFound, match="it is empty"):
        find_sources([str(tmp_path)])
    for name in ("a.png", "b.png", "c.xlsx"):
        (tmp_path / name).touch()
    with pytest.raises(TextNotFound, match=r"only pictures \(2\), sheets \(1\)") as caught:
        find_sources([str(tmp_path)])
    assert "learned from text" in caught.value.hint


def test_naming_nothing_is_an_error() -> None:
    with pytest.raises(TextNotFound, match="No text was named"):
        find_sources([])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read every file")
def test_a_file_that_may_not_be_read_is_an_error(shelf: Path) -> None:
    (shelf / "b.txt").chmod(0)
    (source,) = find_sources([str(shelf / "b.txt")]).sources
    with pytest.raises(TextUnreadable, match="Permission denied"):
        source.read()


def test_a_file_that_is_deleted_before_reading_is_an_error(shelf: Path) -> None:
    (source,) = find_sources([str(shelf / "b.txt")]).sources
    (shelf / "b.txt").unlink()
    with pytest.raises(TextUnreadable, match=r"b\.txt cannot be read: No such file"):
        source.read()


# -- addresses

POEM = b"Tyger Tyger, burning bright,\r\nIn the forests of the night;\r\n" * 50


SENTENCE = "They burn bright in the forests of the night."
PAGE = b"<!doctype html><html><head><title>Tigers</title></head><body><nav>Home About</nav><article>"
PAGE += f"<p>{SENTENCE}</p>".encode() * 60 + b"</article></body></html>"


class Library(BaseHTTPRequestHandler):
    """A web server with one poem that counts its requests."""

    asked: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        Library.asked[self.path] += 1
        page = {
            "/poem.txt": (200, "text/plain", POEM),
            "/page": (200, "text/html; charset=utf-8", PAGE),
            "/empty": (200, "text/html; charset=utf-8", b"<html><body></body></html>"),
            "/broken": (503, "text/plain", b"later"),
            "/moved": (302, "text/plain", b""),
            "/endless": (200, "text/plain", b"x" * 5_000),
        }.get(self.path, (404, "text/plain", b"none"))
        self.send_response(page[0])
        self.send_header("Content-Type", page[1])
        if self.path == "/moved":
            self.send_header("Location", "/poem.txt")
        if self.path != "/endless":
            self.send_header("Content-Length", str(len(page[2])))
        self.end_headers()
        self.wfile.write(page[2])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a running web server, with an empty cache."""
    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    Library.asked = Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Library)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def read(address: str) -> bytes:
    (source,) = find_sources([address]).sources
    assert source.name == download.hide_password(address)
    return source.read()


def test_an_address_is_downloaded_once(host: str) -> None:
    assert read(f"{host}/poem.txt") == read(f"{host}/poem.txt") == POEM
    assert Library.asked == {"/poem.txt": 1}


def test_of_a_web_page_the_article_is_read(host: str) -> None:
    (document,) = read_corpus([f"{host}/page"]).documents
    assert str(document.text).split("\n\n") == [SENTENCE] * 59 + [SENTENCE + "\n"]
    assert (document.receipt.format, document.receipt.title) == ("html", "Tigers")
    with pytest.raises(TextTooShort, match="with no text in it"):
        read_corpus([f"{host}/empty"])


def test_a_redirect_is_followed_and_each_address_is_cached(host: str, tmp_path: Path) -> None:
    assert read(f"{host}/moved") == read(f"{host}/poem.txt") == POEM
    assert len(list((tmp_path / "cache/texts").glob("*-*"))) == 2


@pytest.mark.parametrize("damage", [b"", b"something else"])
def test_a_damaged_file_in_the_cache_is_downloaded_again(host: str, tmp_path: Path, damage: bytes) -> None:
    read(f"{host}/poem.txt")
    (file,) = (tmp_path / "cache/texts").iterdir()
    file.write_bytes(damage)
    assert read(f"{host}/poem.txt") == POEM
    assert Library.asked["/poem.txt"] == 2


@pytest.mark.parametrize("path", ["/poem.txt", "/endless"], ids=["announced", "not announced"])
def test_a_too_large_file_is_refused(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(download, "URL_LIMIT_BYTES", 1_000)
    with pytest.raises(TextUnreadable, match="larger than"):
        read(host + path)
    assert list((tmp_path / "cache/texts").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "error", "message", "hint"),
    [
        ("/nothing", TextNotFound, "404 Not Found", "Check the address"),
        ("/broken", TextNotFound, "503", "later"),
    ],
)
def test_an_answer_without_a_text_is_an_error(
    host: str, tmp_path: Path, path: str, error: type[Exception], message: str, hint: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        read(host + path)
    assert host + path in str(caught.value) and hint in caught.value.hint  # type: ignore[attr-defined]
    assert list((tmp_path / "cache/texts").iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/poem.txt", "http://[::/poem.txt", "http://"])
def test_no_answer_is_an_error(host: str, address: str) -> None:
    with pytest.raises(TextNotFound) as caught:
        read(address)
    assert caught.value.hint


def test_a_cache_that_cannot_be_written_is_an_error(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot be used") as caught:
        read(f"{host}/poem.txt")
    assert "EPIGONE_CACHE" in caught.value.hint


def test_a_password_in_an_address_is_not_shown(host: str, tmp_path: Path) -> None:
    address = host.replace("//", "//reader:secret@") + "/poem.txt"
    (source,) = find_sources([address]).sources
    assert source.read() == POEM
    kept = "".join(path.name + path.read_text() for path in (tmp_path / "cache").rglob("*.*") if path.is_file())
    assert "secret" not in source.name + kept


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"EPIGONE_CACHE": "/e", "XDG_CACHE_HOME": "/x"}, lambda home: Path("/e")),
        ({"XDG_CACHE_HOME": "/x"}, lambda home: Path("/x/epigone")),
        ({}, lambda home: home / ".cache/epigone"),
    ],
)
def test_the_cache_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], where: Callable[[Path], Path]
) -> None:
    for name in ("EPIGONE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert files.cache_folder() == where(tmp_path)


def test_a_name_that_was_meant_otherwise_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my first novel.txt").write_text("text", "utf-8")
    wanted = {
        ("my", "first", "novel.txt"): 'quotation marks: "my first novel.txt"',
        ("www.gutenberg.org/files/1342.txt",): "Did you mean https://www.gutenberg.org/files/1342.txt?",
        ("sonnets",): "Did you mean sample:sonnets?",
        ("~/no such file.txt",): "Check the spelling",
    }
    for texts, hint in wanted.items():
        with pytest.raises(TextNotFound) as caught:
            find_sources(texts)
        assert hint in caught.value.hint
