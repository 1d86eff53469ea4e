"""Texts of any size are prepared once, in shards: the same ids whichever process makes them, and after a loss."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epigone import TrainSettings, preparation
from epigone.bulk_preparation import BulkText, make_job, prepare_bulk
from epigone.corpus import object_store
from epigone.corpus.split import cap_share
from epigone.errors import EpigoneError, RunExists, SettingsError, TextNotFound
from epigone.evaluation.sample_checks import SampleChecker, SampleWriter
from epigone.generation.generator import WriteDefaults
from epigone.leases import Leases, _name_host
from epigone.planning.choice import Choice
from epigone.planning.choose_base import BaseChoice
from epigone.preparation import describe_ends
from epigone.run import open_run
from epigone.starting_point import StartingPoint
from epigone.tokens import bulk, dataset, shards
from epigone.tokens.bulk import BulkFolder, encode_all
from epigone.tokens.dataset import Batches, Permutation, load_tokens
from epigone.tokens.encoder import TextEncoder, _is_alike
from epigone.tokens.shards import ShardedIds
from epigone.tokens.tokenizer import BPETokenizer, cut_into_blocks, encode
from helpers_front import command, hash_tree, make_once, sonnets, write_sonnets
from helpers_processes import fork
from helpers_ranks import run_together
from helpers_tokens import small_tokenizer

SMALL = 4_000
"""Bytes of a portion, in place of many megabytes."""
QUICK = ("--size", "1x32", "--block-size", "32", "--batch-size", "8", "--samples", "0", "--epochs", "1", "--quiet")


def choose(asked: TrainSettings) -> Any:
    choice = BaseChoice(Choice("none", "as asked"), Choice(300, "as asked"))
    return lambda texts, n_bytes: StartingPoint(settings=asked, choice=choice)


def prepare_small(out: Path, *texts: str | Path, n_helpers: int = 0, **more: Any) -> BulkText:
    asked = TrainSettings(base="none", **more)
    job = make_job([str(text) for text in texts], asked, SMALL)
    return prepare_bulk(job, out, choose(asked), describe_ends, n_helpers=n_helpers)


def read_ids(found: BulkText) -> tuple[list[int], list[int]]:
    return found.tokens.train.ids[:].tolist(), found.tokens.validation.ids[:].tolist()


def read_back(found: BulkText, part: str) -> str:
    ids = getattr(found.tokens, part).ids[:].tolist()
    return str(found.tokenizer.backend.decode(ids, skip_special_tokens=False)).replace("<|endoftext|>", "")


def write_held(folder: Path) -> Path:
    path = folder / "held.txt"
    path.write_text("Held out, and read once in each evaluation. " * 60, "utf-8")
    return path


# -- the same ids


def test_a_text_in_portions_has_the_ids_of_the_whole(tmp_path: Path) -> None:
    text, held = write_sonnets(tmp_path, 30_000), write_held(tmp_path)
    found = prepare_small(tmp_path / "out", text, validation=str(held))
    assert len(json.loads((tmp_path / "out" / "tokens.json").read_text("utf-8"))["train"]) >= 7
    end = found.tokenizer.end_of_text_id
    assert read_ids(found) == (
        [end, *encode(text.read_text("utf-8"), found.tokenizer)],
        [end, *encode(held.read_text("utf-8"), found.tokenizer)],
    )
    assert found.tokens.train.n_documents == 1
    assert found.tokens.train.n_bytes == text.stat().st_size


def test_every_character_is_in_one_part_and_the_receipt_adds_up(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 30_000)
    found = prepare_small(tmp_path / "out", text)
    receipt = found.receipt
    assert receipt.train.n_characters + receipt.validation.n_characters == receipt.n_characters == 30_000
    assert 0.05 < receipt.validation.n_characters / 30_000 < 0.2
    assert sum(file.n_bytes for file in receipt.files) == text.stat().st_size
    train, held_out = read_back(found, "train"), read_back(found, "validation")
    assert sorted(train + held_out) == sorted(text.read_text("utf-8"))


def test_what_is_held_out_is_not_in_the_vocabulary(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(sonnets(20_000) + "ꙮꙮ ꙮꙮꙮ " * 100 + "\n", "utf-8")
    found = prepare_small(tmp_path / "out", text, split="tail", validation=0.06)
    assert "ꙮ" in read_back(found, "validation") and "ꙮ" not in read_back(found, "train")
    assert not any("ꙮ".encode() in piece for piece in dataset.list_token_bytes(found.tokenizer))


def help_with(folder: Path) -> None:
    encode_all(BulkFolder(folder), first=3)


def begin_as(out: Path, alone: Path, text: Path) -> BulkFolder:
    """A job that has been begun, with the tokenizer of another one of the same text."""
    folder, other = BulkFolder(out), BulkFolder(alone)
    folder.begin(make_job([str(text)], TrainSettings(base="none"), SMALL))
    start = other.find_start()
    assert start is not None
    folder.write_start(start, other.load_tokenizer(start))
    return folder


def test_what_a_lost_process_left_is_done_again(tmp_path: Path) -> None:
    """It had finished a portion, and left a claim of another and half a shard."""
    text = write_sonnets(tmp_path, 20_000)
    alone = prepare_small(tmp_path / "alone", text)
    folder = begin_as(tmp_path / "lost", tmp_path / "alone", text)
    folder.ids.mkdir()
    record = folder.name_record(2)
    record.write_bytes(BulkFolder(tmp_path / "alone").name_record(2).read_bytes())
    found = folder.read_record(2)
    for shard in filter(None, (found.train, found.validation)):
        (folder.ids / shard.name).write_bytes((tmp_path / "alone" / "ids" / shard.name).read_bytes())
    half = folder.ids / ".epigone-0000000123456789.tmp"
    half.write_bytes(b"half")
    gone = {"host": _name_host(), "pid": 2**22 + 1, "began": 0.0}
    (folder.work / "portion-000001.lease").write_text(json.dumps(gone), "utf-8")
    assert read_ids(prepare_small(tmp_path / "lost", text)) == read_ids(alone)
    assert not list(folder.work.glob("*.lease")) and not half.exists()
    assert hash_tree(folder.ids) == hash_tree(tmp_path / "alone" / "ids")


def test_what_a_process_is_writing_stays(tmp_path: Path) -> None:
    """It is at work on another host, where this one cannot see whether it lives."""
    left, leases = tmp_path / "left.tmp", Leases(tmp_path)
    left.touch()
    (tmp_path / "a.lease").write_text('{"host": "another", "pid": 1, "began": 0}', "utf-8")
    with leases.claim("a", lambda: [left]) as is_ours:
        assert not is_ours and left.exists()
    (tmp_path / "a.lease").write_text(json.dumps({"host": _name_host(), "pid": 2**22 + 1, "began": 0.0}), "utf-8")
    with leases.claim("a", lambda: [left]) as is_ours:
        assert is_ours and leases.holds("a") and not left.exists()


def test_one_that_was_taken_for_lost_leaves_the_portion_to_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended for longer than a minute; meanwhile another process has begun the portion once more."""
    text = write_sonnets(tmp_path, 20_000)
    alone = prepare_small(tmp_path / "alone", text)
    folder = begin_as(tmp_path / "slow", tmp_path / "alone", text)
    flush = shards.flush

    def wake_up(path: Path) -> None:
        monkeypatch.setattr(shards, "flush", flush)
        path.unlink()
        theirs = folder.work / f"portion-{int(path.name[9:17], 16):06d}.lease"
        theirs.write_text(json.dumps({"host": _name_host(), "pid": os.getppid(), "began": 0.0}), "utf-8")
        flush(path)

    monkeypatch.setattr(shards, "flush", wake_up)
    assert read_ids(prepare_small(folder.path, text)) == read_ids(alone), "and that one was lost, too"
    assert hash_tree(folder.ids) == hash_tree(tmp_path / "alone" / "ids")


