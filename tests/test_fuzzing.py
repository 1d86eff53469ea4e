"""Damaged documents, and bytes that atheris finds by looking at which branches they take, are read or refused."""

from __future__ import annotations

import gzip
import io
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

import fuzz_readers
from conftest import Reliability
from epigone.corpus.corpus import read_alone
from epigone.corpus.large_text import TextSpooler
from epigone.corpus.sources import Source
from epigone.settings import ReadSettings
from fuzz_seeds import make_seeds, store
from helpers_front import environment

SECONDS = 60
TRIES = 25
READING = """
import sys, atheris

with atheris.instrument_imports(include=["epigone.corpus", "epigone.settings"]):
    from epigone.errors import EpigoneError
    from epigone.corpus.corpus import read_document
    from epigone.corpus.sources import Source

def read(data):
    try:
        receipt = read_document(Source(name="x", read=lambda: data)).receipt
    except EpigoneError as error:
        assert error.hint
        return
    parts = receipt.n_bytes_bom, receipt.n_bytes_newlines, receipt.n_bytes_cut, receipt.n_bytes_kept
    assert sum(parts) == receipt.n_bytes == len(data) and min(parts) >= 0, receipt

atheris.Setup(sys.argv, read)
atheris.Fuzz()
"""
DOCUMENTS = """
import sys, atheris

with atheris.instrument_imports(include=["epigone.corpus.readers"]):
    from epigone.errors import EpigoneError
    from epigone.corpus.corpus import read_document
    from epigone.corpus.sources import Source

NAMES = "x.zip x.tar x.gz x.epub x.docx x.odt x.fb2 x.html x.md x.rtf".split()

def read(data):
    try:
        read_document(Source(name=NAMES[data[0] % len(NAMES)] if data else "x", read=lambda: data[1:]))
    except EpigoneError as error:
        assert error.hint

atheris.Setup(sys.argv, read)
atheris.Fuzz()
"""
ARCHIVES = """
import io, random, sys, tarfile, zipfile, atheris

with atheris.instrument_imports(include=["epigone.corpus", "zipfile", "tarfile", "gzip", "lzma", "bz2"]):
    from epigone.errors import EpigoneError
    from epigone.corpus.corpus import read_corpus, _Reading, TextSpooler, _Progress
    from epigone.corpus.sources import Source
    from epigone.settings import ReadSettings

def read(data):
    if not data:
        return
    name = "x.zip" if data[0] % 2 else "x.tar"
    reading = _Reading(ReadSettings(), TextSpooler(), _Progress(lambda n_done, n_all: None, 0))
    try:
        documents = reading.read(Source(name=name, read=lambda: data[1:]))
    except EpigoneError as error:
        assert error.hint
        return
    assert all(".." not in document.name.split("/")[1:-1] for document in documents)

def unpack(data):
    try:
        if data[0] % 2:
            with zipfile.ZipFile(io.BytesIO(data[1:])) as archive:
                return [(info.filename, archive.read(info)) for info in archive.infolist()]
        with tarfile.open(fileobj=io.BytesIO(data[1:])) as archive:
            return [(info.name, archive.extractfile(info).read()) for info in archive if info.isfile()]
    except Exception:
        return []

def pack(parts, chance):
    packed = io.BytesIO()
    if chance.random() < 0.5:
        with zipfile.ZipFile(packed, "w", chance.choice([0, 8, 8, 12, 14])) as archive:
            for name, content in parts:
                archive.writestr(name, content)
        return b"\\x01" + packed.getvalue()
    how = chance.choice(["w", "w", "w:gz", "w:bz2", "w:xz"])
    with tarfile.open(fileobj=packed, mode=how, format=chance.choice([0, 1, 2])) as archive:
        for name, content in parts:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), chance.choice([b"0"] * 6 + [b"1", b"2", b"5", b"g", b"x", b"S", b"L"])
            archive.addfile(info, io.BytesIO(content))
    return b"\\x00" + packed.getvalue()

NAMES = ["a.txt", "b.html", "../a.txt", "/a.txt", "x/" * 300 + "a.txt", "\\ud800.txt", "a.zip", "b.tar", ""]

def mutate(data, most, seed):
    # half of the time within the archive, which is then whole again: else checksums end every try
    chance = random.Random(seed)
    parts = unpack(data) if data else []
    if not parts or chance.random() < 0.4:
        return atheris.Mutate(data, most)
    place = chance.randrange(len(parts))
    name, content = parts[place]
    what = chance.randrange(5)
    if what == 0:
        name = chance.choice(NAMES)
    elif what == 1:
        content = data[1:]
        name = chance.choice(["a.zip", "b.tar", "c.gz"])
    elif what == 2:
        parts.append((chance.choice(NAMES), content[:100]))
    else:
        content = atheris.Mutate(content, 2000) if content else b"It rained. " * 50
    parts[place] = name, content
    try:
        made = pack(parts[:20], chance)
    except Exception:
        return atheris.Mutate(data, most)
    return made if len(made) <= most else atheris.Mutate(data, most)

atheris.Setup(sys.argv, read, custom_mutator=mutate)
atheris.Fuzz()
"""
SETTINGS = """
import sys, tomllib, atheris

with atheris.instrument_imports(include=["epigone.settings"]):
    from epigone.errors import EpigoneError
    from epigone.settings import TrainSettings, make_settings

def read(data):
    try:
        values = tomllib.loads(data.decode("utf-8", "replace"))
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    try:
        make_settings(TrainSettings, values)
    except EpigoneError as error:
        assert error.hint

atheris.Setup(sys.argv, read)
atheris.Fuzz()
"""
WORDS = """"*** START OF THE PROJECT GUTENBERG EBOOK X ***"
"*** END OF THE PROJECT GUTENBERG EBOOK X ***"
"Project Gutenberg"
"*END*THE SMALL PRINT"
"Produced by"
"\\xef\\xbb\\xbf"
"\\xff\\xfe"
"epochs"
"schedule_arguments"
"sample_prompt"
"""


