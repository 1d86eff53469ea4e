"""The tools that make the bundled base: its texts are clean and strange to the tests', its run can end at any time."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import base
import base_texts
import bundle
from base_texts import (
    Document,
    TestTexts,
    clean_book,
    divide,
    drop_copies,
    pack,
    read_documents,
    unwrap,
    write_documents,
)
from epigone.generation.known_words import read_words
from epigone.tokens.tokenizer import BPETokenizer, train_tokenizer
from helpers_front import SONNETS

TestTexts.__test__ = False  # type: ignore[attr-defined]  # it is not a test
WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen"
PROSE = "\n".join(
    ["the morning was cold and the road to the town was long, so that", "we spoke of little but the fire"]
)
VERSE = "\n".join(["From fairest creatures we desire increase,", "That thereby beauty's rose might never die,"])
FILLER = "Nothing of this stands anywhere else, and it is here to be kept as it is."


# -- the texts


def test_a_paragraph_with_thirteen_words_of_a_test_text_goes_and_one_with_twelve_stays() -> None:
    tests, few = TestTexts([f"He said: {WORDS}, and left."]), WORDS.removesuffix(" thirteen")
    copied = WORDS.title().replace(" ", ",\n")
    assert tests.remove("\n\n".join([FILLER] * 9 + [copied])) == "\n\n".join([FILLER] * 9) + "\n"
    text = "\n\n".join([FILLER] * 9 + [f"Before it {few}, and after it."])
    assert tests.remove(text) == text


def test_a_document_that_is_mostly_a_test_text_goes_whole() -> None:
    tests = TestTexts([f"{WORDS} and more"])
    assert tests.remove(f"{WORDS}\n\nTwo words.") == ""
    assert len(tests.find(f"{WORDS}\n\nTwo words.")) == 1


def test_the_check_names_what_shares_words_with_a_folder_of_test_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "novel.html").write_text(f"<p>{WORDS.replace(' ', ' <i>', 1)}</i></p>", "utf-8")
    clean, copied = Document(name="a/1", kind="books", text=FILLER), Document(name="a/2", kind="books", text=WORDS)
    assert base_texts.check([clean], tmp_path) == 0
    assert base_texts.check([clean, copied], tmp_path) == 1
    assert "a/2: 1 times 13 words" in capsys.readouterr().out


def test_only_wrapped_prose_is_unwrapped() -> None:
    filler = "\n\n".join([PROSE] * 20)
    unwrapped = unwrap(f"{filler}\n\n{VERSE}\n\n  a table\n  of two")
    assert unwrapped.split("\n\n")[0] == PROSE.replace("\n", " ")
    assert VERSE in unwrapped and "  a table\n  of two" in unwrapped
    poem = "\n\n".join([VERSE] * 20) + "\n"
    assert unwrap(poem) == poem


def test_a_book_loses_its_furniture_and_keeps_its_words() -> None:
    parts = ["[Illustration: A road\nat night]", f"{PROSE}{{12}}", "  [44]", "Oh, let my Muse            10", FILLER]
    cleaned = clean_book("CHAPTER I\n\n" + "\n\n".join(parts))
    assert [part for part in cleaned.split("\n") if part] == [
        "CHAPTER I",
        *PROSE.split("\n"),
        "Oh, let my Muse",
        FILLER,
    ]


def test_copies_and_held_out_sources_are_not_learned_from() -> None:
    long = " ".join(f"{FILLER} {number}" for number in range(200))
    other = " ".join(str(number * number) for number in range(2_000))
    documents = [
        Document(name="blogs/a/long", kind="blogs", text=long),
        Document(name="blogs/a/part", kind="blogs", text=long[: len(long) // 2]),
        Document(name="blogs/brianbuccola/x", kind="blogs", text=other),
    ]
    kept = drop_copies(documents, set())
    assert [document.name for document in kept] == ["blogs/a/long", "blogs/brianbuccola/x"]
    train, held_out = divide(
        [*kept, *(Document(name=f"blogs/b/{n}", kind="blogs", text="x" * 70_000) for n in range(5))]
    )
    assert "blogs/brianbuccola/x" in {document.name for document in held_out}
    assert not {document.name for document in held_out} & {document.name for document in train}
    assert sum(len(document.text) for document in held_out) <= base_texts.HELD_OUT_BYTES


# -- the run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sonnets as packed data: most to learn from, the rest held out."""
    folder = tmp_path_factory.mktemp("base") / "data"
    folder.mkdir()
    text = SONNETS.read_text("utf-8")
    documents = [
        Document(name=f"a/{n}", kind="fiction" if n % 2 else "books", text=text[n * 2_000 :][:2_000]) for n in range(20)
    ]
    tokenizer = train_tokenizer([document.text for document in documents], 320)
    tokenizer.as_stock().save_pretrained(folder / "tokenizer")
    write_documents(documents[16:], folder / "held_out.jsonl")
    pack(documents[:16], tokenizer, folder / "train.bin")
    return folder


