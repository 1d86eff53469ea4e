"""A run goes on where it was moved or copied to, whatever the clock says and whatever became of its text."""

from __future__ import annotations

import os
import shutil
import time
from itertools import count
from pathlib import Path
from unittest import mock

import pytest

from conftest import Reliability
from epigone.errors import OutputError
from epigone.pipeline import Planned, run_training
from epigone.resumption import resume_training
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from epigone.training.events import CheckpointSaved, Evaluated, Event
from helpers_faults import HOW, act_at, copy, find_differences, go_on, plain_pictures, prepared, uninterrupted
from helpers_front import hash_tree, write_sonnets

DISKS, OTHERS = "Disks", "Others at work"


# -- places that move


def list_events() -> list[Event]:
    folder, events = RunFolder.open(uninterrupted()), list[Event]()
    events += folder.read_events()
    return events


def move_and_go_on(tmp_path: Path, n_events: int) -> tuple[bool, bool]:
    """Whether anything was made at the old place, and whether the moved run comes to the same end."""
    run, moved = copy(prepared(), tmp_path / "run"), tmp_path / "moved"
    with plain_pictures():
        try:
            act_at(run, n_events, lambda: run.rename(moved))
        except OutputError as error:
            assert "it was moved or deleted" in str(error) and "resume" in error.hint
        stray = run.exists()
        go_on(moved)
    same = not find_differences(moved, uninterrupted())
    shutil.rmtree(moved)
    return stray, same


@pytest.mark.parametrize("n_events", [3, 12])
def test_a_run_that_is_moved_while_it_learns_stops_and_goes_on_there(tmp_path: Path, n_events: int) -> None:
    assert move_and_go_on(tmp_path, n_events) == (False, True)


@pytest.mark.slow
def test_a_run_can_be_moved_at_any_event(tmp_path: Path, reliability: Reliability) -> None:
    n_events = len(list_events()) + 2
    found = [move_and_go_on(tmp_path, number) for number in range(1, n_events)]
    good = sum(one == (False, True) for one in found)
    lost = "what came after the last save"
    reliability(OTHERS, "the folder moved while it learns", tried=len(found), survived=good, lost=lost)
    assert good == len(found)


@pytest.mark.slow
def test_a_copy_that_is_made_at_any_event_goes_on_by_itself(tmp_path: Path, reliability: Reliability) -> None:
    run, copies = copy(prepared(), tmp_path / "run"), list[Path]()
    with plain_pictures():
        for number, _ in enumerate(resume_training(run, {})):
            copies.append(copy(run, tmp_path / f"copy-{number}"))
    good = 0
    for one in copies:
        with plain_pictures():
            go_on(one)
        good += not find_differences(one, uninterrupted())
    reliability(OTHERS, "the folder copied while it learns, the copy goes on", tried=len(copies), survived=good)
    assert good == len(copies) and not find_differences(run, uninterrupted())


@pytest.mark.parametrize("kind", [Evaluated, CheckpointSaved])
def test_a_run_that_is_deleted_while_it_learns_is_one_error_and_comes_not_back(
    tmp_path: Path, reliability: Reliability, kind: type[Event]
) -> None:
    run = copy(prepared(), tmp_path / "run")
    with plain_pictures(), pytest.raises(OutputError, match="it was moved or deleted"):
        for event in resume_training(run, {}):
            if isinstance(event, kind):
                shutil.rmtree(run)
    reliability(
        OTHERS, "the folder deleted while it learns: one error", tried=1, survived=int(not run.exists()), lost="it"
    )
    assert not run.exists()


def test_another_run_in_the_old_place_is_left_alone(tmp_path: Path, reliability: Reliability) -> None:
    run, moved = copy(prepared(), tmp_path / "run"), tmp_path / "moved"
    before: dict[str, str] = {}

    def take_its_place() -> None:
        run.rename(moved)
        copy(prepared(), run)
        before.update(hash_tree(run))

    with plain_pictures(), pytest.raises(OutputError, match="is no longer the folder of this run"):
        act_at(run, 10, take_its_place)
    same = hash_tree(run) == before
    reliability(OTHERS, "the folder moved, and another run in its place", tried=1, survived=int(same))
    assert same


# -- clocks and texts


@pytest.mark.parametrize("seconds", [-3.2e8, 3.2e8])
def test_a_clock_that_is_set_changes_nothing(tmp_path: Path, reliability: Reliability, seconds: float) -> None:
    """Ten years back or on, in the middle of a run and before it goes on."""
    run, calls, now = copy(prepared(), tmp_path / "run"), count(), time.time
    with plain_pictures():
        with mock.patch("time.time", lambda: now() + (seconds if next(calls) > 5 else 0)):
            stops = count()
            go_on(run, should_stop=lambda: next(stops) >= 10)
        for path in run.rglob("*"):
            os.utime(path, (1, 1))
        with mock.patch("time.time", lambda: now() + seconds):
            go_on(run)
    same = not find_differences(run, uninterrupted())
    reliability(OTHERS, "the clock set back or on by ten years", tried=1, survived=int(same))
    assert same


@pytest.mark.parametrize("change", ["changed", "deleted"])
def test_the_text_may_change_under_a_run(tmp_path: Path, reliability: Reliability, change: str) -> None:
    """It has been read; the run keeps the tokens."""
    text, run = write_sonnets(tmp_path, 3_000, "faults.txt"), tmp_path / "run"
    asked, calls = TrainSettings(**HOW, optimizer="muon", base="none"), count()
    with plain_pictures():
        for event in run_training([str(text)], asked, run, should_stop=lambda: next(calls) >= 10):
            if isinstance(event, Planned):
                text.write_text("something else") if change == "changed" else text.unlink()
    with plain_pictures():
        go_on(run)
    same = set(find_differences(run, uninterrupted())) <= {"receipt.json"}  # it names the text's own place
    reliability(OTHERS, f"the text {change} while it learns", tried=1, survived=int(same))
    assert same
