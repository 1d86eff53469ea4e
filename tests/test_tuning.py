"""The chosen temperature is the lowest at which a model is as varied as the author and repeats itself no more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from epigone import WriteSettings
from epigone.evaluation import sample_checks
from epigone.evaluation.repetition import AuthorRange
from epigone.evaluation.sample_checks import TEMPERATURES, TemperatureTrial, choose_temperature
from epigone.model.gpt2 import load_model
from epigone.model.weights import keep_temperature, read_temperature
from epigone.run import open_generator, open_run
from epigone.tokens.tokenizer import load_tokenizer
from helpers_front import command, shared_run, sonnets


def tune(monkeypatch: pytest.MonkeyPatch, dull_below: float, repeats_below: float) -> float:
    """The temperature chosen for a model that is too monotonous, or repetitive, below the given ones."""
    folder = shared_run().folder
    model, tokenizer = load_model(folder.model), load_tokenizer(folder.model)

    def attempt(writer: object, usual: AuthorRange, temperature: float, seed: int) -> TemperatureTrial:
        compression = usual.compression[1] + (0.1 if temperature < dull_below else -0.1)
        repeated = usual.repeated[1] + (0.1 if temperature < repeats_below else 0)
        return TemperatureTrial(temperature=temperature, compression=compression, repeated=repeated)

    monkeypatch.setattr(sample_checks, "_try_temperature", attempt)
    found = choose_temperature(model, tokenizer, [sonnets(9_000)], "", 0)
    assert found is not None and len(found.trials) <= 4
    return found.temperature


@pytest.mark.parametrize(
    ("dull_below", "repeats_below", "chosen"),
    [(0.84, 0.0, 0.85), (0.6, 0.0, 0.6), (0.6, 0.97, 1.0), (0.0, 0.0, TEMPERATURES[0]), (9.0, 0.0, TEMPERATURES[-1])],
)
def test_the_lowest_temperature_in_the_authors_range_is_found(
    monkeypatch: pytest.MonkeyPatch, dull_below: float, repeats_below: float, chosen: float
) -> None:
    assert tune(monkeypatch, dull_below, repeats_below) == chosen


def test_the_choice_for_a_real_model_is_reproducible() -> None:
    folder = shared_run().folder
    model, tokenizer = load_model(folder.model), load_tokenizer(folder.model)
    held_out = [sonnets(30_000)[20_000:]]
    found = choose_temperature(model, tokenizer, held_out, "", 0)
    assert found is not None and found == choose_temperature(model, tokenizer, held_out, "", 0)
    for trial in found.trials:
        fits = trial.compression <= found.most_compression and trial.repeated <= found.most_repeated
        assert fits == (trial.temperature >= found.temperature)


def test_with_little_held_out_nothing_is_chosen() -> None:
    folder = shared_run().folder
    assert choose_temperature(load_model(folder.model), load_tokenizer(folder.model), [sonnets(400)], "", 0) is None


def test_the_chosen_temperature_is_used_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(shared_run().path, path)
    keep_temperature(open_run(path).folder.model, 0.55)
    writer = open_generator(path)
    assert writer.temperature == 0.55
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