def test_packed_documents_follow_an_end_of_text_each_and_fiction_comes_twice(data: Path) -> None:
    tokenizer: BPETokenizer = base.load_tokenizer(data / "tokenizer")
    ids = np.fromfile(data / "train.bin", np.uint16)
    pieces = np.split(ids, np.flatnonzero(ids == tokenizer.end_of_text_id))[1:]
    texts = [tokenizer.backend.decode(piece[1:].tolist()) for piece in pieces]
    assert len(texts) == 8 + 2 * 8 and len(set(texts)) == 16
    assert not {document.text for document in read_documents(data / "held_out.jsonl")} & set(texts)


def begin(data: Path, folder: Path, **more: object) -> argparse.Namespace:
    """What the command line would give, and a run of two small layers that has begun."""
    asked = argparse.Namespace(
        run=folder, data=data, size="2x32", positions=64, seed=1, start=None, block_size=32, blocks=4, matrix_rate=None,
        embedding_rate=None, rate=None, tokens=None, minutes=None, save_minutes=60, evaluate_minutes=60,
    )  # fmt: skip
    vars(asked).update(more)
    base.write_settings(asked)
    return asked


def go_on(asked: argparse.Namespace, n_steps: int) -> base.Run:
    """Open the run as its newest checkpoint has it, learn so many steps, save."""
    run = base.open_run(asked.run, compile="off")
    base.choose_leg(run.progress, asked)
    for _ in range(n_steps):
        run.step()
    base.save_checkpoint(run, asked.run)
    return run


def test_a_run_that_was_stopped_and_resumed_is_the_uninterrupted_one_bit_for_bit(data: Path, tmp_path: Path) -> None:
    whole = go_on(begin(data, tmp_path / "whole"), 6)
    asked = begin(data, tmp_path / "parts")
    for _ in range(3):
        parts = go_on(asked, 2)
    assert parts.progress.step == 6 and len(base.list_checkpoints(asked.run)) == 2
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, parts.model.state_dict()[name]), name
    other = go_on(begin(data, tmp_path / "other", seed=2), 6)
    assert not torch.equal(other.model.transformer.wte.weight, whole.model.transformer.wte.weight)


def test_longer_blocks_begin_a_new_leg_and_equal_ones_none(data: Path, tmp_path: Path) -> None:
    asked = begin(data, tmp_path / "run")
    go_on(asked, 2)
    asked.block_size, asked.blocks = None, None
    assert len(go_on(asked, 2).progress.legs) == 1
    asked.block_size, asked.blocks = 64, 2
    run = go_on(asked, 2)
    assert [(leg.first_step, leg.block_size) for leg in run.progress.legs] == [(0, 32), (4, 64)]
    assert run.progress.n_tokens == 6 * 128


