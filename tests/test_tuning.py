"""The chosen temperature is the lowest at which a model is as varied as the author and repeats itself no more."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from epigone import WriteSettings
from epigone.evaluation import sample_checks
from epigone.evaluation.repetition import AuthorRange, Repetition
from epigone.evaluation.sample_checks import (
    COOLEST,
    HOTTEST,
    LEAST_REPEATED,
    TEMPERATURES,
    TemperatureChoice,
    choose_temperature,
)
from epigone.model.weights import keep_temperature, read_temperature
from epigone.run import Run, open_generator, open_run
from epigone.runs.folder import RunFolder
from helpers_front import command, shared_run, sonnets


def tune(monkeypatch: pytest.MonkeyPatch, dull_below: float, repeats_below: float) -> float:
    """The temperature chosen for a model that is too monotonous, or repetitive, below the given ones."""
    folder = shared_run().folder
    written = {f"{temperature} " * 500: temperature for temperature in TEMPERATURES}

    def check(text: str, usual: AuthorRange) -> tuple[Repetition, str]:
        compression, repeated = (
            math.exp(written[text] ** -2 - below**-2) if below else 0.9 for below in (dull_below, repeats_below)
        )
        compression, repeated = usual.compression[1] * compression, LEAST_REPEATED * (2 * repeated - 1)
        return Repetition(unit="words", repeated=(repeated,), compression=(compression,)), "good"

    monkeypatch.setattr(sample_checks, "_write_at_temperatures", lambda *_: list(written))
    monkeypatch.setattr(sample_checks, "check_repetition", check)
    found = choose(folder, sonnets(9_000))
    assert found is not None and found.most_repeated == LEAST_REPEATED
    return found.temperature


def choose(folder: RunFolder, held_out: str) -> TemperatureChoice | None:
    """The choice for the run's model beside this held-out text."""
    generator = Run(folder).open_generator(WriteSettings(device="cpu", precision="fp32"))
    return choose_temperature(generator, [held_out], 0)


@pytest.mark.parametrize(
    ("dull_below", "repeats_below", "chosen"),
    [(0.84, 0.0, 0.84), (0.7, 0.0, 0.7), (0.6, 0.97, 0.97), (0.0, 0.0, COOLEST), (9.0, 0.0, HOTTEST)],
)
def test_the_lowest_temperature_in_the_authors_range_is_found(
    monkeypatch: pytest.MonkeyPatch, dull_below: float, repeats_below: float, chosen: float
) -> None:
    assert tune(monkeypatch, dull_below, repeats_below) == chosen


def test_the_choice_for_a_real_model_is_reproducible() -> None:
    folder, held_out = shared_run().folder, sonnets(30_000)[20_000:]
    found = choose(folder, held_out)
    assert found is not None and found == choose(folder, held_out)
    assert [trial.temperature for trial in found.trials] == list(TEMPERATURES)
    assert found.trials[0].compression > found.trials[-1].compression


def test_with_little_held_out_nothing_is_chosen() -> None:
    assert choose(shared_run().folder, sonnets(400)) is None


def test_the_chosen_temperature_is_used_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(shared_run().path, path)
    keep_temperature(open_run(path).folder.model, 0.55)
    writer = open_generator(path)
    assert writer.defaults.temperature == 0.55
    cold = writer.write("Shall", WriteSettings(length=40, temperature=0.55))
    assert writer.write("Shall", WriteSettings(length=40)) == cold
    assert writer.write("Shall", WriteSettings(length=40, temperature=1.2)) != cold
    shown = json.loads(command("write", path, "--length", "5", "--json").out)
    assert shown["settings"]["temperature"] == 0.55


@pytest.mark.parametrize(
    "kept", ["{", "[]", '{"temperature": "hot"}', '{"temperature": -1}', '{"temperature": 1e9}', "{}"]
)
def test_an_invalid_temperature_is_ignored(tmp_path: Path, kept: str) -> None:
    (tmp_path / "generation_config.json").write_text(kept, "utf-8")
    assert read_temperature(tmp_path) == 0.8 == read_temperature(tmp_path / "nothing")
