"""A run's folder holds what it should, the best model among it, and can be taken elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from epigone.model.gpt2 import load_model
from epigone.runs.folder import RunFolder
from epigone.training.distributed import make_accelerator
from epigone.training.evaluate import evaluate
from helpers_front import (
    TINY,
    command,
    shared_run,
    sonnets,
    write_sonnets,
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_sonnets(tmp_path)


def test_a_run_holds_everything_that_the_design_lists() -> None:
    run = shared_run().path
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    model = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json", "README.md", "curves.png")
    assert {
        "settings.toml",
        "run.json",
        "receipt.json",
        "metrics.jsonl",
        "curves.png",
        "curves.svg",
        "report.html",
    } <= there
    assert {f"model/{name}" for name in model} <= there
    (tokens,) = (run / "tokens").iterdir()
    assert {path.name for path in tokens.iterdir()} == {"tokens.json", "train.npy", "validation.npy"}
    assert any(re.fullmatch(r"checkpoints/step-\d{6}/manifest.json", name) for name in there)
    assert sum(name.startswith("samples/epoch-") for name in there) == len(shared_run().evaluations)
    leftovers = [name for name in there if name.endswith((".tmp", ".partial"))]
    assert leftovers == []


def test_the_card_has_one_row_for_each_evaluation() -> None:
    card = (shared_run().folder.model / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \**(\d+\.\d\d)\** \| \**([\d,]+)\** \|", card, re.M)
    assert rows == [(f"{item.epoch:.2f}", f"{item.step:,}") for item in shared_run().evaluations]
    assert card.count("**best**") == 1


def test_the_card_names_the_text_and_no_folder_of_this_machine() -> None:
    card = (shared_run().folder.model / "README.md").read_text("utf-8")
    assert "sonnets.txt" in card and str(shared_run().path.parent) not in card


def test_the_model_loads_without_us() -> None:
    folder = shared_run().folder.model
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = sonnets(1_000)
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text
    block = ids[:, : model.config.n_positions]
    assert model(input_ids=block, labels=block).loss < 5.3  # guessing among its 320 entries costs 5.8


def evaluate_kept_model(run: Path) -> float:
    folder = RunFolder(run)
    plan = folder.read_manifest().plan
    model = load_model(folder.model)
    accelerator = make_accelerator(plan.compute)
    held_out = folder.load_tokens().validation
    return evaluate(
        model, held_out, block_size=plan.batch.block_size, batch_size=plan.batch.batch_size, accelerator=accelerator
    ).loss


def test_the_kept_weights_are_those_of_the_best_evaluation() -> None:
    best = shared_run().best
    assert best is not None and evaluate_kept_model(shared_run().path) == pytest.approx(best.loss, abs=1e-3)


def learn_what_does_not_help(folder: Path, *flags: str) -> dict[str, list[dict[str, float]]]:
    """Train on the sonnets and test on sonnets read backwards: soon every epoch is worse than the one before."""
    text, backwards = write_sonnets(folder), folder / "backwards.txt"
    backwards.write_text(sonnets(8_000)[5_500:][::-1], "utf-8")
    how = ["--size", "1x64", "--base", "none", "--learning-rate", "0.02", "--schedule", "constant", "--dropout", "0"]
    how += ["--samples", "0", "--precision", "fp32", "--batch-size", "4", "--validation", str(backwards)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "epigone.report.curves.draw_curves", lambda *_, **__: []
        )  # as many drawings as epochs take longer
        outcome = command("train", text, *how, *flags, "--json", "--out", folder / "run")
    found: dict[str, list[dict[str, float]]] = json.loads(outcome.out)
    return found


def test_a_later_and_worse_epoch_is_not_kept(tmp_path: Path) -> None:
    found = learn_what_does_not_help(tmp_path, "--epochs", "18", "--patience", "none")
    losses = [item["loss"] for item in found["evaluations"]]
    assert losses[-1] > min(losses) + 0.2, "no epoch was worse, so nothing is shown"
    assert evaluate_kept_model(tmp_path / "run") == pytest.approx(min(losses), abs=1e-3)
    best = found["evaluations"][losses.index(min(losses))]
    assert f"| **{best['epoch']:.2f}** |" in (tmp_path / "run" / "model" / "README.md").read_text("utf-8")


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    found = learn_what_does_not_help(tmp_path, "--epochs", "60", "--patience", "3")
    losses = [item["loss"] for item in found["evaluations"]]
    assert found["reason"] == "patience" and losses.index(min(losses)) == len(losses) - 4


def test_a_run_can_be_moved(tmp_path: Path, text: Path) -> None:
    command("train", text, *TINY, "--quiet", "--out", tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert command("write", tmp_path / "there", "--length", "3", "--quiet").code == 0
    assert command("resume", tmp_path / "there", "--epochs", "2", "--quiet").code == 0


def test_a_run_is_named_after_its_text(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("train", text, *TINY, "--quiet").code == 0
    assert (tmp_path / "runs" / "text" / "model" / "model.safetensors").exists()


def test_training_leaves_the_threads_as_they_were(text: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    command("train", text, *TINY, "--quiet", "--out", tmp_path / "run")
    assert torch.get_num_threads() == before