def test_a_signal_saves_and_ends_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = begin(data, tmp_path / "run")
    run = base.open_run(asked.run, compile="off")
    base.choose_leg(run.progress, asked)
    step = run.step

    def step_and_interrupt(factor: float = 1.0) -> torch.Tensor:
        if run.progress.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return step(factor)

    monkeypatch.setattr(run, "step", step_and_interrupt)
    base.train(run, asked.run, asked)
    assert [path.stem for path in base.list_checkpoints(asked.run)] == ["00000003"]


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The tools take over two signals; afterwards they are as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_copy_is_finished_beside_the_run_and_is_a_stock_model(data: Path, tmp_path: Path) -> None:
    asked = begin(data, tmp_path / "run")
    before = go_on(asked, 3).model.state_dict()["transformer.wte.weight"].clone()
    run = base.open_run(asked.run, compile="off")
    base.finish(run, 0.05, tmp_path / "finished")
    assert run.optimizer.param_groups[0]["lr"] < 0.3 * run.leg.matrix_rate * run.progress.step / 100
    again = base.open_run(asked.run, compile="off")
    assert again.progress.step == 3 and torch.equal(again.model.state_dict()["transformer.wte.weight"], before)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "finished")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "finished")
    assert (tmp_path / "finished" / "model.safetensors").stat().st_mode & 0o444 == 0o444
    assert type(model).__name__ == "GPT2LMHeadModel" and model.dtype == torch.bfloat16
    assert tokenizer.decode(tokenizer("Shall I compare")["input_ids"]) == "Shall I compare"
    measured = base.evaluate_model(tmp_path / "finished", data)
    assert set(measured) == {"books", "fiction", "modern"} and 2 < measured["books"] < 9


def test_the_mean_of_two_finished_models_is_a_finished_model(data: Path, tmp_path: Path) -> None:
    asked = begin(data, tmp_path / "run")
    go_on(asked, 2)
    for name in ("first", "second"):
        base.finish(base.open_run(asked.run, compile="off"), 0.02, tmp_path / name)
    with torch.no_grad():
        second = AutoModelForCausalLM.from_pretrained(tmp_path / "second")
        second.transformer.ln_f.weight.fill_(3)
        second.save_pretrained(tmp_path / "second")
    base.average(tmp_path / "second", tmp_path / "first", data, tmp_path / "mean")
    scales = [
        AutoModelForCausalLM.from_pretrained(tmp_path / name).transformer.ln_f.weight for name in ("first", "mean")
    ]
    assert torch.allclose(scales[1], (scales[0] + 3) / 2, atol=0.02)
    facts = [json.loads((tmp_path / name / "facts.json").read_text("utf-8")) for name in ("first", "mean")]
    assert facts[1]["averaged_with"] == facts[0]["n_tokens"]
    assert facts[1]["bits_per_byte"] == base.evaluate_model(tmp_path / "mean", data)


def test_bits_per_byte_of_a_model_that_knows_nothing_are_those_of_a_uniform_guess(data: Path, tmp_path: Path) -> None:
    run = base.open_run(begin(data, tmp_path / "run").run, compile="off")
    for parameter in run.model.parameters():
        parameter.data.zero_()
    held_out = base.HeldOut(data, run.tokenizer, quick=False)
    found = held_out.measure(run.model, 32, torch.float32)
    stream = held_out.streams["books"]
    n_bytes = sum(len(one.text.encode()) for one in read_documents(data / "held_out.jsonl") if one.kind == "books")
    assert found["books"] == pytest.approx(np.log2(len(run.tokenizer)) * (len(stream) - 1) / n_bytes, abs=1e-3)


