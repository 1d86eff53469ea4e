"""A run is a base too: it is tuned further as the base that it came from is tuned, and mixed with what came of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import epigone
from epigone.evaluation.judge import Author, measure_learning
from epigone.generation.known_words import choose_words
from epigone.mixing import open_mixture
from epigone.model.base_profile import BASES, find_profile, find_root
from epigone.model.hub import find_base
from epigone.planning.defaults import PASSES_AGAIN, RATE_AGAIN, choose_epochs
from epigone.runs.folder import RunFolder
from epigone.serving.library import ServedModel
from epigone.serving.overview import describe_model
from helpers_front import command, shared_run, sonnets


def make_run(folder: Path, base: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"plan": {"model": {"base": base}}}), "utf-8")
    return folder


def test_a_run_has_the_profile_of_the_base_that_it_was_tuned_from(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "small")
    two = make_run(tmp_path / "two", str(one))
    for place in (one, one / "model", two, two / "model"):
        assert find_root(str(place)) == "small"
        assert find_profile(str(place)) is BASES["small"]
        assert choose_epochs(str(place), 50_000) == choose_epochs("small", 50_000)
        assert choose_words(str(place)) == "known"
    assert find_profile(str(make_run(tmp_path / "new", "none"))) is None
    assert choose_words(str(tmp_path / "new")) == "known"
    assert find_profile("gpt2") is None
    assert choose_words("gpt2") == "any"


def test_runs_that_name_each_other_and_folders_of_other_things_have_no_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_run(tmp_path / "one", str(tmp_path / "two"))
    make_run(tmp_path / "two", str(one))
    assert find_profile(str(one)) is None
    (tmp_path / "two" / "run.json").write_text("[]", "utf-8")
    assert find_profile(str(one)) is None
    monkeypatch.chdir(make_run(tmp_path / "here", "small"))
    assert find_profile("gpt2") is None  # whatever run the working folder is


def test_a_base_that_was_moved_with_a_run_is_found_beside_it_or_around_it(tmp_path: Path) -> None:
    around = make_run(tmp_path / "around", "small")
    (around / "voices").mkdir()
    beside = make_run(tmp_path / "one", "none")
    for run, base in ((make_run(tmp_path / "two", "/gone/one"), beside), (around / "voices" / "a", around)):
        assert RunFolder(make_run(run, f"/gone/{base.name}")).read_model_facts().base == str(base)
    assert RunFolder(make_run(tmp_path / "three", "/gone/else")).read_model_facts().base == "/gone/else"


def test_what_was_learned_is_compared_with_the_base_and_not_with_a_run_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, record = shared_run(), tmp_path / "run" / "run.json"
    monkeypatch.setitem(BASES, "theirs", BASES["small"].model_copy(update={"folder": own.path / "model"}))
    shutil.copytree(own.path, record.parent)
    manifest = json.loads(record.read_text("utf-8"))
    manifest["plan"]["model"]["base"] = str(make_run(tmp_path / "between", "theirs"))
    record.write_text(json.dumps(manifest), "utf-8")
    folder = RunFolder.open(record.parent)
    author = Author(name="x", documents=folder.read_documents(), held_out=folder.read_held_out())
    best = own.best
    assert best is not None
    found = measure_learning(folder, author, best.bits_per_byte, 9.9, device="cpu")
    assert found.base == pytest.approx(best.bits_per_byte, rel=1e-3)


def test_runs_of_one_base_can_be_mixed_on_the_page(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", "small")
    assert {
        describe_model(ServedModel(name="x", kind="run", folder=run))["base"]
        for run in (first, make_run(tmp_path / "second", str(first)))
    } == {"small"}


def test_a_text_that_the_base_has_read_is_learned_more_gently(tmp_path: Path) -> None:
    run, known, other = shared_run(), tmp_path / "known.txt", tmp_path / "other.txt"
    known.write_text(sonnets(12_000), "utf-8", newline="")
    other.write_text(sonnets(13_000), "utf-8", newline="")
    again, new = (epigone.plan(text, base=str(run.path), samples=0).plan for text in (known, other))
    before = run.folder.read_manifest().plan.optimizer
    assert again.optimizer.name == before.name == "muon"
    assert again.optimizer.learning_rate == pytest.approx(RATE_AGAIN * before.learning_rate)
    assert again.schedule.epochs == PASSES_AGAIN * new.schedule.epochs
    assert "has read this text" in again.reasons["learning_rate"]
    assert new.optimizer.name == "adamw"
    asked = epigone.plan(known, base=str(run.path), samples=0, learning_rate=1e-4, epochs=9, optimizer="adamw").plan
    assert (asked.optimizer.name, asked.optimizer.learning_rate, asked.schedule.epochs) == ("adamw", 1e-4, 9)


def test_a_run_is_tuned_further_and_mixed_with_what_came_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, first = tmp_path / "text.txt", shared_run()
    text.write_text(sonnets(14_000)[2_000:], "utf-8")
    assert find_base(str(first.path)).folder == first.path / "model"
    monkeypatch.chdir(first.path.parent)
    how = ("--epochs", "0.4", "--batch-size", "16", "--samples", "0", "--quiet")
    done = command("train", text, "--base", first.path.name, "--out", tmp_path / "run", *how)
    assert done.code == 0, done.err
    run = epigone.open_run(tmp_path / "run")
    assert run.folder.read_model_facts().base == str(first.path)
    before, after = run.evaluations[0], run.best
    assert after is not None
    assert before.step == 0
    assert before.loss == pytest.approx(first.best.loss, rel=0.2)  # type: ignore[union-attr]
    assert after.loss <= before.loss
    assert open_mixture(run.path, [f"{first.path}:0.5"]).mix_weights() is not None
    assert run.write("Shall", length=5, guidance=1.5, words="any")