def test_what_others_have_read_of_the_sample_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, asked = write_sonnets(tmp_path, 20_000), TrainSettings(base="none")
    seen, alone = list[tuple[str, ...]](), list[tuple[str, ...]]()

    def look_at(found: list[tuple[str, ...]]) -> Any:
        return lambda texts, n_bytes: found.append(tuple(texts)) or choose(asked)(texts, n_bytes)

    job = make_job([str(text)], asked, SMALL)
    prepare_bulk(job, tmp_path / "alone", look_at(alone), describe_ends)
    folder = BulkFolder(tmp_path / "shared")
    folder.begin(job)
    bulk.sample_all(folder)
    assert len(list(folder.work.glob("sample-*"))) == len(job.portions) == 5
    folder.name_sample(3).unlink()
    read, asked_for = bulk.read_parts, list[int]()
    monkeypatch.setattr(bulk, "read_parts", lambda job, number, at: asked_for.append(number) or read(job, number, at))
    prepare_bulk(job, folder.path, look_at(seen), describe_ends)
    assert asked_for[0] == 3 and sorted(asked_for[1:]) == list(range(5)), "one to sample it, all to encode them"
    assert seen == alone and len(alone[0]) >= 5
    assert hash_tree(folder.ids) == hash_tree(tmp_path / "alone" / "ids")
    assert not list(folder.work.glob("sample-*"))


