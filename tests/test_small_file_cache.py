"""What was read of thousands of small files is not read again, and is never anything but what reading would give."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epigone.corpus import parse_cache, reading_pool, small_file_cache
from epigone.corpus.corpus import Corpus, _Reading, read_corpus
from epigone.settings import ReadSettings

CHAT = "12/9/20, 23:55 - Ann: It rains.\n12/9/20, 23:56 - Bob: Again.\n12/9/20, 23:57 - Ann: Still.\n" * 4


@pytest.fixture
def were_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, and not found in the cache."""
    names: list[str] = []
    real = _Reading._read_file

    def note(self, file, source, outer):  # type: ignore[no-untyped-def]
        names.append(source.name)
        return real(self, file, source, outer)

    monkeypatch.setattr(_Reading, "_read_file", note)
    return names


@pytest.fixture
def blog(tmp_path: Path) -> Path:
    """Posts of several kinds, one of which cannot be read."""
    folder = tmp_path / "blog"
    (folder / "2020").mkdir(parents=True)
    for number in range(6):
        post = f"---\ntitle: Rain {number}\n---\n\nIt *rained* [again](https://a.b), {number} \u2028 times.\n"
        (folder / "2020" / f"{number}.md").write_text(post, "utf-8")
    (folder / "page.html").write_text("<html><title>T</title><body><nav>Home</nav><p>A page.</body></html>", "utf-8")
    (folder / "lied.txt").write_bytes("Ein Lied für Müller.\r\n".encode("cp1252") * 40)
    (folder / "book.txt").write_text("*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nIt is.\n", "utf-8")
    (folder / "empty.txt").write_text(" \n", "utf-8")
    return folder


def read(path: Path, **settings: object) -> Corpus:
    return read_corpus([str(path)], ReadSettings.model_validate(settings), smallest_bytes=1)


def test_a_folder_that_is_known_is_not_read_again(blog: Path, entries: Path, were_read: list[str]) -> None:
    first = read(blog)
    assert len(were_read) == 10 and len(first.documents) == 9
    assert any(file.cuts for file in first.files) and any(file.warning or file.n_bytes_newlines for file in first.files)
    were_read.clear()
    assert read(blog) == first
    assert were_read == ["empty.txt"]  # what is refused is looked at again, for the reason
    if os.name != "nt":
        assert next(entries.iterdir()).stat().st_mode & 0o077 == 0  # others may not read a diary


def test_what_is_new_in_a_folder_is_read_alone_wherever_the_folder_is(
    blog: Path, entries: Path, were_read: list[str]
) -> None:
    first = read(blog)
    moved = blog.rename(blog.with_name("moved"))
    (moved / "2020" / "3.md").write_text("It did *not* rain.\n", "utf-8")
    (moved / "2020" / "2.md").rename(moved / "2020" / "2.txt")
    were_read.clear()
    second = read(moved)
    assert were_read == ["2020/2.txt", "2020/3.md", "empty.txt"]
    assert [file for file in second.files if file.name not in were_read] == [
        file for file in first.files if file.name not in ("2020/2.md", "2020/3.md")
    ]
    assert [file.format for file in second.files if "/2." in file.name] == ["text"]
    were_read.clear()
    read(moved)
    assert were_read == ["empty.txt"]


def test_other_settings_and_other_code_read_again(
    blog: Path, entries: Path, were_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(blog)
    read(blog, code="keep")
    monkeypatch.setattr(small_file_cache, "hash_code", lambda *libraries: "changed")
    read(blog)
    assert len(were_read) == 30
    (blog / "2020" / "1.md").write_text("```\nx\n```\nAt 12 ann@example.org wrote.\n", "utf-8")
    texts = [str(document.text) for document in read(blog, anonymize=True).documents]
    assert not any("ann@" in text for text in texts)  # not from an entry, and not into one


def test_who_speaks_is_counted_each_time(tmp_path: Path, entries: Path) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    (folder / "a.txt").write_text(CHAT, "utf-8")
    (folder / "b.txt").write_text(CHAT.replace("Bob", "Carol"), "utf-8")
    first = read(folder)
    assert first.files[0].notes and read(folder) == first
    assert "Bob" not in str(read(folder, speaker=("Ann",)).documents[0].text)


@pytest.mark.parametrize("place", [0, 5, 20, 50, 5_000, -2, None])
def test_whatever_is_damaged_is_read_again(blog: Path, entries: Path, place: int | None) -> None:
    for number in range(40):
        (blog / f"{number}.md").write_text(f"It rained {number} times. " * 40, "utf-8")
    first = read(blog)
    (entry,) = entries.iterdir()
    data = bytearray(entry.read_bytes())
    if place is None:
        data.clear()
    else:
        data[place] ^= 0xFF
    entry.write_bytes(data)
    assert read(blog) == first
    entry.write_bytes(data[: len(data) // 2])
    assert read(blog) == first


def test_many_runs_leave_few_files(
    blog: Path, entries: Path, were_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        (blog / "new.md").write_text(f"It rained {number} times.\n", "utf-8")
        read(blog)
    assert len(list(entries.iterdir())) == 1
    monkeypatch.setattr(small_file_cache, "HELD_BYTES", 1_000)
    monkeypatch.setattr(small_file_cache, "JOINED_BYTES", 10)
    for number in range(40):
        (blog / f"{number}.md").write_text(f"It rained {number} times.\n", "utf-8")
    read(blog)
    assert len(list(entries.iterdir())) > 3  # written as they come
    were_read.clear()
    read(blog)
    assert were_read == ["empty.txt"]


def test_without_a_place_for_the_cache_everything_is_read(
    blog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, were_read: list[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setitem(parse_cache._state, "broken", 0)
    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path / "file"))
    assert read(blog) == read(blog) and len(were_read) == 20


def test_what_other_processes_have_read_is_known(
    blog: Path, entries: Path, monkeypatch: pytest.MonkeyPatch, were_read: list[str]
) -> None:
    monkeypatch.setattr(reading_pool, "count_processes", lambda sources: 2)
    first = read(blog)
    assert not were_read and list(entries.iterdir())
    monkeypatch.setattr(reading_pool, "count_processes", lambda sources: 1)
    assert read(blog) == first and were_read == ["empty.txt"]
