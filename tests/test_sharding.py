"""A model that processes divide between them trains as one that each has whole, and goes on in any number of them."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from epigone.hardware import Hardware
from epigone.planning.plan import Plan
from epigone.run import open_run
from epigone.runs import checkpoints
from epigone.runs.checkpoints import find_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from epigone.training.distributed import gather_random_state, join_processes
from epigone.training.events import Evaluated
from epigone.training.state import TrainerState
from epigone.training.trainer import Trainer
from helpers_front import command, hash_one, write_sonnets
from helpers_ranks import run_command, run_together
from helpers_training import are_equal, make_learner, make_tokens, pick, plan_for

OPTIMIZERS = ("adamw", "muon")
N_STEPS = 5


def divided(n_processes: int, optimizer: str, **more: Any) -> Plan:
    how = {"size": "2x32", "batch_size": 5, "epochs": 1.0, "evaluate_every": 2, "optimizer": optimizer, **more}
    return plan_for(make_tokens(), n_processes=n_processes, **how)


def save_state(learner: Trainer, folder: Path) -> None:
    """As a run does: by all processes where they divide the model, else by the first."""
    state = learner.pack(gather_random_state(learner.accelerator))
    if state.n_parts > 1 or learner.accelerator.is_main_process:
        save_checkpoint(folder, learner.progress.step, state, {})


def load_state(folder: Path) -> TrainerState:
    newest, *_ = list_checkpoints(folder)
    return load_checkpoint(newest)


def train_divided(rank: int, place: Path, n_processes: int, name: str, more: dict[str, Any]) -> None:
    with join_processes():
        for optimizer in OPTIMIZERS:
            learner = make_learner(divided(n_processes, optimizer, **more), make_tokens())
            events = pick(list(learner.learn()), Evaluated)
            losses = [[item.loss, item.training_loss or 0.0, item.accuracy] for item in events]
            (place / f"{name}-{optimizer}-{rank}.json").write_text(json.dumps(losses), "utf-8")
            save_state(learner, place / f"{name}-{optimizer}")


def distance(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys() and all(one[name].shape == other[name].shape for name in one)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


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
        whole = load_state(tmp_path / f"alone-{optimizer}")
        for name in ("ddp", "fsdp", "again"):
            for rank in (0, 1):
                found = torch.tensor(json.loads((tmp_path / f"{name}-{optimizer}-{rank}.json").read_text("utf-8")))
                assert (found - alone).abs().max() < 1e-5, (name, optimizer, rank)
            ours = load_state(tmp_path / f"{name}-{optimizer}")
            assert distance(ours.weights, whole.weights) < 1e-4, (name, optimizer)
            assert distance(ours.optimizer, whole.optimizer) < 1e-4, (name, optimizer)


# -- checkpoints, which each process writes its part of


def go_on(_rank: int, place: Path, n_processes: int, name: str, dropout: float) -> None:
    """Five steps; or, of those that another number of processes has begun, the last three."""
    saved = place / f"dropout-{dropout}"
    with join_processes():
        learner = make_learner(divided(n_processes, "muon", shard="on", dropout=dropout), make_tokens())
        if saved.exists():
            learner.unpack(load_state(saved))
            save_state(learner, place / f"{name}-begins")
        else:
            for _ in range(2):
                learner.step()
            save_state(learner, saved)
        while learner.progress.step < N_STEPS:
            learner.step()
        save_state(learner, place / name)


def are_same_bits(one: TrainerState, other: TrainerState) -> bool:
    return all(are_equal(getattr(one, kind), getattr(other, kind)) for kind in ("weights", "optimizer", "random"))


@pytest.mark.slow
def test_its_checkpoint_goes_on_in_as_many_bit_for_bit_and_in_another_number(tmp_path: Path) -> None:
    """Where dropout draws from each process's random numbers, as many are needed; without it, any number will do."""
    for n, name, dropout in (
        (2, "drawn", 0.2),
        (2, "drawn again", 0.2),
        (2, "whole", 0.0),
        (2, "again", 0.0),
        (3, "3", 0.0),
    ):
        outcomes = run_together(n, tmp_path / f"log-{name}", go_on, tmp_path, n, name, dropout)
        assert [outcome.code for outcome in outcomes] == [0] * n, outcomes
    go_on(0, tmp_path, 1, "1", 0.0)
    begun, whole = load_state(tmp_path / "dropout-0.0"), load_state(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole").glob("*/weights*")) == [
        "weights-00001-of-00002.safetensors",
        "weights-00002-of-00002.safetensors",
    ]
    assert are_same_bits(load_state(tmp_path / "again"), whole)
    assert are_same_bits(load_state(tmp_path / "drawn again"), load_state(tmp_path / "drawn"))
    assert not are_equal(load_state(tmp_path / "drawn").weights, whole.weights)
    for name in ("1", "3"):
        taken_up, ended = load_state(tmp_path / f"{name}-begins"), load_state(tmp_path / name)
        assert are_equal(taken_up.weights, begun.weights) and are_equal(taken_up.optimizer, begun.optimizer)
        assert distance(ended.weights, whole.weights) < 1e-5 and distance(ended.optimizer, whole.optimizer) < 1e-5