@pytest.mark.slow
def test_several_processes_and_one_that_is_killed_make_the_same(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 90_000)
    alone = prepare_small(tmp_path / "alone", text)
    assert read_ids(prepare_small(tmp_path / "helped", text, n_helpers=2)) == read_ids(alone)
    folder = begin_as(tmp_path / "killed", tmp_path / "alone", text)
    process = fork(help_with, folder.path)
    while not folder.list_done() and process.is_alive():
        time.sleep(0.002)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert not (folder.path / "tokens.json").exists()
    assert read_ids(prepare_small(folder.path, text)) == read_ids(alone)
    for each in ("helped", "killed"):
        assert hash_tree(tmp_path / each / "ids") == hash_tree(tmp_path / "alone" / "ids")


def test_a_folder_is_for_one_text(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 9_000)
    prepare_small(tmp_path / "out", text)
    text.write_text(sonnets(9_100), "utf-8")
    with pytest.raises(RunExists, match="other texts or settings"):
        prepare_small(tmp_path / "out", text)


# -- formats


def write_records(folder: Path, kind: str, n: int = 60) -> Path:
    rows = [{"id": number, "text": f"Record {number}. {sonnets(400 + number)[number:]}"} for number in range(n)]
    path = folder / f"records.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=5)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_records_in_portions_are_those_of_the_whole(tmp_path: Path, kind: str) -> None:
    path, held = write_records(tmp_path, kind), write_held(tmp_path)
    found = prepare_small(tmp_path / "out", path, validation=str(held))
    manifest = json.loads((tmp_path / "out" / "tokens.json").read_text("utf-8"))
    assert len(manifest["train"]) > 1 and found.tokens.train.n_documents == 60
    one = TrainSettings(base="none", validation=str(held))
    job = make_job([str(path)], one)
    assert len(job.portions) == 2
    whole = prepare_bulk(job, tmp_path / "whole", choose(one), describe_ends)
    assert read_back(found, "train") == read_back(whole, "train")
    assert found.receipt.train.n_characters == whole.receipt.train.n_characters


def test_texts_in_an_object_store_are_read_as_files_are(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 20_000)
    files = fsspec.filesystem("memory")
    for number in (1, 2):
        files.pipe(f"/bucket/{number}.txt", text.read_bytes())
    found = prepare_small(tmp_path / "out", "memory://bucket/*.txt")
    (tmp_path / "two").mkdir()
    for number in (1, 2):
        (tmp_path / "two" / f"{number}.txt").write_bytes(text.read_bytes())
    assert read_ids(found) == read_ids(prepare_small(tmp_path / "local", tmp_path / "two"))
    assert command("prepare", "memory://bucket/nothing.txt", "--out", tmp_path / "none").err.count("There is no file")


