"""Runs are found by name or by age, and listed with what is known of them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from epigone.cli.runs import describe_age, find_model, format_size
from epigone.model.weights import read_weights
from epigone.runs.listing import find_change, list_runs, read_overview
from helpers_front import command, shared_run

EVALUATED = {
    **{"event": "evaluated", "training_loss": 4.0, "accuracy": 0.3, "perplexity": 60.0, "bits_per_byte": 1.9},
    **{"n_tokens": 100, "learning_rate": 1e-4, "seconds": 5.0, "best": True},
}
FINISHED = {
    **{"event": "finished", "step": 20, "epoch": 2.0, "reason": "done", "best_step": 20, "best_epoch": 2.0},
    **{"best_loss": 3.5, "seconds": 5.0},
}


def make_run(path: Path, *lines: object, age: float = 0.0) -> Path:
    """The files that a list reads, as of a run on which nothing has been done for `age` seconds."""
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"plan": {"model": {"base": "modern"}}}), "utf-8")
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    os.utime(path / "metrics.jsonl", (time.time() - age,) * 2)
    return path


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trained run that is an hour old, a stopped one without a model, and something else."""
    (tmp_path / "runs" / "notes").mkdir(parents=True)
    (tmp_path / "runs" / "novel").symlink_to(shared_run().path.resolve())
    make_run(tmp_path / "runs" / "young", age=-60)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_listed_with_its_best_loss_its_base_and_its_state(tmp_path: Path) -> None:
    evaluations = [
        {**EVALUATED, "step": step, "epoch": step / 10, "loss": loss} for step, loss in ((10, 4.0), (20, 3.5))
    ]
    worse = {**EVALUATED, "step": 30, "epoch": 3.0, "loss": 3.9, "best": False}
    make_run(tmp_path / "done", *evaluations, worse, FINISHED, age=7_200)
    make_run(tmp_path / "busy", evaluations[0])
    make_run(tmp_path / "ended", evaluations[0], age=1_000)
    make_run(tmp_path / "cut", evaluations[0], {**FINISHED, "reason": "interrupted"}, age=500)
    runs = list_runs(tmp_path)
    assert [run.path.name for run in runs] == ["busy", "cut", "ended", "done"]
    assert [run.state for run in runs] == ["learning", "stopped", "stopped", "finished"]
    assert [run.best.loss for run in runs if run.best] == [4.0, 4.0, 4.0, 3.5]
    assert {run.base for run in runs} == {"modern"} and not any(run.has_model for run in runs)


def test_what_a_crash_undid_is_not_the_best(tmp_path: Path) -> None:
    lost = {**EVALUATED, "step": 20, "epoch": 2.0, "loss": 1.0}
    resumed = {"event": "started", "format": 2, "step": 10, "n_steps": 20, "epochs": 2.0, "resumed": True}
    run = make_run(tmp_path / "run", {**EVALUATED, "step": 10, "epoch": 1.0, "loss": 4.0}, lost, resumed)
    best = read_overview(run).best
    assert best is not None and best.loss == 4.0


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"plan": 3}', b"\xff\xfe", b'{"event": "evaluated", "loss": "x"}']
)
def test_damaged_files_leave_gaps_in_the_list(tmp_path: Path, content: bytes) -> None:
    run = make_run(tmp_path / "run")
    for name in ("run.json", "metrics.jsonl", "judgement.json", "sums.json"):
        (run / name).write_bytes(content)
    (run / "model").mkdir()
    (run / "model" / "model.safetensors").write_bytes(content)
    found = read_overview(run)
    assert (found.base, found.n_parameters, found.best, dict(found.grades)) == (None, None, None, {})
    assert found.has_model


def test_the_size_is_that_of_the_model() -> None:
    run = shared_run()
    tensors = read_weights(Path(run.path) / "model", "cpu").tensors
    assert read_overview(Path(run.path)).n_parameters == sum(one.numel() for one in tensors.values())


