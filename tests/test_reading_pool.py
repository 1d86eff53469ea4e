"""Several processes read as one does: the same texts, receipts, reasons and errors, in the same order."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from epigone.corpus import reading_pool
from epigone.corpus.corpus import Corpus, read_corpus
from epigone.corpus.sources import find_sources
from epigone.errors import TextUnreadable
from epigone.settings import ReadSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of several kinds, some of which cannot be read, more than fit into one batch."""
    for number in range(12):
        (tmp_path / f"{number:02}.md").write_text(f"# Post {number}\n\nIt *rained* again, {number} times.\n", "utf-8")
    (tmp_path / "03.html").write_text("<html><body><nav>Home</nav><p>A page.</p></body></html>", "utf-8")
    (tmp_path / "04.txt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "05.txt").write_text("Ein Lied für Müller.\n" * 40, "cp1252")
    (tmp_path / "06.txt").write_text(" \n", "utf-8")
    with zipfile.ZipFile(tmp_path / "07.zip", "w") as archive:
        archive.writestr("a.md", "*Inside.*\n")
        archive.writestr("b.png", b"\x89PNG")
    return tmp_path


def use_processes(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(reading_pool, "count_processes", lambda sources: n)
    monkeypatch.setattr(reading_pool, "BATCH_FILES", 4)


def read(*paths: Path) -> Corpus:
    return read_corpus([str(path) for path in paths], ReadSettings(), smallest_bytes=1)


def test_several_processes_give_what_one_gives(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = read(folder)
    use_processes(monkeypatch, 2)
    asked = list[object]()
    monkeypatch.setattr(reading_pool._Pool, "_ask", _note(asked, reading_pool._Pool._ask))
    together = read(folder)
    assert len(asked) > 2 and None not in asked
    assert together == alone
    assert [file.name for file in alone.files][3:5] == ["03.html", "03.md"]
    assert len(alone.skipped) == 3  # 04.txt, 06.txt and the picture in the archive

    with pytest.raises(TextUnreadable, match=r"04\.txt looks like a PNG image"):
        read(folder / "03.md", folder / "04.txt")  # named, so that it has to be read


def _note(asked: list[object], ask):  # type: ignore[no-untyped-def]
    def note(*arguments: object) -> object:
        asked.append(ask(*arguments))
        return asked[-1]

    return note


def test_what_a_process_that_dies_should_have_read_is_read_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = read(folder)
    use_processes(monkeypatch, 2)
    monkeypatch.setattr(reading_pool, "MODULE", "keyword")  # which ends at once
    assert read(folder) == alone


def test_other_processes_are_asked_only_where_there_is_much_to_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = find_sources([str(folder)]).sources
    monkeypatch.setattr(reading_pool, "_count_idle_cores", lambda: 4)
    assert reading_pool.count_processes(sources) == 1
    assert reading_pool.count_processes(sources * 400) == 1  # a second of work
    assert reading_pool.count_processes(sources * 2_000) == 4
    monkeypatch.setattr(reading_pool, "_count_idle_cores", lambda: 1)
    assert reading_pool.count_processes(sources * 2_000) == 1
