"""Several processes train as one: they end together, say each thing once, and go on bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from copy import deepcopy
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from epigone.errors import SettingsError
from epigone.run import Run, open_run
from epigone.runs.checkpoints import list_checkpoints
from epigone.training import distributed
from epigone.training.distributed import LAUNCH, agree, check_launch, join_processes
from epigone.training.events import Evaluated
from epigone.training.state import select_random_state
from helpers_front import Outcome, command, make_once, write_sonnets
from helpers_ranks import run_command, run_together, start_together
from helpers_training import are_equal, copy_weights, make_learner, make_tokens, pick, plan_for

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gloo and fork as Unix has them")
FLAGS = (
    "--size",
    "1x32",
    "--block-size",
    "64",
    "--batch-size",
    "4",
    "--base",
    "none",
    "--samples",
    "0",
    "--device",
    "cpu",
)


# -- what is refused


@pytest.mark.parametrize(
    "variables",
    [
        {"WORLD_SIZE": "2"},
        {"RANK": "1"},
        {"LOCAL_RANK": "0"},
        {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"RANK": "x", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"ACCELERATE_USE_FSDP": "true"},
        {"ACCELERATE_USE_DEEPSPEED": "true"},
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        {"ACCELERATE_DYNAMO_BACKEND": "inductor"},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_an_environment_that_would_change_the_training_is_refused(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=next(iter(variables))):
        check_launch()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_CPU": "True"},
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1", "OMPI_COMM_WORLD_SIZE": "1"},
    ],
    ids=str,
)
def test_what_torchrun_and_accelerate_launch_set_is_not(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_launch(["text.txt"])


def test_several_processes_cannot_read_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(LAUNCH, ("0", "2", "0", "a", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="standard input"):
        check_launch(["text.txt", "-"])
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_launch(["-"])


def test_each_process_computes_on_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun gives each a single one where nothing is set; what the user sets is kept."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    before = torch.get_num_threads()
    try:
        for asked, n_here, n_threads in ((None, "2", 3), ("1", "3", 2), ("1", "8", 1), ("5", "2", 1)):
            torch.set_num_threads(1)
            monkeypatch.setenv("LOCAL_WORLD_SIZE", n_here)
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
            if asked is not None:
                monkeypatch.setenv("OMP_NUM_THREADS", asked)
            distributed._share_cores()
            assert torch.get_num_threads() == n_threads, (asked, n_here)
        torch.set_num_threads(2)
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        distributed._share_cores()
        assert torch.get_num_threads() == 2, "without torchrun it was the user who said 1"
    finally:
        torch.set_num_threads(before)


# -- one run of two, the first of which comes late


def train_late(rank: int, *arguments: str) -> None:
    time.sleep(1 - rank)
    run_command(rank, *arguments)


def _train(place: Path) -> None:
    place.mkdir()
    flags = (*FLAGS, "--dropout", "0", "--epochs", "2", "--patience", "none", "--precision", "fp32")
    text = write_sonnets(place, 3_000)
    outcomes = run_together(2, place / "log", train_late, "train", str(text), *flags, "--out", str(place / "run"))
    (place / "outcomes.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes]), "utf-8")


@cache
def trained() -> tuple[Run, list[Outcome]]:
    place = make_once("two-processes", _train)
    outcomes = [Outcome(**each) for each in json.loads((place / "outcomes.json").read_text("utf-8"))]
    return open_run(place / "run"), outcomes


def test_two_processes_make_one_run_and_only_the_first_speaks() -> None:
    run, (first, second) = trained()
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert second.out == second.err == first.err == ""
    for line in ("Read\n", "Plan\n", "Training: ", "Trained for "):
        assert first.out.count(line) == 1, line
    assert "4 blocks, 2 of them in each of 2 processes" in first.out
    steps = [item.step for item in run.evaluations]
    assert steps == sorted(set(steps)) and len(steps) >= 2
    assert run.write(length=5)


def test_a_checkpoint_has_the_random_state_of_each() -> None:
    newest = list_checkpoints(trained()[0].folder.checkpoints)[0]
    states = load_file(newest / "random.safetensors")
    assert sorted(states) == ["cpu", "cpu:1"] and not torch.equal(states["cpu"], states["cpu:1"])


# -- the same as one


def train_on_made_up_tokens(rank: int, place: Path, n_processes: int) -> None:
    """At batches that two processes cannot divide evenly, and at batches that leave one of them nothing to do."""
    tokens = make_tokens()
    with join_processes():
        for batch_size, accumulation in BATCHES:
            how: dict[str, Any] = {"batch_size": batch_size, "gradient_accumulation": accumulation, "epochs": 1.0}
            plan = plan_for(tokens, n_processes=n_processes, evaluate_every=3, **how)
            events = list(make_learner(plan, tokens).learn())
            losses = [[item.loss, item.training_loss] for item in pick(events, Evaluated)]
            (place / f"{n_processes}-{batch_size}-{accumulation}-{rank}").write_text(json.dumps(losses), "utf-8")


BATCHES = (6, 1), (5, 2), (1, 1)


@pytest.mark.parametrize("n_processes", [2, 3])
def test_several_processes_train_as_one_does(tmp_path: Path, n_processes: int) -> None:
    train_on_made_up_tokens(0, tmp_path, 1)
    outcomes = run_together(n_processes, tmp_path / "log", train_on_made_up_tokens, tmp_path, n_processes)
    assert [outcome.code for outcome in outcomes] == [0] * n_processes, outcomes
    for batch_size, accumulation in BATCHES:
        alone = json.loads((tmp_path / f"1-{batch_size}-{accumulation}-0").read_text("utf-8"))
        assert len(alone) >= 2
        for rank in range(n_processes):
            found = json.loads((tmp_path / f"{n_processes}-{batch_size}-{accumulation}-{rank}").read_text("utf-8"))
            assert torch.tensor(found).sub(torch.tensor(alone)).abs().max() < 1e-5, (batch_size, accumulation, rank)


def test_a_run_goes_on_in_another_number_of_processes(tmp_path: Path) -> None:
    """Two began it; one and three come to the same, but for rounding, and say so once."""
    one, three = (Path(shutil.copytree(trained()[0].path, tmp_path / name)) for name in ("one", "three"))
    alone = command("resume", one, "--epochs", "3")
    first, *others = run_together(3, tmp_path / "log", run_command, "resume", str(three), "--epochs", "3")
    assert [alone.code, first.code, *(other.code for other in others)] == [0] * 4, first.err
    assert alone.out.count("planned for 2 processes and continues in one process") == 1
    assert first.out.count("planned for 2 processes and continues in 3 processes") == 1
    assert all(other.err == other.out == "" for other in others)
    ours, theirs = (torch.tensor([item.loss for item in open_run(run).evaluations]) for run in (one, three))
    assert len(ours) > len(trained()[0].evaluations) and (ours - theirs).abs().max() < 1e-5


# -- bit for bit


def go_on_from_each_step(rank: int, folder: Path) -> None:
    """Save what each process has before each step, and what all come to from there."""
    from epigone.training.distributed import gather_random_state, join_processes

    tokens = make_tokens()
    with join_processes():
        for optimizer in ("muon", "adamw"):
            plan = plan_for(tokens, n_processes=2, dropout=0.2, optimizer=optimizer)
            whole, states = make_learner(plan, tokens), []
            for _ in range(N_STEPS):
                states.append(deepcopy(whole.pack(gather_random_state(whole.accelerator))))
                whole.step()
            save_file(copy_weights(whole.model.transformer), folder / f"{optimizer}-whole-{rank}")
            for step, state in enumerate(states):
                again = make_learner(plan, tokens)
                again.unpack(state)
                for _ in range(step, N_STEPS):
                    again.step()
                save_file(copy_weights(again.model.transformer), folder / f"{optimizer}-{step}-{rank}")


N_STEPS = 4


def test_two_processes_that_go_on_at_any_step_come_to_the_same_bits(tmp_path: Path) -> None:
    outcomes = run_together(2, tmp_path / "log", go_on_from_each_step, tmp_path)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    for optimizer in ("muon", "adamw"):
        whole = load_file(tmp_path / f"{optimizer}-whole-0")
        for name in (*range(N_STEPS), "whole"):
            for rank in (0, 1):
                assert are_equal(load_file(tmp_path / f"{optimizer}-{name}-{rank}"), whole), (optimizer, name, rank)


def test_each_process_takes_its_own_random_state() -> None:
    states = {"cpu": torch.zeros(1), "cuda": torch.ones(1), "cpu:1": torch.full((1,), 2.0), "cpu:11": torch.ones(1)}
    assert list(select_random_state(states, 0)) == ["cpu", "cuda"]
    assert select_random_state(states, 1) == {"cpu": states["cpu:1"]}
    assert select_random_state(states, 2) == {}


# -- errors


def test_an_error_of_one_ends_all_at_once_and_is_shown_once(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "other.txt").write_text("a", "utf-8")
    text = write_sonnets(tmp_path, 3_000)
    first, second = run_together(
        2, tmp_path / "log", run_command, "train", str(text), *FLAGS, "--out", str(tmp_path / "taken")
    )
    assert (first.code, second.code) == (2, 2)
    assert first.err.splitlines()[0] == f"error: {tmp_path / 'taken'} already holds something else."
    assert second.err == "" and first.out == second.out == ""


def differ(rank: int) -> None:
    """What a host with another version of torch does."""
    with join_processes():
        agree({"epigone": "1", "torch": f"2.{rank}"})


def test_processes_that_differ_are_told_in_what(tmp_path: Path) -> None:
    first, second = run_together(2, tmp_path / "log", differ)
    told = "Process 1 differs from Process 0 in torch: 2.1, not 2.0."
    assert (first.err + second.err).count(told) == 1 and min(first.code, second.code) == 2


def wait_for_the_other(rank: int, folder: Path) -> None:
    """Inside torch, where no signal is heard, for a process that never answers."""
    with join_processes(5.0):
        distributed.set_hint("epigone resume runs/novel")
        distributed._connect("cpu")
        (folder / f"ready-{rank}").touch()
        if rank == 0:
            torch.distributed.barrier()
        time.sleep(100)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_lost_ends_the_others_with_one_line(tmp_path: Path, number: int) -> None:
    """One that was killed closes its connections; one that hangs, or whose cable was cut, says nothing any more."""
    ranks = start_together(2, tmp_path / "log", wait_for_the_other, tmp_path)
    while not all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)):
        time.sleep(0.05)
    began = time.monotonic()
    os.kill(ranks.processes[1].pid or 0, number)
    first = ranks.finish(30, only=0)[0]
    assert time.monotonic() - began < 25
    assert first.err.count("Process 1 ended or cannot be reached.") == 1 and first.code in (1, 99)
    assert "gloo" not in first.err


@pytest.mark.parametrize(("verb", "shown"), [("train", 1), ("score", 2)])
def test_only_those_that_train_together_leave_an_error_to_one(tmp_path: Path, verb: str, shown: int) -> None:
    """What a launcher left in the environment does not silence another command."""
    outcomes = run_together(2, tmp_path / "log", run_command, verb, "--no-such-option")
    assert [outcome.code for outcome in outcomes] == [2, 2]
    assert sum("error: " in outcome.err for outcome in outcomes) == shown
