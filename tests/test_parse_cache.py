"""A document whose content is known is not parsed again, and nothing depends on the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from epigone.corpus import parse_cache
from epigone.corpus.corpus import Corpus, read_corpus
from epigone.corpus.readers import html
from epigone.corpus.readers.reader import ParsedDocument, ReadContext
from epigone.settings import ReadSettings

PAGE = "<html><head><title>A Day</title></head><body><article><img alt='Rain'>%s</article></body></html>"
CHANGED = "<p>It was another day.</p>" * 1_500


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were parsed."""
    names: list[str] = []
    real = html.HTML.read

    def note(file: BinaryIO, context: ReadContext) -> Iterator[ParsedDocument]:
        names.append(context.name)
        yield from real(file, context)

    noted = replace(html.HTML, read=note)
    monkeypatch.setattr("epigone.corpus.readers.formats._list_possible", lambda sign, listed: (noted,))
    return names


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "a.html"
    path.write_text(PAGE % ("<p>It was <i>a</i> day – so.</p>" * 1_500), "utf-8")
    return path


def read(path: Path, **settings: object) -> Corpus:
    return read_corpus([str(path)], ReadSettings.model_validate(settings), smallest_bytes=1)


def test_the_same_content_is_parsed_once_and_gives_the_same(page: Path, entries: Path, parsed: list[str]) -> None:
    first = read(page)
    again = page.rename(page.with_name("b.html"))
    second = read(again)
    assert parsed == ["a.html"] and len(list(entries.iterdir())) == 1
    assert second.fingerprint == first.fingerprint
    assert replace(second.files[0], name="a.html") == first.files[0]
    assert first.files[0].dropped and first.files[0].title == "A Day"
    if os.name != "nt":
        assert next(entries.iterdir()).stat().st_mode & 0o077 == 0  # others may not read a manuscript


def test_page_furniture_is_counted_once_however_often_a_file_is_read(
    page: Path, entries: Path, parsed: list[str]
) -> None:
    page.write_text(PAGE % ("<p>It was a day.</p>" * 2_000 + "<p>[Illustration: A day.]</p>" * 3), "utf-8")
    first, second = read(page), read(page)
    assert len(parsed) == 1 and second.files == first.files
    assert {part.what: part.count for part in first.files[0].dropped} == {"images": 1, "pictures": 3}


def test_other_content_settings_and_readers_are_parsed_again(
    page: Path, entries: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(page)
    read(page, code="keep")
    page.write_text(PAGE % CHANGED, "utf-8")
    assert "another" in str(read(page).documents[0].text)
    monkeypatch.setattr(parse_cache, "hash_code", lambda *libraries: "changed")
    read(page)
    assert len(parsed) == 4


@pytest.mark.parametrize("damage", ["shorter", "changed", "empty"])
def test_a_damaged_entry_is_parsed_again_and_mended(page: Path, entries: Path, parsed: list[str], damage: str) -> None:
    first = read(page)
    (entry,) = entries.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes({"shorter": whole[:-9], "changed": whole.replace(b"day", b"lie"), "empty": b""}[damage])
    assert read(page) == first and len(parsed) == 2
    assert entry.read_bytes() == whole


def test_without_a_place_for_the_cache_everything_is_parsed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setitem(parse_cache._state, "broken", 0)
    monkeypatch.setenv("EPIGONE_CACHE", str(tmp_path / "file"))
    assert read(page) == read(page) and len(parsed) == 2
    monkeypatch.delenv("EPIGONE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", _fail)
    read(page)


def _fail() -> Path:
    raise RuntimeError("no home")


def test_the_cache_stays_within_its_size(page: Path, entries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries.mkdir(parents=True)
    for number in range(10):
        path = entries / f"{number}.parsed"
        path.write_bytes(bytes(1_000))
        os.utime(path, (number, number))
    monkeypatch.setattr(parse_cache, "MOST_CACHED_BYTES", 9_000)
    monkeypatch.setattr(parse_cache, "KEPT_BYTES", 4_000)
    parse_cache._prune(entries)
    assert sorted(path.name for path in entries.iterdir()) == [
        "6.parsed",
        "7.parsed",
        "8.parsed",
        "9.parsed",
    ]  # the newest
