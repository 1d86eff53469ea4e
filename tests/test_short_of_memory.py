"""A run whose memory runs out goes on, says so and remembers it; writing goes on too, and so do two processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import epigone
from conftest import Reliability, keeping
from epigone import Run, TrainSettings, WriteSettings
from epigone.errors import OutOfMemory
from epigone.model.decoder import FastDecoder, KVCache
from epigone.pipeline import run_training
from epigone.preparation import prepare
from epigone.report.publish import read_report_data
from epigone.training.events import BatchSplit, Evaluated, Event, StepReport
from helpers_front import Outcome, command, environment, shared_run, workshop, write_sonnets
from helpers_plan import change
from helpers_shortage import ERRORS, Machine
from helpers_training import make_learner, make_tokens, pick, plan_for, tiny_model

TINY: dict[str, Any] = {"size": "1x32", "block_size": 32, "batch_size": 8, "epochs": 2.0, "samples": 0, "base": "none"}
TINY |= {"dropout": 0.0, "precision": "fp32", "patience": "none"}
FLAGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


GROUP = "Memory"


@cache
def text() -> Path:
    return write_sonnets(workshop(), 8_000, "short-of-memory.txt")


@cache
def unhurt() -> Run:
    return epigone.train(text(), out=workshop() / "with-memory", settings=TrainSettings(**TINY))


@cache
def hurt() -> tuple[Run, Outcome]:
    """The same, but that its memory runs out while it learns: when its speed was measured it did not."""
    machine = Machine(fits=3, from_call=12)
    with machine.at_work():
        outcome = command("train", text(), *FLAGS, "--out", workshop() / "without-memory")
    assert machine.n_failed == 2, "8 and 4 blocks at once"
    return epigone.open_run(workshop() / "without-memory"), outcome


def read_weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder.model / "model.safetensors")


# -- a run


def test_it_learns_what_it_would_have_learned(reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "memory runs out in a run: its batches of 8 are computed in 4 parts"):
        run, outcome = hurt()
        assert outcome.code == 0, outcome.err
        losses = [item.loss for item in run.evaluations]
        assert losses == pytest.approx([item.loss for item in unhurt().evaluations], rel=1e-4)
        theirs = read_weights(unhurt())
        for name, weight in read_weights(run).items():
            torch.testing.assert_close(weight, theirs[name], rtol=1e-2, atol=1e-3, msg=name)
        last, other = (pick(one.folder.read_events(), StepReport)[-1] for one in (run, unhurt()))
        assert last.step == other.step


def test_it_says_so() -> None:
    run, outcome = hurt()
    line = next(line for line in outcome.out.splitlines() if "Memory ran out" in line)
    assert line.startswith("warning: ") and "computed in 4 parts of 2 at most" in line
    (told,) = pick(run.folder.read_events(), BatchSplit)
    assert told == BatchSplit(step=told.step, batch_size=8, parts=4) and f"in step {told.step}," in line


def test_the_plan_the_page_and_the_card_know_it() -> None:
    run, _ = hurt()
    plan = run.folder.read_manifest().plan
    assert plan.batch.parts == 4 and "memory ran out in step" in plan.reasons["batch_size"]
    assert plan == change(unhurt().folder.read_manifest().plan, parts=4, reasons=plan.reasons)
    assert read_report_data(run.folder).plan == plan
    for page in (run.folder.report, run.folder.model / "README.md"):
        assert "8 blocks in 4 parts" in page.read_text("utf-8"), page


def test_who_goes_on_begins_with_what_fits(tmp_path: Path, reliability: Reliability) -> None:
    folder = Path(shutil.copytree(hurt()[0].path, tmp_path / "run"))
    machine = Machine(fits=3)
    with keeping(reliability, GROUP, REMEMBERED):
        with machine.at_work():
            assert command("resume", folder, "--epochs", "3").code == 0
        assert machine.read and machine.n_failed == 0 and max(map(len, machine.read)) == 2
        assert not pick(epigone.open_run(folder).folder.read_events()[-3:], BatchSplit)


REMEMBERED = "memory ran out and the run goes on: it begins with what fits"


def test_it_is_remembered_even_if_nothing_was_saved_since(tmp_path: Path, reliability: Reliability) -> None:
    """The process ends right after it was told, and the newest checkpoint knows nothing of it."""
    with keeping(reliability, GROUP, REMEMBERED):
        _divide_and_die(tmp_path)


def _divide_and_die(tmp_path: Path) -> None:
    machine = Machine(fits=3, from_call=9)
    with machine.at_work():
        for event in run_training([str(text())], TrainSettings(**TINY), tmp_path / "run"):
            if isinstance(event, BatchSplit):
                break
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))
    again = Machine(fits=3)
    with again.at_work():
        run = epigone.resume(tmp_path / "run")
    assert again.n_failed == 0
    assert [item.loss for item in run.evaluations] == pytest.approx(
        [item.loss for item in unhurt().evaluations], rel=1e-4
    )


@pytest.mark.benchmark
def test_what_does_not_fit_when_the_speed_is_measured_is_in_the_plan(tmp_path: Path) -> None:
    with Machine(fits=4).at_work():
        found = prepare([str(text())], TrainSettings(**TINY), tmp_path / "tokens", progress=False)
    assert (found.plan.batch.parts, found.plan.batch.batch_size, found.plan.batch.gradient_accumulation) == (2, 8, 1)
    assert found.plan.reasons["batch_size"] == "computed in parts: a whole batch does not fit into memory"


def test_where_no_block_fits_the_command_says_what_to_set(tmp_path: Path, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "not even one block fits: one error, before it begins"):
        with Machine(fits=0).at_work():
            outcome = command("train", text(), *FLAGS, "--out", tmp_path / "run")
        first, second = outcome.err.splitlines()
        assert outcome.code == 1 and first.startswith("error: Memory ran out: a step with one block of 32 tokens")
        assert "--block-size or --size" in second


@pytest.mark.parametrize("kind", ERRORS)
def test_wherever_else_memory_runs_out_it_is_one_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ERRORS[kind]()

    monkeypatch.setattr("epigone.cli.main.plan.callback", lambda **_: fail())
    outcome = command("plan", text())
    assert outcome.code == 1 and outcome.err.startswith("error: Memory ran out") and "Traceback" not in outcome.err


# -- writing


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """[texts that can be written at once, times that it was too many]."""
    limits, step = [1_000, 0], FastDecoder.step_caches

    def step_or_fail(decoder: FastDecoder, caches: Sequence[KVCache], ids: torch.Tensor) -> torch.Tensor:
        if len(ids) > limits[0]:
            limits[1] += 1
            raise ERRORS["cuda"]()
        return step(decoder, caches, ids)

    monkeypatch.setattr(FastDecoder, "step_caches", step_or_fail)
    return limits


@pytest.mark.parametrize("fits", [1, 2, 4])
def test_fewer_texts_at_once_are_the_same_texts(room: list[int], fits: int) -> None:
    how: dict[str, Any] = {"count": 7, "length": 12, "seed": 5, "precision": "fp32"}
    expected = shared_run().write("Thou", **how)
    writer, settings = shared_run().open_generator(WriteSettings(**how)), WriteSettings(**how)
    records = list(writer.write_records("Thou", settings, 2))
    room[0] = fits
    assert shared_run().write("Thou", **how) == expected and len(set(expected)) == 7
    n_failed, found = room[1], list(writer.write_records("Thou", settings, 2))
    assert [record.text for record in found] == expected[2:] and [record.seed for record in found] == [7, 8, 9, 10, 11]
    likely = [record.log_probability for record in records]
    assert [record.log_probability for record in found] == pytest.approx(likely, rel=1e-4)
    assert n_failed == {1: 3, 2: 2, 4: 1}[fits], "halved from seven, and no more than once"


def test_a_text_that_does_not_fit_alone_is_one_error(room: list[int]) -> None:
    room[0] = 0
    with pytest.raises(OutOfMemory, match="writing of one text"):
        shared_run().write("Thou", count=3, length=12)


def test_samples_are_written_though_memory_is_short(room: list[int], tmp_path: Path) -> None:
    how = TINY | {"samples": 3, "sample_length": 10}
    theirs = epigone.train(text(), out=tmp_path / "one", settings=TrainSettings(**how))
    room[0] = 1
    ours = epigone.train(text(), out=tmp_path / "two", settings=TrainSettings(**how))
    assert room[1] > 0
    names = sorted(path.name for path in theirs.folder.samples.iterdir())
    assert names and names == sorted(path.name for path in ours.folder.samples.iterdir())
    for name in names:
        assert (ours.folder.samples / name).read_text("utf-8") == (theirs.folder.samples / name).read_text("utf-8")


# -- several processes

TWO = """
import sys
from safetensors.torch import save_file
from epigone.training.events import BatchSplit
from helpers_shortage import Machine
from helpers_plan import change
from helpers_training import *
import os
first, fits = int(os.environ["RANK"]) == 0, int(sys.argv[2])
tokens = make_tokens()
plan = change(plan_for(tokens, n_processes=2, batch_size=8, epochs=3.0, optimizer="adamw"), report_every=1)
with Machine(fits=None if first else fits, from_call=int(sys.argv[3]), place="backward").at_work():
    learner = make_learner(plan, tokens)
    told = [event for event in learner.learn() if isinstance(event, BatchSplit)]
