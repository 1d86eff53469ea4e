"""A text is read, split, encoded, planned and measured; nothing that is held out takes part in what is learned from."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from epigone import TrainSettings
from epigone.errors import SettingsError, TextTooShort
from epigone.model.gpt2 import build_model
from epigone.planning.plan import Plan
from epigone.preparation import PreparedRun, count_evaluations, prepare
from epigone.tokens.tokenizer import END_OF_TEXT, list_token_bytes, load_tokenizer, train_tokenizer
from epigone.training.events import Estimate
from helpers_front import sonnets, workshop, write_sonnets
from standin import make_standin

QUICK: dict[str, Any] = {"size": "1x32", "epochs": 0.5, "block_size": 32, "batch_size": 8, "samples": 0, "base": "none"}
STRANGE = "ꙮꙮ ꙮꙮꙮ "
"""A letter of three bytes that only one manuscript has, and none of the sonnets."""


def prepare_quickly(texts: Path | list[Path], folder: Path, **more: Any) -> PreparedRun:
    paths = texts if isinstance(texts, list) else [texts]
    return prepare([str(path) for path in paths], TrainSettings(**{**QUICK, **more}), folder / "tokens", progress=False)


@cache
def prepare_once() -> PreparedRun:
    """Of 6 KB of sonnets. Shared: none may change it."""
    folder = workshop() / "prepared"
    folder.mkdir()
    return prepare_quickly(write_sonnets(folder, 6_000), folder)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def knows(preparation: PreparedRun, letter: str) -> bool:
    """Whether an entry of the vocabulary holds a letter whole."""
    return any(letter.encode() in piece for piece in list_token_bytes(preparation.tokenizer))


def read_part(preparation: PreparedRun, part: str) -> str:
    """The text that a part's ids stand for."""
    ids = getattr(preparation.tokens, part).ids.tolist()
    return str(preparation.tokenizer.backend.decode(ids)).replace(END_OF_TEXT, "")


# -- what is held out stays apart


def test_the_tokenizer_knows_nothing_of_a_held_out_file(tmp_path: Path) -> None:
    text, held_out = write_sonnets(tmp_path), write(tmp_path / "held.txt", STRANGE * 300)
    prepared = prepare_quickly(text, tmp_path, validation=str(held_out))
    assert not knows(prepared, "ꙮ")
    from_train_alone = train_tokenizer([text.read_text("utf-8")], len(prepared.tokenizer))
    assert prepared.tokenizer.backend.get_vocab() == from_train_alone.backend.get_vocab()
    assert read_part(prepared, "train") == text.read_text("utf-8")
    assert read_part(prepared, "validation") == STRANGE * 300
    both = train_tokenizer([text.read_text("utf-8"), STRANGE * 300], len(prepared.tokenizer))
    assert any("ꙮ".encode() in piece for piece in list_token_bytes(both)), "it would have been learned"


def test_the_tokenizer_knows_nothing_of_a_held_out_stretch(tmp_path: Path) -> None:
    text = write(tmp_path / "text.txt", sonnets(9_000) + STRANGE * 125 + "\n")
    prepared = prepare_quickly(text, tmp_path, split="tail")
    assert "ꙮ" in read_part(prepared, "validation") and "ꙮ" not in read_part(prepared, "train")
    assert not knows(prepared, "ꙮ")
    assert read_part(prepared, "train") + read_part(prepared, "validation") == text.read_text("utf-8")
    seen = prepare_quickly(text, tmp_path, validation=str(write_sonnets(tmp_path, 2_000, "other.txt")))
    assert knows(seen, "ꙮ"), "learned from, it is known"


def test_every_character_is_in_one_part() -> None:
    prepared = prepare_once()
    document = prepared.corpus.documents[0]
    (held,) = prepared.split.validation
    assert read_part(prepared, "validation") == document.text[held.start : held.end]
    assert read_part(prepared, "train") == document.text[: held.start] + document.text[held.end :]


def test_the_stretches_of_a_document_share_one_beginning(tmp_path: Path) -> None:
    """A held-out stretch in the middle does not make two documents of the rest."""
    prepared = prepare_quickly([write_sonnets(tmp_path, 3_000, name) for name in ("a.txt", "b.txt")], tmp_path)
    assert prepared.tokens.train.n_documents == 2
    ends = (prepared.tokens.train.ids == prepared.tokenizer.end_of_text_id).nonzero()[0]
    assert len(ends) == 2 and ends[0] == 0