def test_only_the_verdicts_on_the_present_weights_are_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    judgement = {"model_sha256": "abc", "copies": {"grade": "good"}, "repeats": {"grade": "odd"}, "learned": {}}
    (run / "judgement.json").write_text(json.dumps(judgement), "utf-8")
    for known, grades in (("abc", {"copies": "good"}), ("def", {})):
        (run / "sums.json").write_text(json.dumps({"model/model.safetensors": [known, "abc"]}), "utf-8")
        assert read_overview(run).grades == grades


def test_judging_a_run_does_not_make_it_the_newest(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", age=1_000)
    before = find_change(run)
    (run / "judgement.json").write_text("{}", "utf-8")
    assert find_change(run) == before


def test_the_list_names_each_run_and_says_the_same_as_json(desk: Path) -> None:
    shown, runs = command("list"), json.loads(command("list", "--json").out)["runs"]
    lines = shown.out.splitlines()
    assert shown.code == 0 and [line.split()[0] for line in lines] == ["run", "young", "novel"]
    best = min(item.loss for item in shared_run().evaluations)
    assert f"{best:.3f}" in lines[2] and runs[1]["loss"] == pytest.approx(best)
    assert ("does not copy" in lines[2]) == (runs[1]["verdicts"].get("copies") == "good")
    assert [(run["run"], run["has_model"]) for run in runs] == [("runs/young", False), ("runs/novel", True)]


def test_without_runs_the_list_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command("list")
    assert outcome.code == 0 and "epigone train TEXT" in outcome.out
    assert json.loads(command("list", "--json").out) == {"runs": []}


def test_a_name_of_a_run_cannot_steer_the_terminal(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a\x1b[2Jb\nc")
    assert "\x1b" not in command("list", tmp_path / "runs").out


def test_without_a_run_the_newest_that_can_write_is_used(desk: Path) -> None:
    named, newest = command("write", "novel", "-l", "5"), command("write", "-l", "5")
    assert newest.out == named.out and newest.err == "Using the newest run: runs/novel\n" and named.err == ""
    assert command("write", "-l", "5", "--quiet").err == ""
    assert json.loads(command("write", "-l", "5", "--json").out)["texts"]


def test_a_run_is_found_where_the_texts_are_in_a_folder_of_its_name(desk: Path) -> None:
    (desk / "novel").mkdir()
    (desk / "novel" / "chapter.txt").write_text("It was.", "utf-8")
    assert find_model("novel") == "runs/novel"


def test_a_prompt_is_not_taken_for_a_run(desk: Path) -> None:
    expected = command("write", "novel", "-l", "5", "-p", "From fairest").out
    assert command("write", "From fairest", "-l", "5").out == expected
    assert command("write", "From", "fairest", "-l", "5").out == expected
    assert "Did you mean runs/novel?" in command("write", "nvel", "From").err


def test_other_commands_take_the_newest_run_too(desk: Path, tmp_path: Path) -> None:
    text = tmp_path / "verse.txt"
    text.write_text("From fairest creatures we desire increase", "utf-8")
    assert json.loads(command("score", text, "--json").out)["run"] == "runs/novel"
    assert "runs/novel" in command("report", "--out", tmp_path / "page.html").err
    assert (tmp_path / "page.html").exists()
    assert "runs/young" in command("resume").err  # it has nothing to write with, but it can go on


def test_without_any_run_the_error_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for verb in ("write", "judge", "quiz", "report", "resume"):
        outcome = command(verb)
        assert outcome.code == 2 and "epigone train TEXT" in outcome.err


def test_other_programs_names_of_commands_work(desk: Path) -> None:
    assert command("ls").out == command("list").out
    assert command("generate", "novel", "-l", "5").out == command("write", "novel", "-l", "5").out


def test_sizes_and_ages_are_said_as_people_do() -> None:
    sizes = [format_size(count) for count in (None, 999, 136_704, 5_905_152, 124_439_808, 1_557_611_200)]
    assert sizes == ["?", "999", "137K", "5.9M", "124M", "1.6B"]
    ages = [describe_age(seconds) for seconds in (-5, 59, 60, 7_199, 86_400, 200_000)]
    assert ages == ["just now", "just now", "1 min ago", "1 h ago", "1 day ago", "2 days ago"]
