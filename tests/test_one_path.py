"""The command and the library go one way from texts to a run, on which the model is built once."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import GPT2LMHeadModel

import epigone
from epigone import pipeline, resumption
from epigone.errors import EpigoneError
from epigone.pipeline import Planned, run_training
from epigone.settings import TrainSettings
from epigone.training.events import CheckpointSaved, Event, Finished, Stage, Started
from epigone.training.trainer import Trainer
from helpers_front import command, shared_run, write_sonnets
from standin import make_standin

QUICK: dict[str, Any] = {"epochs": 1.0, "block_size": 32, "batch_size": 16, "samples": 0, "device": "cpu"}


class Taken(EpigoneError):
    """The one path was taken."""


def test_the_command_and_the_library_train_by_the_same_function(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path)
    path = mock.Mock(side_effect=Taken("taken"))
    with mock.patch.object(pipeline, "run_training", path), mock.patch.object(resumption, "run_training", path):
        with pytest.raises(Taken):
            epigone.train(text, out=tmp_path / "run", epochs=2)
        assert command("train", text, "--out", tmp_path / "run", "--epochs", "2").code == 2
    one, other = path.call_args_list
    assert one.args == other.args == ([str(text)], TrainSettings(epochs=2.0), tmp_path / "run")


def test_the_command_and_the_library_resume_by_the_same_function() -> None:
    run = shared_run().path
    with mock.patch.object(resumption, "resume_training", side_effect=Taken("taken")) as path:
        with pytest.raises(Taken):
            epigone.resume(run, epochs=7.0)
        assert command("resume", run, "--epochs", "7").code == 2
    one, other = path.call_args_list
    assert one.args == other.args == (run, {"epochs": 7.0})


@pytest.mark.parametrize("base", ["none", "gpt2"])
@pytest.mark.benchmark
def test_before_the_first_step_the_model_is_built_once(tmp_path: Path, base: str) -> None:
    if base == "gpt2":
        base = str(make_standin(tmp_path / "base", text="From fairest creatures we desire increase. " * 40))
    asked = TrainSettings(base=base, size="1x32" if base == "none" else "auto", **QUICK)
    with (
        mock.patch.object(GPT2LMHeadModel, "__init__", autospec=True, side_effect=GPT2LMHeadModel.__init__) as built,
        mock.patch.object(Trainer, "__init__", autospec=True, side_effect=Trainer.__init__) as made,
    ):
        events = run_training([str(write_sonnets(tmp_path))], asked, tmp_path / "run")
        assert isinstance(next(events), Planned) and isinstance(next(events), Started)
        assert built.call_count == 1
        assert made.call_count == 2, "one more has measured the speed, on a copy of the model"


def test_what_an_event_says_is_on_the_disk_when_it_comes(tmp_path: Path) -> None:
    asked = TrainSettings(base="none", size="1x32", **QUICK)
    seen: list[Event] = []
    stages: list[str] = []
    for event in run_training([str(write_sonnets(tmp_path))], asked, tmp_path / "run"):
        if isinstance(event, Planned):
            folder = event.folder
            assert folder.read_manifest() == event.manifest and folder.read_receipt() == event.receipt
            continue
        if isinstance(event, Stage):
            stages.append(event.what)
        elif isinstance(event, CheckpointSaved):
            assert (folder.checkpoints / f"step-{event.step:06d}" / "manifest.json").exists()
        else:
            seen.append(event)
            assert list(folder.read_events()) == seen
        if getattr(event, "best", False):
            assert folder.find_damage_of_best() is None
    assert stages[-4:] == [
        "Saving a checkpoint",
        "Choosing the temperature to write at",
        "Judging what it writes",
        "Drawing the curves and writing the report",
    ]
    assert isinstance(event, Finished) and folder.report.exists(), "when it says that it is done, nothing is left to do"


def test_the_base_that_is_loaded_at_the_end_is_the_one_that_was_trained(tmp_path: Path) -> None:
    base = make_standin(tmp_path / "base", text="From fairest creatures we desire increase. " * 40)
    found = epigone.plan(write_sonnets(tmp_path), base=str(base), **QUICK)
    load = pipeline.base_weights_loader(found.plan)
    assert load is not None
    weights = load()
    assert all(torch.equal(weights[name], weight) for name, weight in found.model.named_parameters())
