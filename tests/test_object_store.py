"""Texts in an object store are read as files are, from an S3 API on loopback; what it refuses is said plainly."""

from __future__ import annotations

import gzip
import io
import json
import random
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from epigone.bulk_preparation import make_job
from epigone.corpus import object_store, sources
from epigone.settings import TrainSettings
from helpers_front import Outcome, command, hash_tree, sonnets

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("s3fs") and find_spec("moto") and find_spec("flask")),
        reason='needs a stand-in for S3: pip install s3fs "moto[server]"',
    ),
]
START_SECONDS = 60.0
TEXT = sonnets(30_000)


class Store:
    """moto's server in a process of its own, and a client of it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import s3fs

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        own = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        own |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_EC2_METADATA_DISABLED": "true"}
        for name, value in (own | {"AWS_CONFIG_FILE": str(folder / "none"), "AWS_MAX_ATTEMPTS": "1"}).items():
            monkeypatch.setenv(name, value)
        with (folder / "server.log").open("wb") as log:
            launch = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
            self.process = subprocess.Popen(launch, stdout=log, stderr=log)
        self._wait()
        s3fs.S3FileSystem.clear_instance_cache()
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        self.files: Any = s3fs.S3FileSystem()
        self.files.mkdir("web")

    def _wait(self) -> None:
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            assert self.process.poll() is None, "the server has ended"
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def put(self, name: str, data: bytes) -> None:
        self.files.pipe(f"web/{name}", data)

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    found = Store(tmp_path, monkeypatch)
    yield found
    found.end()


def prepare(text: str | Path, out: Path, *flags: str) -> Outcome:
    return command("prepare", text, "--base", "none", "--workers", "1", "--out", out, *flags)


def make_parquet(rows: list[dict[str, str]]) -> bytes:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows), buffer, row_group_size=10)
    return buffer.getvalue()


def test_what_lies_in_a_bucket_is_read_as_files_are(tmp_path: Path, store: Store) -> None:
    """Plain text, compressed, JSON Lines and Parquet; names with other letters and spaces; folders and patterns."""
    rows = [{"text": TEXT[start : start + 700]} for start in range(0, len(TEXT), 700)]
    kinds = {
        "plain text ä.txt": TEXT.encode(),
        "packed.txt.gz": gzip.compress(TEXT.encode()),
        "rows.jsonl": "\n".join(map(json.dumps, rows)).encode(),
        "rows.parquet": make_parquet(rows),
    }
    local = tmp_path / "local"
    (local / "below").mkdir(parents=True)
    for name, data in kinds.items():
        store.put(f"kinds/{name}", data)
        (local / name).write_bytes(data)
    for number in range(3):
        text = TEXT[number * 9_000 : (number + 1) * 9_000].encode()
        store.put(f"books/below/{number}.txt", text)
        (local / "below" / f"{number}.txt").write_bytes(text)
    store.put("books/nothing/", b"")  # as consoles make folders
    asked = {f"s3://web/kinds/{name}": local / name for name in kinds}
    asked |= {"s3://web/books": local / "below", "s3://web/books/*/*.txt": local / "below"}
    for number, (address, path) in enumerate(asked.items()):
        ours, theirs = tmp_path / f"stored-{number}", tmp_path / f"local-{number}"
        done = prepare(address, ours)
        assert done.code == 0, done.err
        assert prepare(path, theirs).code == 0
        assert hash_tree(ours / "ids") == hash_tree(theirs / "ids"), address


def test_portions_of_an_object_are_those_of_a_file(tmp_path: Path, store: Store) -> None:
    """In each of them only its own bytes are asked for."""
    from epigone.corpus.portions import read_portion

    text = "".join(f"Line {number} of a text that is longer than a portion.\n" for number in range(40_000))
    store.put("long.txt", text.encode())
    local = tmp_path / "long.txt"
    local.write_text(text, "utf-8")
    settings = TrainSettings(base="none")
    ours, theirs = (make_job([str(one)], settings, 300_000) for one in ("s3://web/long.txt", local))
    assert len(ours.portions) == len(theirs.portions) > 3
    for one, other in zip(ours.portions, theirs.portions, strict=True):
        texts = [read_portion(portion, ours.read, tmp_path, unwrap="no").documents for portion in (one, other)]
        assert [str(item.text) for item in texts[0]] == [str(item.text) for item in texts[1]]


def test_a_run_is_trained_from_a_bucket_and_goes_on_when_the_bucket_is_gone(tmp_path: Path, store: Store) -> None:
    store.put("text.txt", TEXT.encode())
    flags = ("--base", "none", "--size", "1x32", "--block-size", "32", "--batch-size", "4", "--samples", "0")
    done = command("train", "s3://web/text.txt", *flags, "--epochs", "0.2", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    store.end()
    done = command("resume", tmp_path / "run", "--epochs", "0.3")
    assert done.code == 0, done.err


# -- what a store refuses


def test_what_is_not_there_is_said_in_a_line(tmp_path: Path, store: Store) -> None:
    store.put("text.txt", TEXT.encode())
    for address in ("s3://web/texd.txt", "s3://web/*.epub", "s3://web/none/"):
        found = prepare(address, tmp_path / "out")
        assert found.code == 2 and f"There is no file {address}." in found.err
    found = prepare("s3://wep/text.txt", tmp_path / "out")
    assert found.code == 2 and "s3://wep/text.txt cannot be read: The specified bucket does not exist." in found.err
    assert "Traceback" not in found.err


def test_access_that_is_missing_is_named(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    store.put("text.txt", TEXT.encode())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    found = prepare("s3://web/text.txt", tmp_path / "out")
    assert found.code == 2 and "Unable to locate credentials." in found.err and "AWS_ACCESS_KEY_ID" in found.err


def test_an_endpoint_that_does_not_answer_is_named(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    found = prepare("s3://web/text.txt", tmp_path / "out")
    assert found.code == 2 and "http://127.0.0.1:9" in found.err and "AWS_ENDPOINT_URL" in found.err


def _delete(store: Store) -> None:
    store.files.rm("web/many/2.txt")


def _change(store: Store) -> None:
    store.put("many/2.txt", b"Something else altogether. " * 2_000)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (_delete, "was deleted or changed since it was listed"),
        (_change, "was deleted or changed since it was listed"),
        (Store.end, "cannot be read: "),
    ],
    ids=["deleted", "changed", "down"],
)
def test_what_breaks_while_it_is_read_is_an_error_and_never_left_out(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Store], None], said: str
) -> None:
    """One of many that cannot be decoded is skipped; without one that is withheld it would be another text."""
    for number in range(4):
        store.put(f"many/{number}.txt", TEXT[number * 7_000 : (number + 1) * 7_000].encode())
    opened = sources.open_stored

    def open_and_lose(address: str) -> BinaryIO:
        file = opened(address)
        if address.endswith("/2.txt"):
            happens(store)
        return file

    monkeypatch.setattr(sources, "open_stored", open_and_lose)
    found = prepare("s3://web/many", tmp_path / "out")
    assert found.code == 2 and "Traceback" not in found.err, found.err
    assert f"s3://web/many/2.txt {said}" in found.err
    assert not (tmp_path / "out" / "tokens.json").exists()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl", "packed.txt.gz", "many.zip", "long.txt"])
def test_a_store_that_fails_in_the_middle_is_not_taken_for_a_damaged_file(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    digits = random.Random(0).randbytes(400_000).hex()
    rows = [{"text": digits[start : start + 300]} for start in range(0, len(digits), 300)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.txt", digits)
    text = "\n".join(row["text"] for row in rows).encode()
    make: dict[str, Callable[[], bytes]] = {
        "rows.parquet": lambda: make_parquet(rows),
        "rows.jsonl": "\n".join(map(json.dumps, rows)).encode,
        "packed.txt.gz": lambda: gzip.compress(text),
        "many.zip": packed.getvalue,
        "long.txt": lambda: text,
    }
    store.put(name, make[name]())
    opened = sources.open_stored

    def open_and_lose(address: str) -> BinaryIO:
        file = opened(address)
        assert file.read(1)
        file.seek(0)
        store.end()
        return file

    monkeypatch.setattr(object_store, "BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(sources, "open_stored", open_and_lose)
    found = prepare(f"s3://web/{name}", tmp_path / "out")
    assert found.code == 2 and f"error: s3://web/{name} cannot be read: " in found.err, found.err
    assert "Could not connect to the endpoint" in found.err or "Connect" in found.err, found.err