def make_documents() -> list[bytes]:
    """One of each kind of archive and of XML."""
    page = b"<html xmlns='http://www.w3.org/1999/xhtml'><body><p class='a'>It <i>rained</i>.<br/>So.</p></body></html>"
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("a.html")
        info.size = len(page)
        archive.addfile(info, io.BytesIO(page))
    with zipfile.ZipFile(packed, "w") as zipped:  # stored, so that its parts can be reached
        zipped.writestr("a.html", page)
    return [packed.getvalue(), tar.getvalue(), gzip.compress(page, mtime=0), packed.getvalue(), page, page, page, page]


BOOK = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nProduced by Y\n\nÜber allen Gipfeln ist Ruh’, sagte er.\r\n"
BOOK += "\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nProject Gutenberg's licence\n"
SEEDS = [BOOK.encode(encoding, "ignore") for encoding in ("utf-8", "utf-16", "utf-16-be", "cp1252", "utf-8-sig")]
SEEDS += [bytes([number]) + content for number, content in enumerate(make_documents())]
SEEDS += [b"epochs = 3\nminutes = 2.5\nsample_prompt = ['a', 'b']\n[schedule_arguments]\nnum_cycles = 3\n"]


# -- damaged documents


@pytest.mark.parametrize("family", make_seeds())
def test_what_is_damaged_is_a_document_of_its_family(family: str) -> None:
    for name, data in make_seeds()[family]:
        if not data:
            pytest.skip("pyarrow is not installed")
        result = read_alone(Source(name=name, read=partial(bytes, data)), ReadSettings(), TextSpooler())
        formats = {document.receipt.format for document in result.documents}
        known = {"zip": formats, "tar": formats, "xml": {"xml", "blog", "feed"}}.get(family, {family})
        assert result.error is None and formats & known, (name, result)


@pytest.mark.parametrize("family", make_seeds())
def test_damaged_documents_are_read_or_refused(family: str) -> None:
    samples = [fuzz_readers.open_sample(name, data) for name, data in make_seeds()[family] if data]
    failures: dict[str, bytes] = {}
    lines = list(fuzz_readers.try_family(family, samples, range(TRIES if samples else 0), 0, failures))
    assert not failures and len(lines) == bool(samples), failures


def test_a_reader_that_breaks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise IndexError("out of range")

    monkeypatch.setattr(fuzz_readers, "read_alone", read)
    failures: dict[str, bytes] = {}
    (line,) = fuzz_readers.try_family("a", [fuzz_readers.open_sample("a.txt", b"It rained.")], range(3), 0, failures)
    assert "3 FAILED" in line and [name.startswith("IndexError") for name in failures] == [True]


def test_a_try_follows_from_the_seed_and_its_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    monkeypatch.setattr(fuzz_readers, "try_reading", lambda data, name, failures: tried.append(data) or "read")
    samples = [fuzz_readers.open_sample(*seed) for seed in make_seeds()["zip"]]
    list(fuzz_readers.try_family("zip", samples, range(6), 1, {}))
    list(fuzz_readers.try_family("zip", samples, range(4, 6), 1, {}))
    assert tried[4:6] == tried[6:] and len(set(tried)) == 6


def test_parts_are_stored_as_a_zip_archive_has_them() -> None:
    generator = random.Random(0)
    parts = {"a/ü.txt": b"", "b" * 300: generator.randbytes(1_000), "../c": b"c"}
    with zipfile.ZipFile(io.BytesIO(store(parts))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == parts


# -- with atheris


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize(
    "program", [READING, DOCUMENTS, ARCHIVES, SETTINGS], ids=["reading", "documents", "archives", "settings"]
)
def test_no_bytes_that_a_fuzzer_finds_end_in_a_traceback(
    tmp_path: Path, reliability: Reliability, program: str
) -> None:
    (tmp_path / "fuzz.py").write_text(program, "utf-8")
    (tmp_path / "words").write_text(WORDS, "utf-8")
    (tmp_path / "found").mkdir()
    for number, seed in enumerate(SEEDS):
        (tmp_path / "found" / f"seed{number}").write_bytes(seed)
    flags = [f"-max_total_time={SECONDS}", f"-dict={tmp_path / 'words'}", "-max_len=12000", "-verbosity=0"]
    flags += ["-timeout=10"]
    flags.append("-print_final_stats=1")
    arguments = [sys.executable, str(tmp_path / "fuzz.py"), *flags, str(tmp_path / "found")]
    done = subprocess.run(arguments, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
    told = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    n_tried = int(told[1]) if told else 0
    what = {READING: "bytes as a text", DOCUMENTS: "documents and archives", ARCHIVES: "zip and tar, packed again"}.get(
        program, "TOML as settings"
    )
    reliability("What a fuzzer finds", what, tried=n_tried, survived=n_tried if done.returncode == 0 else n_tried - 1)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "Uncaught" not in done.stderr
    assert len(list((tmp_path / "found").iterdir())) > len(SEEDS)
