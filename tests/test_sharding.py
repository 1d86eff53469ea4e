"""A model that processes divide between them trains as one that each has whole, and goes on in any number of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from epigone.hardware import Hardware
from epigone.planning.plan import Plan
from epigone.run import open_run
from epigone.training.distributed import gather_random_state, join_processes
from epigone.training.events import Evaluated
from epigone.training.state import TrainerState
from helpers_front import command, write_sonnets
from helpers_ranks import run_command, run_together
from helpers_training import make_learner, make_tokens, pick, plan_for

OPTIMIZERS = ("adamw", "muon")
N_STEPS = 5


def divided(n_processes: int, optimizer: str, **more: Any) -> Plan:
    how = {"size": "2x32", "batch_size": 5, "epochs": 1.0, "evaluate_every": 2, "optimizer": optimizer, **more}
    return plan_for(make_tokens(), n_processes=n_processes, **how)


def train_divided(rank: int, place: Path, n_processes: int, name: str, more: dict[str, Any]) -> None:
    with join_processes():
        for optimizer in OPTIMIZERS:
            learner = make_learner(divided(n_processes, optimizer, **more), make_tokens())
            events = pick(list(learner.learn()), Evaluated)
            state = learner.pack(gather_random_state(learner.accelerator))
            losses = [[item.loss, item.training_loss or 0.0, item.accuracy] for item in events]
            (place / f"{name}-{optimizer}-{rank}.json").write_text(json.dumps(losses), "utf-8")
            save_file(state.weights, place / f"{name}-{optimizer}-{rank}.weights")
            save_file(state.optimizer, place / f"{name}-{optimizer}-{rank}.optimizer")


def distance(one: Path, other: Path) -> float:
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys() and all(ours[name].shape == theirs[name].shape for name in ours)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.slow
def test_divided_it_trains_as_whole_in_two_processes_and_in_one(tmp_path: Path) -> None:
    """Also where the blocks of a step cannot be divided evenly, and with each layer computed again."""
    train_divided(0, tmp_path, 1, "alone", {})
    for name, more in (
        ("ddp", {}),
        ("fsdp", {"shard": "on"}),
        ("again", {"shard": "on", "gradient_checkpointing": "on"}),
    ):
        outcomes = run_together(2, tmp_path / f"log-{name}", train_divided, tmp_path, 2, name, more)
        assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    for optimizer in OPTIMIZERS:
        alone = torch.tensor(json.loads((tmp_path / f"alone-{optimizer}-0.json").read_text("utf-8")))
        assert len(alone) >= 2
        for name in ("ddp", "fsdp", "again"):
            for rank in (0, 1):
                found = torch.tensor(json.loads((tmp_path / f"{name}-{optimizer}-{rank}.json").read_text("utf-8")))
                assert (found - alone).abs().max() < 1e-5, (name, optimizer, rank)
            for kind in ("weights", "optimizer"):
                ours, theirs = (tmp_path / f"{which}-{optimizer}-0.{kind}" for which in (name, "alone"))
                assert distance(ours, theirs) < 1e-4, (name, optimizer, kind)


def go_on(rank: int, place: Path, n_processes: int, name: str) -> None:
    with join_processes():
        learner = make_learner(divided(n_processes, "muon", shard="on"), make_tokens())
        for _ in range(2):
            learner.step()
        before = learner.pack(gather_random_state(learner.accelerator))
        if (place / "state.weights").exists():
            facts = json.loads((place / "state.json").read_text("utf-8"))
            parts = {kind: load_file(place / f"state.{kind}") for kind in ("weights", "optimizer", "random")}
            learner = make_learner(divided(n_processes, "muon", shard="on"), make_tokens())
            learner.unpack(TrainerState(**parts, facts=facts))
        elif rank == 0:
            for kind in ("weights", "optimizer", "random"):
                save_file(getattr(before, kind), place / f"state.{kind}")
            (place / "state.json").write_text(json.dumps(before.facts), "utf-8")
        for _ in range(2, N_STEPS):
            learner.step()
        save_file(learner.pack().weights, place / f"{name}-{rank}.weights")


@pytest.mark.slow
def test_its_checkpoint_goes_on_in_as_many_bit_for_bit_and_in_another_number(tmp_path: Path) -> None:
    for n, name in ((2, "whole"), (2, "again"), (3, "three")):
        outcomes = run_together(n, tmp_path / f"log-{name}", go_on, tmp_path, n, name)
        assert [outcome.code for outcome in outcomes] == [0] * n, outcomes
    go_on(0, tmp_path, 1, "one")
    whole = tmp_path / "whole-0.weights"
    assert distance(tmp_path / "again-0.weights", whole) == distance(tmp_path / "again-1.weights", whole) == 0
    assert distance(tmp_path / "three-2.weights", whole) < 1e-5 and distance(tmp_path / "one-0.weights", whole) < 1e-5


@pytest.mark.slow
def test_the_command_trains_and_resumes_divided(tmp_path: Path) -> None:
    text, run = write_sonnets(tmp_path, 6_000), tmp_path / "run"
    flags = ("--base", "none", "--size", "2x32", "--block-size", "32", "--batch-size", "4", "--epochs", "1")
    how = ("train", str(text), *flags, "--samples", "1", "--sample-length", "8", "--shard", "on", "--out", str(run))
    outcomes = run_together(2, tmp_path / "log", run_command, *how)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert "between all processes" in outcomes[0].out
    done = command("resume", run, "--epochs", "2")
    assert done.code == 0 and "continues in one process" in done.out, done.err
    assert len(open_run(run).evaluations) >= 2 and open_run(run).write(length=4)


# -- the plan


def plan_on(memory_gb: float, n_processes: int, size: str = "48x1600", **more: Any) -> Plan:
    card = Hardware(device="cuda", name="a card", n_threads=1, memory_bytes=int(memory_gb * 1e9), bf16=True)
    how = {"size": size, "block_size": 64, "batch_size": 1, "device": "auto", "precision": "auto", **more}
    return plan_for(make_tokens(), n_processes=n_processes, hardware=card, **how)


def test_the_plan_divides_what_does_not_fit_and_says_what_would() -> None:
    whole, alone = plan_on(80, 8), plan_on(16, 1)
    assert not whole.is_sharded and not whole.compute.checkpoints
    divided = plan_on(16, 8)
    assert divided.is_sharded and "in each of 8 that divide them" in divided.reasons["shard"]
    assert not alone.is_sharded and "so 2 of them are enough" in plan_on(24, 1).reasons["shard"]
    assert not plan_on(16, 8, "12x768").is_sharded and not plan_on(16, 8, shard="off").is_sharded
    assert plan_on(80, 2, shard="on").is_sharded and not plan_on(80, 1, shard="on").is_sharded