if first:
    assert [(event.parts, learner.parts) for event in told] == [(2, 2)], told
    save_file(copy_weights(learner.model.transformer), sys.argv[1])
"""


def learn_together(folder: Path, fits: int, from_call: int) -> subprocess.CompletedProcess[str]:
    """Two learners, of which the second runs out of memory."""
    script = folder / "two.py"
    script.write_text(TWO, "utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    variables = environment()
    variables["PYTHONPATH"] += f":{Path(__file__).parent}"
    return subprocess.run(
        [sys.executable, *launch, folder / "weights.safetensors", str(fits), str(from_call)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
@pytest.mark.parametrize("from_call", [0, 4])
def test_what_one_process_has_no_memory_for_all_compute_in_parts(
    tmp_path: Path, reliability: Reliability, from_call: int
) -> None:
    """At the first step, and at the first one after an evaluation: at the fifth."""
    with keeping(reliability, GROUP, "memory runs out in one process of two: both compute in parts"):
        _compare_with_one(tmp_path, from_call)


def _compare_with_one(tmp_path: Path, from_call: int) -> None:
    done = learn_together(tmp_path, fits=2, from_call=from_call)
    assert done.returncode == 0, done.stderr
    plan = change(plan_for(make_tokens(), batch_size=8, epochs=3.0, optimizer="adamw"), report_every=1)
    alone, start = make_learner(plan, make_tokens()), tiny_model(plan).transformer.state_dict()
    evaluated = [event.step for event in alone.learn() if isinstance(event, Evaluated)]
    assert evaluated[0] == 4
    found = load_file(tmp_path / "weights.safetensors")
    for name, end in alone.model.transformer.state_dict().items():
        assert (found[name] - end).norm() <= 1e-3 * (end - start[name]).norm(), name


@pytest.mark.slow
def test_where_the_others_wait_already_it_is_a_clear_error_and_no_process_hangs(tmp_path: Path) -> None:
    done = learn_together(tmp_path, fits=2, from_call=2)
    assert done.returncode != 0
    assert "Memory ran out in step 2, while the other processes waited for this one" in done.stderr


# -- memory that really is short

REAL = """
import resource, sys
import psutil, torch
from safetensors.torch import save_file
from epigone.training.events import BatchSplit
from helpers_plan import change
from helpers_training import *
tokens = make_tokens(train=regular_ids(20_000), validation=regular_ids(1_000, seed=1))
settings = dict(size="4x128", block_size=128, batch_size=64, epochs=0.5, optimizer="adamw")
plan = change(plan_for(tokens, **settings), report_every=1)
learner = make_learner(plan, tokens)
if sys.argv[2] != "all":
    room = psutil.Process().memory_info().vms + int(sys.argv[2]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
told = [event for event in learner.learn() if isinstance(event, BatchSplit)]
print([event.parts for event in told])
save_file(copy_weights(learner.model.transformer), sys.argv[1])
"""


def learn_in(room: str, weights: Path) -> list[int]:
    """The parts that batches had to be divided into in a process that may take so many megabytes more."""
    variables = environment()
    variables["PYTHONPATH"] += f":{Path(__file__).parent}"
    done = subprocess.run(
        [sys.executable, "-c", REAL, weights, room], env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_with_a_real_limit_to_its_memory_it_learns_the_same(tmp_path: Path, reliability: Reliability) -> None:
    with keeping(reliability, GROUP, "a limit that the system sets to a process's memory"):
        assert learn_in("all", tmp_path / "all") == []
        assert learn_in("250", tmp_path / "few")[-1] >= 2
        theirs = load_file(tmp_path / "all")
        for name, weight in load_file(tmp_path / "few").items():
            assert (weight - theirs[name]).norm() <= 1e-3 * theirs[name].norm(), name


def test_events_of_a_run_with_memory_for_all_say_nothing_of_parts() -> None:
    told: list[Event] = list(unhurt().folder.read_events())
    assert pick(told, Evaluated) and not pick(told, BatchSplit)
