"""A model that has a teacher learns from its predictions as well, and is shown and kept like any other."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import GPT2LMHeadModel

import epigone
from epigone import pipeline
from epigone.distillation import can_teach, check_two_runs, plan_second
from epigone.errors import SettingsError
from epigone.model.loss import TEACHER_SHARE, NextTokenLoss
from epigone.model.size import Shape, make_shape
from epigone.planning.defaults import choose_dropout, choose_larger
from epigone.runs.folder import RunFolder
from epigone.tokens.tokenizer import load_tokenizer
from epigone.training.events import Finished
from epigone.training.trainer import Trainer
from helpers_front import Outcome, command, hash_one, shared_run, workshop, write_sonnets
from helpers_plan import change
from test_forward import assert_equal, list_gradients, make_batch, make_model

FLAGS = ("--size", "1x32", "--epochs", "4", "--batch-size", "4", "--samples", "0", "--precision", "fp32")


def make_teacher() -> GPT2LMHeadModel:
    """One that predicts otherwise, is of another size, and would drop a half."""
    return make_model(n_layer=1, n_embd=32, resid_pdrop=0.5, embd_pdrop=0.5)


def look_up(model: GPT2LMHeadModel, teacher: GPT2LMHeadModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Both losses and the gradients of the first, by transformers."""
    ids, targets = make_batch()
    model.zero_grad()
    with torch.no_grad():
        hints = teacher.eval()(input_ids=ids).logits.flatten(0, 1).softmax(-1)
    logits = model(input_ids=ids).logits.flatten(0, 1)
    nats = functional.cross_entropy(logits, targets.flatten())
    both = (1 - TEACHER_SHARE) * nats - TEACHER_SHARE * (hints * logits.log_softmax(-1)).sum(-1).mean()
    both.backward()
    return torch.stack((both, nats)).detach(), list_gradients(model)


