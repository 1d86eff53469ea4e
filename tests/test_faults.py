"""A run that is killed, whenever, goes on by itself and to the same end; there is never less than one checkpoint."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import epigone.cli.train as learning
from conftest import Reliability
from epigone import pipeline
from epigone.errors import RunExists, RunLocked
from epigone.resumption import resume_training
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from epigone.training.trainer import Trainer
from helpers_faults import (
    HOW,
    copy,
    find_differences,
    go_on,
    go_on_alone,
    list_sound,
    plain_pictures,
    prepared,
    uninterrupted,
    watch_files,
)
from helpers_front import hash_tree, prepare_run, write_sonnets
from helpers_processes import fork

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and forks as Unix has them")
GROUP = "Killed"
N_KILLS = 200


# -- at each operation on a file


def keep_states(run: Path, place: Path, every: int = 1) -> tuple[list[tuple[str, Path]], int]:
    """Learn; keep the folder as it is before, inside and after each operation on a file, where it differs from before.

    What a process that is killed there leaves behind is just that. Of the states each `every`th is kept.
    """
    states: list[tuple[str, Path]] = []
    last: dict[str, str] = {}
    n_seen = n_different = 0

    def see(what: str, _path: Path) -> None:
        nonlocal last, n_seen, n_different
        now = hash_tree(run)
        n_seen += 1
        if now != last:
            last = now
            n_different += 1
            if n_different % every == 0:
                states.append((what, copy_plainly(run, place / str(n_different))))

    with plain_pictures(), watch_files(see):
        go_on(run)
    return states, n_seen


def copy_plainly(run: Path, place: Path) -> Path:
    """Copy by a way that is not watched."""
    for folder, _, files in os.walk(run):
        target = place / Path(folder).relative_to(run)
        UNWATCHED["mkdir"](target)
        for name in files:
            shutil.copyfile(Path(folder) / name, target / name)
    return place


UNWATCHED: dict[str, Any] = {"mkdir": os.mkdir}


def go_on_from_states(tmp_path: Path, every: int) -> tuple[int, int, list[str]]:
    """How many moments there were, from how many different states it went on, and what went wrong."""
    (tmp_path / "states").mkdir()
    states, n_seen = keep_states(copy(prepared(), tmp_path / "run"), tmp_path / "states", every)
    n_sound = [len(list_sound(state)) for _, state in states]
    wrong = [f"none left {states[place][0]}" for place, (one, two) in enumerate(pairwise(n_sound)) if one and not two]
    for what, state in states:
        with plain_pictures():
            go_on(state)
        wrong += [f"{what}: {name}" for name in find_differences(state, uninterrupted())]
        shutil.rmtree(state)
    return n_seen, len(states), wrong


def test_killed_at_some_operations_on_files_it_comes_to_the_same_end(tmp_path: Path) -> None:
    _, n_tried, wrong = go_on_from_states(tmp_path, every=60)
    assert n_tried >= 4 and not wrong


@pytest.mark.slow
def test_killed_at_any_operation_on_a_file_it_comes_to_the_same_end(tmp_path: Path, reliability: Reliability) -> None:
    n_seen, n_tried, wrong = go_on_from_states(tmp_path, every=1)
    fault = f"stopped dead before, inside and after each operation on a file ({n_seen} moments, each different state)"
    n_wrong = len({one.partition(":")[0] for one in wrong})
    reliability(GROUP, fault, tried=n_tried, survived=n_tried - n_wrong, lost="what came after the last save")
    assert n_tried > 150 and not wrong


@pytest.mark.slow
def test_killed_while_it_goes_on_it_goes_on_again(tmp_path: Path, reliability: Reliability) -> None:
    """The first operations of going on itself: the folder is mended, and that is cut short."""
    run = copy(prepared(), tmp_path / "run")
    stop_after(run, 13)
    for path in (run / "metrics.jsonl", run / "model" / "tokenizer.json", run / "run.json"):
        path.write_bytes(path.read_bytes()[:-20])
    (run / "model" / "model.safetensors").unlink()
    (tmp_path / "states").mkdir()
    states, _ = keep_states(run, tmp_path / "states")
    wrong = 0
    for _, state in states[:80]:
        with plain_pictures():
            go_on(state)
        wrong += bool(find_differences(state, uninterrupted()))
    n_tried = len(states[:80])
    reliability(GROUP, "stopped dead while damage is being mended", tried=n_tried, survived=n_tried - wrong)
    assert n_tried > 20 and not wrong


def stop_after(run: Path, n_steps: int) -> None:
    """Let it learn so many steps and save."""
    calls = iter(range(1_000))
    with plain_pictures():
        go_on(run, should_stop=lambda: next(calls) >= n_steps)


# -- at any time


@pytest.mark.slow
def test_killed_at_random_times_it_comes_to_the_same_end(tmp_path: Path, reliability: Reliability) -> None:
    """Again and again in the same run until that is done, then in another one."""
    generator, n_kills, n_lost, runs = random.Random(0), 0, 0, 0
    seconds = 0.0
    for name in ("first", "timed"):  # with the first one comes what all are forked from
        began = time.monotonic()
        process = fork(go_on_alone, copy(prepared(), tmp_path / name))
        process.join()
        seconds = time.monotonic() - began
    while n_kills < N_KILLS:
        run = copy(prepared(), tmp_path / f"run-{runs}")
        n_here = 0
        while True:
            process = fork(go_on_alone, run)
            process.join(generator.uniform(0, 0.8 * seconds) if n_kills + n_here < N_KILLS else None)
            if process.exitcode is not None:
                assert process.exitcode == 0, "it did not end by itself"
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            n_here += 1
        n_kills += n_here
        n_lost += n_here if find_differences(run, uninterrupted()) else 0
        runs += 1
        shutil.rmtree(run)
    lost = "what came after the last save"
    reliability(GROUP, "kill -9 at a random time", tried=n_kills, survived=n_kills - n_lost, lost=lost)
    assert not n_lost


# -- asked to stop, and asked again


class Silent:
    """A screen that shows nothing."""

    def show_end(self, _: str) -> None: ...


def take_a_long_step(place: Path) -> None:
    """What a process of its own does that is deep in a step and listens to signals as the command does."""

    def step(_: Trainer) -> None:
        (place / "began").touch()
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            time.sleep(0.01)

    with (
        mock.patch.object(Trainer, "step", step),
        learning.StopSignals(Silent()).caught() as was_stopped,  # type: ignore[arg-type]
    ):
        for _ in resume_training(place / "run", {}, should_stop=was_stopped):
            pass


SIGNALS = [
    pytest.param(signal.SIGINT, signal.SIGTERM, marks=pytest.mark.slow),
    pytest.param(signal.SIGTERM, signal.SIGINT, marks=pytest.mark.slow),
    pytest.param(signal.SIGTERM, signal.SIGTERM, marks=pytest.mark.slow),
    pytest.param(signal.SIGINT, signal.SIGINT, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("first", "second"), SIGNALS)
def test_a_second_signal_ends_it_at_once(tmp_path: Path, reliability: Reliability, first: int, second: int) -> None:
    copy(prepared(), tmp_path / "run")
    process = fork(take_a_long_step, tmp_path)
    ends = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < ends:
        time.sleep(0.02)
    os.kill(process.pid, first)
    time.sleep(0.5)
    assert process.is_alive(), "the first one waits for the step to end"
    began = time.monotonic()
    os.kill(process.pid, second)
    process.join(10)
    seconds = time.monotonic() - began
    with plain_pictures():
        go_on(tmp_path / "run")
    same = not find_differences(tmp_path / "run", uninterrupted())
    survived = int(same and process.exitcode == -second and seconds < 2)
    reliability(GROUP, "SIGINT or SIGTERM, and another at once, which ends it", tried=1, survived=survived)
    assert survived


def test_after_the_first_signal_either_one_ends_it() -> None:
    before = [signal.getsignal(number) for number in learning.SIGNALS]
    with learning.StopSignals(Silent()).caught() as was_stopped:  # type: ignore[arg-type]
        assert not was_stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        assert was_stopped()
        assert all(signal.getsignal(number) is signal.SIG_DFL for number in learning.SIGNALS)
    assert [signal.getsignal(number) for number in learning.SIGNALS] == before


# -- two at once


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_meet(tmp_path: Path, reliability: Reliability) -> None:
    copy(prepared(), tmp_path / "run")
    process = fork(take_a_long_step, tmp_path)
    while not (tmp_path / "began").exists():
        time.sleep(0.02)
    before, refused = hash_tree(tmp_path / "run"), 0
    for _ in range(5):
        with pytest.raises(RunLocked):
            go_on(tmp_path / "run")
        refused += hash_tree(tmp_path / "run") == before
    process.kill()
    process.join()
    with plain_pictures():
        go_on(tmp_path / "run")
    same = not find_differences(tmp_path / "run", uninterrupted())
    reliability("Others at work", "a second start in the same folder", tried=5, survived=refused if same else 0)
    assert refused == 5 and same


def test_who_looked_before_another_began_and_ended_is_refused(tmp_path: Path) -> None:
    """Two commands at the same moment: the second has to wait with its look until it holds the folder."""
    text, out = write_sonnets(tmp_path), tmp_path / "run"
    second = pipeline.create_run([str(text)], out)
    prepare_run(text, out, TrainSettings(**HOW, base="none"))
    before = hash_tree(out)
    with pipeline.lock_run(second), pytest.raises(RunExists):
        pipeline.begin_run(second, TrainSettings(**HOW, base="none", seed=9))
    assert hash_tree(out) == before


# -- before there is a plan


def list_moments(tmp_path: Path) -> Iterator[Path]:
    """The folder of a run at each operation on a file from the very beginning until it has a plan."""
    text, run = write_sonnets(tmp_path, 3_000, "faults.txt"), tmp_path / "run"
    last: dict[str, str] = {}
    found: list[Path] = []

    def see(_what: str, _path: Path) -> None:
        nonlocal last
        if run.exists() and hash_tree(run) != last:
            last = hash_tree(run)
            found.append(copy_plainly(run, tmp_path / f"moment-{len(found)}"))

    with watch_files(see):
        prepare_run(text, run, TrainSettings(**HOW, optimizer="muon", base="none"))
    yield from found


@pytest.mark.slow
def test_killed_before_it_had_a_plan_the_same_command_begins_again(tmp_path: Path, reliability: Reliability) -> None:
    tried = survived = 0
    for run in list_moments(tmp_path):
        if not RunFolder.is_run(run):
            prepare_run(tmp_path / "faults.txt", run, TrainSettings(**HOW, optimizer="muon", base="none"))
        with plain_pictures():
            go_on(run)
        tried += 1
        survived += set(find_differences(run, uninterrupted())) <= {"receipt.json"}  # it names the text's own place
    reliability(GROUP, "stopped dead while the text is read and the plan is made", tried=tried, survived=survived)
    assert tried > 20 and survived == tried