def measure_saving(rank: int, place: Path) -> None:
    """Megabytes that a process takes more than it has, at most, while it saves 50 million parameters."""

    def read_megabytes(name: str) -> int:
        status = Path("/proc/self/status").read_text("utf-8")
        return int(status.partition(f"{name}:")[2].split()[0]) // 1024

    with join_processes():
        learner = make_learner(divided(2, "adamw", size="16x512", batch_size=2, shard="on"), make_tokens())
        learner.step()
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # or what was freed before would be used, unseen
        Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak, from here on
        before = read_megabytes("VmRSS")
        save_state(learner, place / "saved")
        (place / f"{rank}.megabytes").write_text(str(read_megabytes("VmHWM") - before), "utf-8")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux shows it")
def test_no_process_needs_memory_for_the_whole_to_save_it(tmp_path: Path) -> None:
    """When all gathered it, each took 590 MB more: the weights and AdamW's two averages."""
    outcomes = run_together(2, tmp_path / "log", measure_saving, tmp_path)
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert sum(path.stat().st_size for path in tmp_path.glob("saved/*/*.safetensors")) > 600_000_000
    assert all(int((tmp_path / f"{rank}.megabytes").read_text("utf-8")) < 60 for rank in (0, 1))


FLAGS = (
    "--base",
    "none",
    "--size",
    "2x32",
    "--block-size",
    "32",
    "--batch-size",
    "4",
    "--dropout",
    "0",
    "--samples",
    "0",
)
FLAGS = (
    *FLAGS,
    "--evaluate-every",
    "6",
    "--shard",
    "on",
    "--epochs",
    "2",
    "--precision",
    "fp32",
    "--process-timeout",
    "5",
)


def command_killed_while_it_saves(rank: int, victim: int, *arguments: str) -> None:
    """The command, of which one process is killed when half of its part of the third checkpoint is written."""

    def save_half(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save_file(tensors, path)
        if rank == victim and path.name.startswith("optimizer") and len(list_checkpoints(path.parents[1])) == 2:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_file = save_half  # type: ignore[assignment]
    run_command(rank, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_killed_while_it_writes_its_part_costs_what_came_after_the_last_checkpoint(
    tmp_path: Path, victim: int
) -> None:
    text, whole, run = write_sonnets(tmp_path, 6_000), tmp_path / "whole", tmp_path / "run"
    how = ("train", str(text), *FLAGS, "--out")
    outcomes = run_together(2, tmp_path / "log-whole", run_command, *how, str(whole))
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    outcomes = run_together(2, tmp_path / "log", command_killed_while_it_saves, victim, *how, str(run))
    assert outcomes[victim].code == -signal.SIGKILL and outcomes[1 - victim].code == 1, outcomes
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert len(left) == 3 and left[-1].endswith(".partial"), left
    assert find_checkpoint(run / "checkpoints") == (run / "checkpoints" / left[1], ())
    alone = Path(shutil.copytree(run, tmp_path / "alone"))
    outcomes = run_together(2, tmp_path / "log-again", run_command, "resume", str(run))
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    assert command("resume", alone).code == 0
    assert not list(tmp_path.glob("*/checkpoints/*.partial"))
    expected, ours, theirs = (open_run(one) for one in (whole, run, alone))
    losses = [item.loss for item in expected.evaluations]
    assert len(losses) > 3 and [item.loss for item in ours.evaluations] == losses
    assert hash_one(run / "model" / "model.safetensors") == hash_one(whole / "model" / "model.safetensors")
    assert are_same_bits(load_state(run / "checkpoints"), load_state(whole / "checkpoints"))
    assert [item.loss for item in theirs.evaluations] == pytest.approx(losses, abs=1e-5)


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