def test_a_store_whose_package_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)  # type: ignore[attr-defined]
    with pytest.raises(TextNotFound, match=r"^s3://web/text\.txt needs another package: [^.]*\.$") as caught:
        object_store.list_stored("s3://web/text.txt")
    assert "pip install s3fs" in caught.value.hint


def test_one_text_of_many_that_a_store_does_not_give_is_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be decoded is skipped; but without a text that the network withholds it would be another text."""
    files = fsspec.filesystem("memory")
    for number in (1, 2):
        files.pipe(f"/withheld/{number}.txt", write_sonnets(tmp_path, 5_000).read_bytes())

    class Lost(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise RuntimeError("The network is down.\nAnd more of it")  # clients have errors of their own

    opened = type(files).open
    monkeypatch.setattr(
        type(files), "open", lambda *how, **more: Lost() if how[1].endswith("2.txt") else opened(*how, **more)
    )
    found = command("prepare", "memory://withheld/*.txt", "--base", "none", "--out", tmp_path / "out")
    assert found.code == 2 and found.err.startswith(
        "error: memory:///withheld/2.txt cannot be read: The network is down.\n"
    )


def test_what_needs_all_texts_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--anonymize looks at all texts together"):
        prepare_small(tmp_path / "out", write_sonnets(tmp_path), anonymize=True)


# -- training from it


@cache
def prepared() -> Path:
    return make_once("prepared-texts", _prepare)


def _prepare(place: Path) -> None:
    place.mkdir()
    text = write_sonnets(place, 9_000)
    done = command("prepare", text, "--out", place / "out", "--base", "none", "--vocab-size", "300", "--workers", "1")
    assert done.code == 0, done.err
    assert "To train on it: epigone train" in done.out and "held-out text" in done.out


def test_a_run_is_trained_on_what_was_prepared_and_resumed(tmp_path: Path) -> None:
    out = prepared() / "out"
    done = command("train", out, "--out", tmp_path / "run", *QUICK)
    assert done.code == 0, done.err
    run = open_run(tmp_path / "run")
    (pointer,) = (tmp_path / "run" / "tokens").iterdir()
    assert [path.name for path in pointer.iterdir()] == ["tokens.json"]
    ids = run.folder.load_tokens().train.ids
    assert np.array_equal(ids[:], load_tokens(out).train.ids[:])
    assert command("resume", tmp_path / "run", "--epochs", "2", "--quiet").code == 0
    assert run.write(length=3)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--base", "small"), "prepared for the base none, not for small"),
        (("--validation", "0.2"), "--validation has no effect any more"),
    ],
)
def test_what_was_decided_before_cannot_be_asked_for(tmp_path: Path, flags: tuple[str, ...], told: str) -> None:
    done = command("train", prepared() / "out", "--out", tmp_path / "run", *flags)
    assert done.code == 2 and told in done.err and not (tmp_path / "run" / "tokens").exists()


def test_a_damaged_shard_is_told_and_made_again(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 9_000)
    how = ("prepare", text, "--out", tmp_path / "out", "--base", "none", "--vocab-size", "300", "--workers", "1")
    assert command(*how).code == 0
    shard = max((tmp_path / "out" / "ids").iterdir(), key=lambda path: path.stat().st_size)
    before = shard.read_bytes()
    shard.write_bytes(before[:-2])
    done = command("train", tmp_path / "out", "--out", tmp_path / "run", *QUICK)
    assert done.code == 2 and f"{shard.name} is not what was written" in done.err
    shard.write_bytes(before[:-2] + b"??")
    assert command(*how).code == 0 and shard.read_bytes() == before


# -- in several processes


def train_far_from_the_text(rank: int, place: Path) -> None:
    """The second process stands where the text is not."""
    from epigone.cli import main

    os.chdir(place / str(rank))
    main.main(["train", "text.txt", "--base", "none", *QUICK, "--out", str(place / "run")])


@pytest.mark.slow
def test_only_the_first_process_reads_the_text(tmp_path: Path) -> None:
    for rank in (0, 1):
        (tmp_path / str(rank)).mkdir()
    write_sonnets(tmp_path / "0", 6_000)
    outcomes = run_together(2, tmp_path / "log", train_far_from_the_text, tmp_path)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert open_run(tmp_path / "run").evaluations


def train_in_shards(rank: int, place: Path) -> None:
    from epigone import bulk_preparation
    from epigone.cli import main

    bulk_preparation.LARGE_BYTES, bulk_preparation.make_job.__defaults__ = 10_000, (SMALL,)
    main.main(["train", str(place / "text.txt"), "--base", "none", *QUICK, "--out", str(place / "run")])


@pytest.mark.slow
def test_processes_prepare_a_large_text_together(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 30_000)
    outcomes = run_together(2, tmp_path / "log", train_in_shards, tmp_path)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    run = open_run(tmp_path / "run")
    tokens = run.folder.load_tokens()
    assert isinstance(tokens.train.ids, ShardedIds)
    assert tokens.train.n_characters + tokens.validation.n_characters == len(text.read_text("utf-8"))
    assert command("resume", tmp_path / "run", "--epochs", "2", "--quiet").code == 0


# -- claims


def test_a_claim_is_one_process_s_until_it_ends_or_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Leases(tmp_path), Leases(tmp_path)
    with ours.claim("a") as is_ours, theirs.claim("a") as is_theirs, theirs.claim("b") as is_other:
        assert (is_ours, is_theirs, is_other) == (True, False, True)
    with theirs.claim("a") as is_theirs:
        assert is_theirs
    (tmp_path / "c.lease").write_text('{"host": "another", "pid": 1, "began": 0}', "utf-8")
    with ours.claim("c") as is_ours:
        assert not is_ours, "it may be at work"
    monkeypatch.setattr("epigone.leases.STALE_SECONDS", 0.0)
    with ours.claim("c") as is_ours:
        assert is_ours, "nothing was heard of it"
    assert not list(tmp_path.iterdir())


# -- ids


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), start=st.integers(0, 60), end=st.integers(0, 60))
def test_shards_are_one_array(sizes: list[int], start: int, end: int) -> None:
    whole = np.arange(sum(sizes), dtype=np.uint16)
    edges = np.cumsum([0, *sizes])
    shards = ShardedIds([whole[edges[number] : edges[number + 1]] for number in range(len(sizes))])
    assert len(shards) == len(whole)
    assert np.array_equal(shards[start:end], whole[start:end]) and np.array_equal(shards[:-1], whole[:-1])
    places = np.random.default_rng(start).integers(len(whole), size=(3, 4))
    assert np.array_equal(shards[places], whole[places])


@settings(deadline=None)
@given(size=st.integers(1, 700), seed=st.integers(0, 2**32))
def test_an_order_by_arithmetic_is_a_permutation(size: int, seed: int) -> None:
    keys = np.random.default_rng(seed).integers(1 << 63, size=dataset.ROUNDS, dtype=np.uint64)
    order = Permutation(size, keys)(np.arange(size))
    assert sorted(order.tolist()) == list(range(size))


def test_its_orders_are_as_different_as_chance_makes_them() -> None:
    """Of 4,096 places few stay, few follow their neighbour, and each part of the text goes everywhere."""
    keys = np.random.default_rng(5).integers(1 << 63, size=dataset.ROUNDS, dtype=np.uint64)
    order = Permutation(4_096, keys)(np.arange(4_096))
    assert (order == np.arange(4_096)).sum() < 8 and (np.diff(order) == 1).sum() < 8
    table = np.histogram2d(np.arange(4_096), order, bins=8)[0]
    assert abs(table - 64).max() < 40


def test_a_long_text_is_read_in_an_order_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "PERMUTED_BLOCKS", 10)
    batches = Batches(np.arange(1_000, dtype=np.uint16), block_size=9, blocks_per_step=7, seed=3)
    first, last = 2 * batches.n_blocks, 3 * batches.n_blocks
    steps = range(first // 7, -(-last // 7))
    starts = list(chain.from_iterable(batches.starts(step).tolist() for step in steps))[first - 7 * steps[0] :]
    assert len({start % 1_000 for start in starts[: batches.n_blocks]}) == batches.n_blocks == 111


# -- the encoder


def check_same(text: str, tokenizer: BPETokenizer) -> None:
    encoder = TextEncoder(tokenizer)
    ours = b"".join(map(encoder.encode, cut_into_blocks(text)))
    assert np.frombuffer(ours, encoder.dtype).tolist() == encode(text, tokenizer)


def mix(every: int) -> str:
    """Characters of all scripts as letters, after numbers, spaces and signs."""
    letters = [chr(code) for code in range(0, 0x30000, every) if not 0xD800 <= code < 0xE000]
    return "".join(f"a{letter}1{letter}.{letter} {letter}{letter}b\n {letter}  {letter}'s" for letter in letters)


def test_the_encoder_has_the_ids_of_the_tokenizer() -> None:
    for text in (mix(97), sonnets(20_000), "a<|endoftext|>b  \n\n c", "x" * 300 + " y", "", " ", "\u00a0\u2003 x"):
        check_same(text, small_tokenizer())


def test_a_letter_that_only_one_of_the_two_patterns_knows_is_noticed() -> None:
    assert _is_alike("é") and _is_alike("语") and not _is_alike("\ud800")
    unlike = [chr(code) for code in range(0x10940, 0x10960) if not _is_alike(chr(code))]
    for letter in unlike:  # none once the two know the same version of Unicode
        check_same(f"one{letter}two {letter}{letter} 3{letter}", small_tokenizer())


@pytest.mark.slow
def test_the_encoder_has_them_for_every_character() -> None:
    check_same(mix(1), small_tokenizer())


# -- how much is held out


def test_less_is_held_out_of_a_long_text() -> None:
    assert cap_share(0.1, 5_000_000) == cap_share(0.1, 10_000_000) == 0.1
    assert cap_share(0.1, 20_000_000) * 20_000_000 == pytest.approx(1_000_000)
    assert cap_share(0.1, 10**9) * 10**9 == cap_share(0.1, 10**12) * 10**12 == pytest.approx(10_000_000)
    assert cap_share(0.2, 10**9) == 0.2, "as asked"


def test_samples_are_compared_with_no_more_of_a_very_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = load_tokens(prepared() / "out")
    checker = SampleChecker(SampleWriter(small_tokenizer(), TrainSettings(), WriteDefaults()), tokens)
    whole = sum(map(len, checker._searched))
    del checker._searched
    monkeypatch.setattr("epigone.evaluation.sample_checks.MOST_COMPARED", 1_000)
    assert 1_000 < sum(map(len, checker._searched)) < whole / 4


def test_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epigone.corpus.split.FEWEST_CAPPED", 1_000)
    receipt = prepare_small(tmp_path / "out", write_sonnets(tmp_path, 40_000)).receipt
    assert "so that evaluations take at most a tenth of the time" in receipt.split.reason
    assert receipt.validation.n_characters < 2_000


def test_of_a_text_of_unknown_size_some_is_held_out(tmp_path: Path) -> None:
    receipt = prepare_small(tmp_path / "out", "sample:sonnets").receipt
    assert 0.05 < receipt.validation.n_characters / receipt.n_characters < 0.2


def test_prepare_texts_is_the_command(tmp_path: Path) -> None:
    asked = TrainSettings(base="none", vocab_size=300)
    found = preparation.prepare_texts([str(write_sonnets(tmp_path, 9_000))], asked, tmp_path / "out", n_workers=1)
    again = preparation.prepare_texts([str(tmp_path / "text.txt")], asked, tmp_path / "out", n_workers=1)
    assert read_ids(found) == read_ids(again)
    with pytest.raises(EpigoneError):
        preparation.prepare_texts(["no-such.txt"], asked, tmp_path / "other")