def compute(model: GPT2LMHeadModel, teacher: GPT2LMHeadModel, **how: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    model.zero_grad()
    losses = NextTokenLoss(model, teacher=teacher, **how)(*make_batch())
    losses.objective.backward()
    return torch.stack(losses).detach(), list_gradients(model)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_it_learns_from_the_text_and_from_the_teachers_predictions(attention: str) -> None:
    model, teacher = make_model(), make_teacher()
    assert_equal(compute(model, teacher, attention=attention), look_up(model, teacher), 1e-5)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_variant_of_gpt2_learns_so_too() -> None:
    model, teacher = make_model(activation_function="relu"), make_teacher()
    assert_equal(compute(model, teacher), look_up(model, teacher), 1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("compile", [pytest.param("layers", marks=pytest.mark.slow), "full"])
def test_compiled_it_is_the_same(compile: str) -> None:
    model, teacher = make_model(), make_teacher()
    assert_equal(compute(model, teacher, attention="eager", compile=compile), look_up(model, teacher), 1e-5)


# -- as a command


def train(text: Path, out: Path, *flags: str | Path) -> Outcome:
    return command("train", text, "--out", out, *FLAGS, *flags)


@cache
def text() -> Path:
    return write_sonnets(workshop(), 6_000, "taught.txt")


@cache
def teacher() -> Path:
    assert train(text(), workshop() / "teacher", "--base", "none", "--block-size", "32").code == 0
    return workshop() / "teacher"


@cache
def taught() -> tuple[Path, Outcome]:
    outcome = train(text(), workshop() / "taught", "--teacher", teacher(), "--dropout", "0.1")
    assert outcome.code == 0
    return workshop() / "taught", outcome


def read_plan(run: Path) -> Any:
    return RunFolder(run).read_manifest().plan


def test_it_has_the_teachers_tokenizer_and_block_and_other_random_numbers() -> None:
    run, outcome = taught()
    ours, theirs = load_tokenizer(run / "model"), load_tokenizer(teacher() / "model")
    assert ours.backend.to_str() == theirs.backend.to_str()
    plan, other = read_plan(run), read_plan(teacher())
    assert (plan.batch.block_size, plan.model.shape) == (32, other.model.shape)
    assert plan.seed != other.seed
    assert "its predictions count as much as the text" in outcome.out and plan.teacher == str(teacher())


def test_the_training_loss_that_is_shown_is_that_of_the_text() -> None:
    """From the same weights, without dropout, the first step's loss is the same with and without a teacher."""
    preparation = pipeline.plan(
        text(), size="1x32", epochs=4.0, batch_size=4, samples=0, dropout=0.0, teacher=str(teacher())
    )
    losses = []
    for known in (None, preparation.teacher):
        assert preparation.teacher is not None
        learner = Trainer(deepcopy(preparation.model), preparation.tokens, preparation.plan, teacher=known)
        losses.append((learner.gradients.add(0).item(), learner.model.transformer.wte.weight.grad.clone()))
    (alone, gradient), (together, other) = losses
    assert together == pytest.approx(alone, rel=1e-6)
    assert not torch.allclose(gradient, other)


def test_less_is_dropped_than_without() -> None:
    flags = {"size": "4x128", "epochs": 40.0, "samples": 0}
    alone = pipeline.plan(
        text(), base="none", block_size=32, vocab_size=read_plan(teacher()).model.shape.vocab_size, **flags
    )
    with_one = pipeline.plan(text(), teacher=str(teacher()), **flags)
    assert with_one.plan.model.dropout == pytest.approx(alone.plan.model.dropout / 2, abs=0.006)
    assert alone.plan.model.dropout > 0.1


def test_it_goes_on_where_it_stopped_though_its_teacher_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "teacher"
    shutil.copytree(teacher(), gone)
    settings = {"size": "1x32", "epochs": 4.0, "batch_size": 4, "samples": 0, "precision": "fp32", "dropout": 0.1}
    asked, stops = epigone.TrainSettings(**settings, teacher=str(gone)), iter([False] * 30 + [True] * 9)
    *_, last = pipeline.run_training([str(text())], asked, tmp_path / "run", should_stop=lambda: next(stops))
    assert isinstance(last, Finished) and last.reason == "interrupted"
    shutil.rmtree(gone)
    epigone.resume(tmp_path / "run")
    whole, ours = (load_file(run / "model" / "model.safetensors") for run in (taught()[0], tmp_path / "run"))
    assert all(torch.equal(whole[name], ours[name]) for name in whole)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_teacher_that_is_not_what_it_was_is_refused(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(taught()[0], run)
    file = run / "teacher" / name
    file.write_bytes(file.read_bytes()[:-1])
    outcome = command("resume", run, "--epochs", "5")
    assert outcome.code == 2 and f"teacher/{name} is not what was written" in outcome.err
    file.unlink()
    assert f"teacher/{name} is missing" in command("resume", run, "--epochs", "5").err


def test_a_teacher_is_suggested_after_many_passes(tmp_path: Path) -> None:
    """Not after a few passes, not in the middle, and not where there was a teacher already."""
    plan = read_plan(teacher())
    often = change(plan, epochs=40.0)
    assert can_teach(often, "done") and can_teach(often, "patience")
    assert not can_teach(often, "interrupted") and not can_teach(often, "time") and not can_teach(plan, "done")
    assert not can_teach(change(often, base="small"), "done")
    assert not can_teach(change(often, teacher="runs/first"), "done")
    outcome = train(text(), tmp_path / "run", "--base", "none", "--block-size", "256", "--epochs", "20")
    assert f"--teacher {tmp_path / 'run'}" in outcome.out and "--teacher" not in taught()[1].out


def refuse(tmp_path: Path, *flags: str | Path, of: Path | None = None) -> str:
    outcome = train(of or text(), tmp_path / "run", *flags)
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert not (tmp_path / "run" / "run.json").exists()
    return " ".join(outcome.err.split())


def test_one_that_may_know_what_is_held_out_is_refused(tmp_path: Path) -> None:
    for of, flags in (
        (write_sonnets(tmp_path, 5_000), ()),
        (None, ("--split", "tail")),
        (None, ("--validation", "0.2")),
        (None, ("--validation", write_sonnets(tmp_path, 3_000, "held.txt"))),
    ):
        said = refuse(tmp_path, "--teacher", teacher(), *flags, of=of)
        assert "it may know what is held out here" in said and "Give the same text" in said


def test_what_does_not_go_with_a_teacher_is_refused(tmp_path: Path) -> None:
    size = read_plan(teacher()).model.shape.vocab_size
    assert "holds no run" in refuse(tmp_path, "--teacher", tmp_path)
    assert "does not exist" in refuse(tmp_path, "--teacher", "nowhere")
    assert "starts from small" in refuse(tmp_path, "--teacher", teacher(), "--base", "small")
    assert f"has {size:,} entries" in refuse(tmp_path, "--teacher", teacher(), "--vocab-size", str(size + 1))
    assert "more than the 32 tokens" in refuse(tmp_path, "--teacher", teacher(), "--block-size", "64")


def test_one_that_was_tuned_is_refused(tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(teacher(), tuned)
    record = json.loads((tuned / "run.json").read_text("utf-8"))
    record["plan"]["model"]["base"] = "small"
    (tuned / "sums.json").unlink()
    (tuned / "run.json").write_text(json.dumps(record), "utf-8")
    assert "that one starts from small" in refuse(tmp_path, "--teacher", tuned)


def test_one_without_its_weights_is_refused(tmp_path: Path) -> None:
    spoiled = tmp_path / "spoiled"
    shutil.copytree(teacher(), spoiled)
    (spoiled / "model" / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refuse(tmp_path, "--teacher", spoiled)


def test_what_learned_so_writes_and_is_a_stock_model() -> None:
    run = taught()[0]
    assert command("write", run, "--length", "5", "--seed", "1").code == 0
    assert GPT2LMHeadModel.from_pretrained(run / "model").num_parameters() == read_plan(run).model.n_parameters
    assert shared_run().folder.read_manifest().plan.teacher == ""


def test_its_card_and_its_page_say_so() -> None:
    for file in ("model/README.md", "report.html"):
        ours, theirs = (" ".join((run / file).read_text("utf-8").split()) for run in (taught()[0], teacher()))
        assert "trained from scratch and distilled from another model" in ours
        assert "trained from scratch" in theirs and "another model" not in theirs


# -- two runs in one command


def two_runs(folder: Path, *flags: str | Path, of: Path | None = None) -> Outcome:
    return train(of or text(), folder, "--teacher", "self", "--base", "none", "--block-size", "32", *flags)


def weights_of(run: Path) -> str:
    return hash_one(run / "model" / "model.safetensors")


@cache
def twice() -> tuple[Path, Outcome]:
    outcome = two_runs(workshop() / "twice", "--dropout", "0.1")
    assert outcome.code == 0, outcome.err
    return workshop() / "twice", outcome


def test_one_command_makes_what_two_make(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(text(), first, "--base", "none", "--block-size", "32", "--dropout", "0.1").code == 0
    assert train(text(), second, "--teacher", first, "--dropout", "0.1").code == 0
    run = twice()[0]
    assert weights_of(run / "first") == weights_of(first) and weights_of(run) == weights_of(second)
    assert hash_one(run / "teacher" / "model.safetensors") == weights_of(first)


def test_both_runs_are_shown_and_reported() -> None:
    run, outcome = twice()
    bits = epigone.open_run(run / "first").best.bits_per_byte
    assert "Plan of the first of two runs" in outcome.out
    assert "Plan of the second of two runs, which learns from the first" in outcome.out
    for page in (outcome.out, (run / "report.html").read_text("utf-8")):
        assert f"its first run, in first/, reached {bits:.3f} bits per byte" in " ".join(page.split())
    assert "distilled from a first run on the same text" in " ".join((run / "report.html").read_text("utf-8").split())
    assert RunFolder(run).read_settings().teacher == "self" and read_plan(run).teacher == "self"
    assert "To write with it: epigone write" in outcome.out and f"{run / 'first'} --prompt" not in outcome.out
    plan = command("plan", text(), "--teacher", "self", "--base", "none", "--samples", "0")
    assert plan.code == 0 and "the plan of the first of two runs" in " ".join(plan.out.split())


@pytest.mark.parametrize("n_steps", [30, 160], ids=["in the first", "in the second"])
def test_both_go_on_where_they_stopped_wherever_they_are_then(tmp_path: Path, n_steps: int) -> None:
    """The text is gone, too: the second run has the tokens of the first."""
    copy = tmp_path / "text.txt"
    shutil.copy(text(), copy)
    how = {"size": "1x32", "epochs": 4.0, "batch_size": 4, "samples": 0, "precision": "fp32", "dropout": 0.1}
    asked = epigone.TrainSettings(**how, teacher="self", base="none", block_size=32)
    stops = iter([False] * n_steps + [True] * 9)
    *_, last = pipeline.run_training([str(copy)], asked, tmp_path / "run", should_stop=lambda: next(stops))
    assert isinstance(last, Finished) and last.reason == "interrupted"
    copy.unlink()
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    is_in_first = not (moved / "run.json").exists()
    assert is_in_first == (n_steps == 30)
    if is_in_first:
        assert "in the first of its two runs" in command("resume", moved, "--epochs", "5").err
        assert "goes on with it" in " ".join(command("write", moved).err.split())
        assert "already holds a run" in two_runs(moved).err
    assert command("resume", moved).code == 0
    assert weights_of(moved) == weights_of(twice()[0]) and weights_of(moved / "first") == weights_of(
        twice()[0] / "first"
    )


def test_a_text_from_standard_input_is_read_once(tmp_path: Path) -> None:
    flags = (*FLAGS, "--teacher", "self", "--base", "none", "--block-size", "32", "--dropout", "0.1")
    outcome = command("train", "-", "--out", tmp_path / "run", *flags, stdin=text().read_bytes())
    assert outcome.code == 0, outcome.err
    assert weights_of(tmp_path / "run") == weights_of(twice()[0])


def test_the_minutes_are_for_both(tmp_path: Path) -> None:
    assert two_runs(tmp_path / "run", "--minutes", "0.02", "--epochs", "4000").code == 0
    first, second = (read_plan(run).schedule.minutes for run in (tmp_path / "run" / "first", tmp_path / "run"))
    seconds = RunFolder(tmp_path / "run" / "first").read_events()[-1].seconds
    assert first == pytest.approx(0.02 * 3 / 7)
    assert second == pytest.approx(max(0.02 - seconds / 60, 0.02 * 2 / 7))
    assert command("resume", tmp_path / "run", "--epochs", "4001").code == 0
    assert read_plan(tmp_path / "run").schedule.minutes == second


def plan_both(**asked: Any) -> tuple[Any, Any]:
    """The plans of two runs over 100 KB, of which the first took six seconds; the tokens are those of a short text."""
    settings = epigone.TrainSettings(teacher="self", base="none", block_size=32, **asked)
    first = pipeline.plan(text(), base="none", block_size=32, samples=0, **{"epochs": 20.0, **asked}).plan
    return first, plan_second(first, settings, 100_000, 6.0, 2.0)


def test_the_second_is_larger_where_the_text_is_read_often() -> None:
    first, second = plan_both()
    assert (first.model.shape.n_embd, second.model.shape.n_embd) == (64, 128)
    larger = choose_dropout(20, second.model.n_parameters / 100_000).value
    assert second.model.dropout == pytest.approx(larger / 2, abs=0.006) and larger > 0.1
    assert "larger than its teacher" in second.reasons["size"] and second.batch == first.batch
    assert second.model.shape.vocab_size == first.model.shape.vocab_size


def test_the_second_is_as_large_as_the_first_where_that_was_asked_for_or_passes_are_few() -> None:
    for asked in ({"size": "2x64"}, {"epochs": 10.0}):
        first, second = plan_both(**asked)
        assert first.model.shape == second.model.shape


def test_a_larger_size_follows_the_smallest_unless_it_would_overfit() -> None:
    def choose(size: str, n_bytes: int, passes: float) -> Shape | None:
        return choose_larger(make_shape(size, block_size=64, vocab_size=512), n_bytes, passes)

    assert choose("2x64", 100_000, 36) == make_shape("2x128", block_size=64, vocab_size=512)
    assert choose("2x64", 50_000, 36) is choose("2x64", 100_000, 60) is None
    assert choose("2x128", 300_000, 25) is choose("3x96", 9_000_000, 15) is None


def test_it_is_larger_only_where_the_minutes_are_enough() -> None:
    first, asked = plan_both()[0], epigone.TrainSettings(teacher="self", base="none", minutes=10.0)
    for seconds, width, minutes in ((60.0, 128, 9.0), (240.0, 64, 6.0), (599.0, 64, 20 / 7)):
        second = plan_second(first, asked, 100_000, seconds, 2.0)
        assert (second.model.shape.n_embd, second.schedule.minutes) == (width, pytest.approx(minutes))


@pytest.mark.slow
def test_a_larger_second_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    how = {"teacher": "self", "base": "none", "block_size": 32, "epochs": 15.0, "samples": 0, "precision": "fp32"}
    asked, sonnets = epigone.TrainSettings(**how), write_sonnets(tmp_path, 40_000)
    for name, n_steps in (("whole", 10_000), ("stopped", 190)):
        stops = iter([False] * n_steps + [True] * 9)
        *_, last = pipeline.run_training([str(sonnets)], asked, tmp_path / name, should_stop=partial(next, stops))
    assert isinstance(last, Finished) and last.reason == "interrupted" and (tmp_path / "stopped" / "run.json").exists()
    assert command("resume", tmp_path / "stopped").code == 0
    assert read_plan(tmp_path / "stopped").model.shape.n_embd == 128
    assert weights_of(tmp_path / "stopped") == weights_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_bundled_base_can_be_tuned_so(tmp_path: Path) -> None:
    flags = ("--epochs", "0.3", "--samples", "0", "--precision", "fp32", "--teacher", "self", "--base", "small")
    outcome = command("train", write_sonnets(tmp_path, 2_000), "--out", tmp_path / "run", *flags)
    assert outcome.code == 0, outcome.err
    plan, first = read_plan(tmp_path / "run"), read_plan(tmp_path / "run" / "first")
    assert plan.model.base == first.model.base == "small" and plan.teacher == "self" and not first.teacher


def test_two_runs_are_refused_where_they_cannot_be_made(tmp_path: Path) -> None:
    said = refuse(tmp_path, "--teacher", "self", "--lora", "4", "--base", "small")
    assert "--teacher self does not go with --lora" in said
    with pytest.raises(SettingsError, match="two runs in one process, and there are 2"):
        check_two_runs(epigone.TrainSettings(teacher="self"), 2)
    (tmp_path / "runs").mkdir()
    shutil.copytree(twice()[0] / "first", tmp_path / "runs" / "first")  # a folder of runs is not a run
    assert "holds neither a run nor a model" in command("write", tmp_path / "runs").err
    missing = command("train", tmp_path / "none.txt", "--out", tmp_path / "other", "--teacher", "self")
    assert missing.code == 2 and not (tmp_path / "other").exists()
