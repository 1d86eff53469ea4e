"""Archives are read like folders, in memory, and what is hostile in them is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from epigone.corpus.corpus import Corpus, read_corpus
from epigone.corpus.readers import limits
from epigone.errors import TextTooShort, TextUnreadable
from epigone.settings import ReadSettings

TEXTS = {
    "blog/a.txt": b"One.\n",
    "blog/b.md": b"*Two.*\n",
    "c.png": b"\x89PNG",
    ".hidden.txt": b"x",
    "__MACOSX/a.txt": b"x",
}


def make_zip(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def make_tar(files: Mapping[str, bytes], *others: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in others:
            archive.addfile(info)
    return file.getvalue()


def read(tmp_path: Path, data: bytes, name: str = "blog.zip") -> Corpus:
    (tmp_path / name).write_bytes(data)
    return read_corpus([str(tmp_path / name)], ReadSettings(), smallest_bytes=1)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x.zip", make_zip),
        ("x.tar", make_tar),
        ("x.tgz", lambda files: gzip.compress(make_tar(files))),
        ("x.tar.xz", lambda files: lzma.compress(make_tar(files))),
        ("x.tar.bz2", lambda files: bz2.compress(make_tar(files))),
    ],
)
def test_an_archive_is_read_like_a_folder(
    tmp_path: Path, name: str, make: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    corpus = read(tmp_path, make(TEXTS), name)
    assert [(document.name, str(document.text)) for document in corpus.documents] == [
        (f"{name}/blog/a.txt", "One.\n"),
        (f"{name}/blog/b.md", "_Two._\n"),
    ]
    assert corpus.skipped == ("c.png is not read: it is of no known kind.",)


def test_a_compressed_file_is_the_file(tmp_path: Path) -> None:
    corpus = read(tmp_path, gzip.compress(b"One.\r\n"), "novel.txt.gz")
    assert [(document.name, str(document.text)) for document in corpus.documents] == [
        ("novel.txt.gz/novel.txt", "One.\n")
    ]


def test_archives_in_archives_are_read_up_to_a_limit(tmp_path: Path) -> None:
    data = make_zip({"a.txt": b"deep"})
    for _ in range(limits.DEEPEST_ARCHIVES):
        data = make_zip({"in.zip": data})
    assert str(read(tmp_path, data).documents[0].text) == "deep"
    with pytest.raises(TextTooShort, match="nested"):
        read(tmp_path, make_zip({"in.zip": data}))


def test_names_that_lead_out_and_links_are_not_read(tmp_path: Path) -> None:
    names = {"../up.txt": b"up", "/etc/abs.txt": b"abs", "C:\\x.txt": b"drive", "a.txt": b"in"}
    assert [str(document.text) for document in read(tmp_path, make_zip(names)).documents] == ["in"]
    link, device = tarfile.TarInfo("l.txt"), tarfile.TarInfo("d.txt")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    assert [str(document.text) for document in read(tmp_path, make_tar(names, link, device)).documents] == ["in"]


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RATIO_FROM_BYTES", 1 << 20)
    zeros = bytes(3_000_000)
    bombs = {
        "b.zip": make_zip({"a.txt": zeros}),
        "b.txt.gz": gzip.compress(zeros),
        "b.txt.xz": lzma.compress(zeros, preset=0),
        "b.tar.bz2": bz2.compress(make_tar({"a.txt": zeros})),
    }
    for name, data in bombs.items():
        with pytest.raises(TextUnreadable, match="times its size"):
            read(tmp_path, data, name)


def test_a_zip_with_entries_that_overlap_expands_no_further_than_the_limit(tmp_path: Path) -> None:
    data = make_zip({"a.txt": bytes(1_000_000)})
    directory = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[directory:end]
    many = b"".join(entry.replace(b"a.txt", b"%05d" % i)[: -0 or None] for i in range(500))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 500, 500, len(many), directory, 0)
    with pytest.raises((TextUnreadable, TextTooShort)):
        read(tmp_path, data[:directory] + many + tail)


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_ENTRIES", 10)
    with pytest.raises(TextUnreadable, match="more than 10 entries"):
        read(tmp_path, make_zip({f"{i}.txt": b"x" for i in range(11)}))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.txt.gz", "x.txt.xz"])
def test_a_damaged_archive_is_refused(tmp_path: Path, name: str) -> None:
    makers = {"x.zip": make_zip, "x.tar": make_tar}
    whole = {"a.txt": bytes(range(256)) * 40}
    data = makers[name](whole) if name in makers else {".gz": gzip, ".xz": lzma}[name[-3:]].compress(b"text" * 999)
    with pytest.raises((TextUnreadable, TextTooShort)):
        read(tmp_path, data[: len(data) // 2] if name != "x.tar" else data[:600] + b"\xff" * 900, name)


def test_an_archive_without_texts_says_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(TextTooShort, match=r"2 ending in \.png"):
        read(tmp_path, make_zip({"a.png": b"x", "b.png": b"x"}))