def test_the_split_is_made_as_asked(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.txt", sonnets(20_000)[i * 1_000 :][:1_000]) for i in range(12)]
    prepared = [prepare_quickly(paths, tmp_path, validation=0.3, seed=seed) for seed in (0, 1, 2)]
    assert {each.split.how for each in prepared} == {"documents"}
    assert len({each.split.validation for each in prepared}) > 1
    for each in prepared:
        assert each.receipt.validation.n_characters == pytest.approx(0.3 * 12_000, rel=0.2)
        assert each.plan.seed == each.settings.seed


# -- the receipt


def test_the_receipt_adds_up(tmp_path: Path) -> None:
    dressed = write(tmp_path / "dressed.txt", "\ufeff" + sonnets(4_000).replace("\n", "\r\n") + "é\r\n")
    prepared = prepare_quickly([dressed, write_sonnets(tmp_path)], tmp_path)
    receipt = prepared.receipt.as_json()
    for file in receipt["files"]:
        parts = ("n_bytes_bom", "n_bytes_newlines", "n_bytes_cut", "n_bytes_kept")
        assert sum(file[part] for part in parts) == file["n_bytes"] == (tmp_path / file["name"]).stat().st_size
    for count in ("n_characters", "n_bytes"):
        assert receipt["train"][count] + receipt["validation"][count] == receipt[count]
    assert sum(file["n_characters"] for file in receipt["files"]) == receipt["n_characters"]
    assert sum(file["n_bytes_utf8"] for file in receipt["files"]) == receipt["n_bytes"] == receipt["n_characters"] + 1
    held_out = sum(stretch["end"] - stretch["start"] for stretch in receipt["split"]["held_out"])
    assert held_out == receipt["validation"]["n_characters"]
    assert receipt["train"]["n_tokens"] == prepared.tokens.train.n_tokens


def test_the_receipt_is_json_and_names_what_was_read() -> None:
    prepared = prepare_once()
    receipt = json.loads(prepared.receipt.encode())
    assert receipt["fingerprint"] == prepared.corpus.fingerprint
    assert [file["name"] for file in receipt["files"]] == ["text.txt"] and receipt["held_out_files"] == []
    assert receipt["split"]["how"] == "spread" and receipt["split"]["reason"]
    train = receipt["train"]
    assert train["bytes_per_token"] == pytest.approx(train["n_bytes"] / train["n_tokens"], abs=1e-4)


def test_the_receipt_names_a_held_out_file_and_what_was_passed_over(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    write_sonnets(tmp_path / "texts")
    (tmp_path / "texts" / "picture").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    held_out = write_sonnets(tmp_path, 2_500, "held.txt")
    receipt = prepare_quickly(tmp_path / "texts", tmp_path, validation=str(held_out)).receipt.as_json()
    assert [file["name"] for file in receipt["held_out_files"]] == ["held.txt"]
    assert receipt["train"]["n_characters"] == receipt["n_characters"] == 4_000
    assert receipt["validation"]["n_characters"] == 2_500 and receipt["split"]["how"] == "file"
    assert len(receipt["skipped"]) == 1 and "picture" in receipt["skipped"][0]


# -- where a text begins that is written without a prompt


def test_one_text_in_lines_begins_with_a_line() -> None:
    assert prepare_once().plan.start_text == "\n"


def test_a_text_without_lines_begins_with_its_beginning(tmp_path: Path) -> None:
    assert prepare_quickly(write(tmp_path / "a.txt", sonnets(4_000).replace("\n", " ")), tmp_path).plan.start_text == ""


def test_many_texts_teach_how_a_text_begins(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.txt", sonnets(20_000)[i * 1_500 :][:1_500]) for i in range(12)]
    assert prepare_quickly(paths, tmp_path).plan.start_text == ""
    assert prepare_quickly(paths[:3], tmp_path).plan.start_text == "\n"


# -- plan and estimate


def test_the_plan_stands_on_what_was_counted() -> None:
    prepared = prepare_once()
    plan, tokens = prepared.plan, prepared.tokens
    assert plan.model.base == "none" and prepared.start.base is None and plan.batch.n_processes == 1
    assert plan.model.shape.vocab_size == len(prepared.tokenizer)
    assert plan.batch.n_blocks == len(tokens.train.ids) // plan.batch.block_size

    assert plan.reasons["size"] == "as asked" and plan.reasons["vocab_size"] != "as asked"


def test_the_estimate_is_what_was_measured_times_the_plan() -> None:
    prepared = prepare_once()
    plan, estimate = prepared.plan, prepared.estimate
    assert 0 < estimate.seconds_per_step < 60 and 0 < estimate.seconds_per_evaluation < 60
    assert estimate.n_evaluations == count_evaluations(plan)
    steps, evaluations = (
        plan.schedule.n_steps * estimate.seconds_per_step,
        estimate.n_evaluations * estimate.seconds_per_evaluation,
    )
    assert estimate.seconds == pytest.approx(steps + evaluations)
    assert 10 << 20 < estimate.memory_bytes < psutil.virtual_memory().total


def test_minutes_become_as_many_steps_as_they_allow(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path)
    short, long = (prepare_quickly(text, tmp_path, epochs="auto", minutes=minutes) for minutes in (0.01, 60.0))
    planned = short.plan.schedule.n_steps * short.estimate.seconds_per_step
    assert 0.3 < planned <= 0.6 and short.estimate.seconds <= 0.6
    assert long.plan.schedule.n_steps == long.plan.most_steps, "the epochs are through long before"
    assert long.plan.schedule.n_steps > short.plan.schedule.n_steps


def test_the_same_text_is_prepared_in_the_same_way(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path, 6_000)
    first, again = prepare_once(), prepare_quickly(text, tmp_path)
    assert (first.plan, first.receipt, first.tokens.key) == (again.plan, again.receipt, again.tokens.key)
    assert (tmp_path / "tokens" / again.tokens.key / "tokens.json").is_file()


@pytest.mark.benchmark
def test_measuring_the_speed_leaves_the_model_as_it_was_built(tmp_path: Path) -> None:
    """A few steps were taken, by a copy."""
    prepared = prepare_quickly(write_sonnets(tmp_path), tmp_path)
    untouched = build_model(
        prepared.plan.model, None, prepared.tokenizer.end_of_text_id, seed=prepared.plan.seed
    ).state_dict()
    weights = prepared.model.state_dict()
    assert all(torch.equal(weights[name], untouched[name]) for name in untouched)


# -- a base


def test_a_base_brings_its_tokenizer_its_shape_and_its_weights(tmp_path: Path) -> None:
    base = make_standin(tmp_path / "base", text=sonnets(8_000), n_positions=64, seed=5)
    prepared = prepare_quickly(write_sonnets(tmp_path), tmp_path, base=str(base), size="auto")
    assert prepared.tokenizer.backend.get_vocab() == load_tokenizer(base).backend.get_vocab()
    assert prepared.start.folder == base
    plan = prepared.plan
    assert (plan.model.base, plan.model.base_revision) == (str(base), "")
    assert (plan.model.shape.n_positions, plan.model.shape.n_embd) == (64, 64)
    assert plan.reasons["base"] == "as asked" and plan.model.shape.vocab_size == len(prepared.tokenizer)
    weights = prepared.model.transformer.wte.weight
    assert torch.equal(weights, build_model(plan.model, base, 0, seed=0).transformer.wte.weight)
    assert read_part(prepared, "validation") in sonnets(4_000)


# -- what cannot be


def test_what_cannot_be_is_told_before_anything_is_encoded(tmp_path: Path) -> None:
    with pytest.raises(TextTooShort):
        prepare_quickly(write_sonnets(tmp_path, 1_500), tmp_path)
    with pytest.raises(SettingsError, match="needs a new model"):
        prepare_quickly(write_sonnets(tmp_path), tmp_path, base="gpt2", vocab_size=500)
    assert not (tmp_path / "tokens").exists()


def test_where_nothing_can_be_compiled_it_goes_without_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_compiled(model: object, tokens: object, plan: Plan, **_: object) -> Estimate:
        if plan.compute.compile != "off":
            raise TorchDynamoException("no such header: Python.h\nand much more")
        return Estimate(seconds_per_step=1, seconds_per_evaluation=1, n_evaluations=1, seconds=1, memory_bytes=1)

    monkeypatch.setattr("epigone.preparation.measure_speed", fail_compiled)
    prepared = prepare_quickly(write_sonnets(tmp_path), tmp_path, compile="layers")
    assert prepared.plan.compute.compile == "off"
    assert prepared.plan.reasons["compile"] == "torch.compile failed here: no such header: Python.h"


def test_what_takes_long_with_a_long_text_is_watched_to_its_end(tmp_path: Path) -> None:
    """What a bar is drawn of: it moves on with what was read and encoded, and never back."""
    text = write(tmp_path / "text.txt", sonnets(90_000) * 12)
    told: dict[str, list[tuple[int, int]]] = {}

    def watch(what: str, n_done: int, n_all: int) -> None:
        told.setdefault(what, []).append((n_done, n_all))

    found = prepare([str(text)], TrainSettings(**QUICK | {"epochs": 0.01}), tmp_path / "tokens", watch=watch)
    before, after = (
        ["Reading", "Training the tokenizer", "Encoding"],
        ["Loading the model", "Measuring the speed of a step"],
    )
    assert list(told) == before + after
    for what, size in (("Reading", text.stat().st_size), ("Encoding", found.corpus.n_characters)):
        done = [n_done for n_done, _ in told[what]]
        assert done == sorted(done) and done[-1] == size and {n_all for _, n_all in told[what]} == {size}
    assert len(told["Encoding"]) >= 10