def test_what_a_gpu_does_in_minutes_works_in_miniature(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.pack_for_gpu(data, tmp_path / "packed", 200_000_000)
    n_bytes = sum(path.stat().st_size for path in (tmp_path / "packed").rglob("*"))
    assert n_bytes < 200_000
    base.unpack(tmp_path / "packed")
    assert (tmp_path / "packed" / "train.bin").read_bytes() == (data / "train.bin").read_bytes()
    asked = begin(tmp_path / "packed", tmp_path / "run")
    run = base.open_run(asked.run, compile="off")
    base.choose_leg(run.progress, asked)
    monkeypatch.setattr(base, "SHARD", "20KB")
    base.train_on_clock(run, 0.2, tmp_path / "out")
    assert run.progress.step > 3
    shards = list((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(model.transformer.h[1].mlp.c_fc.weight, run.model.transformer.h[1].mlp.c_fc.weight.bfloat16())


TABLE = """| source | repository | commit | licence | taken |
| --- | --- | --- | --- | --- |
| notes | somebody/notes (a, b) | 1234567 2026-01-01 | CC-BY 4.0 | posts |
| others | somebody/others | 1234567 2026-01-01 | MIT | posts |
"""


def test_a_finished_model_goes_into_the_package_with_a_card_that_gives_its_figures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = begin(data, tmp_path / "run")
    go_on(asked, 2)
    run = base.open_run(asked.run, compile="off")
    base.finish(run, 0.02, tmp_path / "finished")
    base.note(run, asked.run, base.HeldOut(data, run.tokenizer, quick=True), [], [])
    facts = {"n_tokens": 1_000, "n_documents": 16, "bytes": {"books": 2_000_000}}
    (data / "data.json").write_text(json.dumps(facts), "utf-8")
    place = tmp_path / "bases" / "new"
    place.mkdir(parents=True)
    (place / "profile.toml").write_text("automatic = true", "utf-8")
    bundle.copy_model(tmp_path / "finished", place, 8)
    assert json.loads((place / "config.json").read_text("utf-8"))["n_positions"] == 8
    assert AutoModelForCausalLM.from_pretrained(place).transformer.wpe.weight.shape == (8, 32)
    assert sorted(path.name for path in place.iterdir()) == sorted([*bundle.PARTS, "profile.toml"])
    finished, curve = tmp_path / "finished", asked.run / "curve.jsonl"
    learned = [
        Document(name="blogs/notes/1", kind="blogs", text=f"{PROSE}\n"),
        Document(name="a/1", kind="books", text="x"),
    ]
    write_documents(learned, tmp_path / "documents.jsonl")
    (tmp_path / "sources.md").write_text(TABLE, "utf-8")
    (place / bundle.KEPT).write_text(json.dumps({"texts": {"": ["#" * 60 + PROSE.replace("\n", " ")]}}), "utf-8")
    monkeypatch.setattr(bundle, "BASES_FOLDER", place.parent)
    more = {"documents": tmp_path / "documents.jsonl", "sources": tmp_path / "sources.md"}
    card = bundle.describe(argparse.Namespace(name="new", model=finished, curve=curve, context=8, **more))
    assert (
        f"| notes | somebody/notes | CC-BY 4.0 | 1 | {len(PROSE) / 1e6:.2f} |" in card and "somebody/others" not in card
    )
    assert f"{100 * len(PROSE) / (60 + len(PROSE)):.2f} % stands there" in card
    assert f"the longest passage has {len(PROSE)} characters" in card
    measured = json.loads((tmp_path / "finished" / "facts.json").read_text("utf-8"))["bits_per_byte"]
    assert "2 layers, 32 wide" in card and f"| books | {measured['books']:.3f} |" in card
    assert f"| {run.progress.n_tokens:,} |" in card and "--base new" in card


def test_words_of_several_documents_are_listed(tmp_path: Path) -> None:
    documents = [
        "The whale, the WHALE!",
        "a whale",
        "one Whale",
        "whale",
        "whale oil",
        *["The oil" + " zzyx" * 9] * 4,
        "x" * 40,
    ]
    place, shared = tmp_path / "new", tmp_path / "words.txt"
    place.mkdir()
    bundle.write_words(documents, place)
    assert (place / "words.txt").read_text().split("\n") == ["oil", "the", "whale"]
    assert read_words(place) == ("oil", "the", "whale") and read_words(tmp_path / "another") == ()
    shared.write_text("oil\nthe\nwhale")
    bundle.write_words(documents, place)
    assert not (place / "words.txt").exists() and read_words(place) == ("oil", "the", "whale")


def test_a_short_word_is_listed_if_it_is_common_by_itself(tmp_path: Path) -> None:
    common, rare = ["We'll see it: a TV, the 4th n, e.g. x, in-or-ut"] * 20, ["pqr uv"] * 5
    bundle.write_words([*common, *rare, *["longer"] * 6_000], tmp_path)
    assert read_words(tmp_path) == ("a", "it", "ll", "longer", "see", "the", "we")
