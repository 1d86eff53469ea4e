"""Voices mixed: several models as one, by their weights or by their probabilities, or a clear refusal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient
from transformers import AutoModelForCausalLM, AutoTokenizer

import epigone
from epigone.errors import OutputError, SettingsError
from epigone.hardware import find_hardware
from epigone.mixing import divide_shares, open_mixture
from epigone.model.combination import MixedDecoder
from epigone.model.decoder import FastDecoder
from epigone.model.gpt2 import load_model
from epigone.run import open_generator
from epigone.serving.app import Limits, make_app
from epigone.serving.guard import AccessRules
from epigone.serving.library import ModelLibrary
from epigone.settings import WriteSettings, make_settings, parse_mix
from epigone.tokens.tokenizer import train_tokenizer
from helpers_front import command, shared_run
from helpers_serving import complete, list_texts
from helpers_writing import make_random_model

HOW: dict[str, Any] = {"length": 30, "seed": 3, "precision": "fp32", "words": "any"}


def save_changed(place: Path, amount: float, seed: int = 0) -> Path:
    """The shared run's model with each weight changed by so much of its size: tuned a little, or another model."""
    shutil.copytree(shared_run().path / "model", place)
    random = torch.Generator().manual_seed(seed)
    weights = load_file(place / "model.safetensors")
    changed = {
        name: weight + amount * weight.std(correction=0) * torch.randn(weight.shape, generator=random)
        for name, weight in weights.items()
    }
    save_file(changed, place / "model.safetensors", metadata={"format": "pt"})
    return place


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that began from the run's weights."""
    return save_changed(tmp_path_factory.mktemp("near") / "near", 0.3)


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that did not."""
    return save_changed(tmp_path_factory.mktemp("far") / "far", 3.0)


# -- shares


def test_what_is_left_goes_to_the_first_run_and_to_those_without_a_share() -> None:
    assert divide_shares("a", ["b:0.4"]) == [("a", 0.6), ("b", 0.4)]
    assert divide_shares("a", ["b"]) == [("a", 0.5), ("b", 0.5)]
    assert divide_shares("a", ["b:50%", "c"]) == [("a", 0.25), ("b", 0.5), ("c", 0.25)]
    assert divide_shares("a", ["b:1"]) == [("a", 0.0), ("b", 1.0)]
    assert divide_shares("a", ["b:0.1", "c:0.2", "d:0.7"])[0][1] == pytest.approx(0, abs=1e-12)
    assert divide_shares("a", [r"C:\runs\b"])[1] == (r"C:\runs\b", 0.5)


@pytest.mark.parametrize("mix", [["b:0.7", "c:0.4"], ["b:0.2", "b:0.2"], ["a:0.5"]])
def test_shares_that_are_more_than_one_and_runs_that_are_named_twice_are_refused(mix: list[str]) -> None:
    with pytest.raises(SettingsError, match="in the mixture"):
        divide_shares("a", mix)


@pytest.mark.parametrize("mix", ["runs/poe:1.4", "runs/poe:-0.1", ""])
def test_a_share_is_from_0_to_1(mix: str) -> None:
    with pytest.raises(SettingsError, match="a run and its share"):
        make_settings(WriteSettings, {"mix": mix})


@pytest.mark.parametrize("mix", ["runs/poe:0.4", "runs/poe:0,4", "runs/poe:40%", "runs/poe:.4"])
def test_a_share_may_be_written_as_people_write_it(mix: str) -> None:
    assert parse_mix(mix) == ("runs/poe", 0.4)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("b:1.4", "--out", "both"), "a run and its share, from 0 to 1"),
        (("b:0.4",), "mix needs --out FOLDER."),
        (("--out", "both"), "mix needs RUN:SHARE."),
        (("no/such/run:0.4", "--out", "both"), "There is no folder no/such/run"),
    ],
    ids=str,
)
def test_the_command_mix_says_what_is_wrong(given: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = command("mix", shared_run().path, *given)
    assert done.code == 2
    assert says in done.err
    assert "--mix" not in done.err
    assert "--base" not in done.err


def test_python_takes_a_mapping_a_text_or_a_list() -> None:
    several = [{"runs/poe": 0.4}, "runs/poe:0.4", ["runs/poe:0.4"], ("runs/poe:0.4",)]
    assert {make_settings(WriteSettings, {"mix": mix}).mix for mix in several} == {("runs/poe:0.4",)}


# -- by weights


def test_models_that_began_alike_are_mixed_by_their_weights(near: Path) -> None:
    mixture = open_mixture(shared_run().path, [f"{near}:0.25"])
    mixed = mixture.mix_weights()
    assert mixed is not None
    one, other = (dict(load_model(path).named_parameters()) for path in (shared_run().path / "model", near))
    for name, tensor in mixed.tensors.items():
        torch.testing.assert_close(tensor, (0.75 * one[name] + 0.25 * other[name]).detach())
    assert isinstance(mixture.open_decoder("fp32", find_hardware("cpu")), FastDecoder)


def test_at_the_ends_it_is_one_of_the_models(near: Path) -> None:
    run, settings = shared_run(), WriteSettings(**HOW)
    alone, other = run.write("Shall", **HOW), open_generator(near, settings).write("Shall", settings)
    assert run.write("Shall", mix={near: 0}, **HOW) == alone
    at_one, between = run.write("Shall", mix={near: 1}, **HOW), run.write("Shall", mix={near: 0.5}, **HOW)
    assert at_one == other != alone
    assert between not in (alone, other)


def test_the_training_text_of_a_mixture_is_known(near: Path) -> None:
    generator = open_generator(near, WriteSettings(mix=(f"{shared_run().path}:0.3",)))
    assert [str(text) for text in generator.documents] == [str(text) for text in shared_run().folder.read_documents()]


def test_a_mixture_is_saved_as_a_stock_model(near: Path, tmp_path: Path) -> None:
    run, out = shared_run().path, tmp_path / "both"
    done = command("mix", run, f"{near}:0.4", "--out", out)
    assert done.code == 0, done.err
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out).eval(), AutoTokenizer.from_pretrained(out)
    ids = torch.tensor([tokenizer("Shall I compare thee").input_ids])
    decoder = open_mixture(run, [f"{near}:0.4"]).open_decoder("fp32", find_hardware("cpu"))
    with torch.inference_mode():
        torch.testing.assert_close(decoder.read_all(ids), model(ids).logits[0], rtol=0, atol=1e-3)
    written = command("write", out, "--prompt", "Shall", "--length", "10")
    assert written.code == 0
    assert written.out.startswith("Shall")
    assert "0.4 of" in (out / "README.md").read_text("utf-8")
    with pytest.raises(OutputError, match="already exists"):
        epigone.mix(run, f"{near}:0.4", out)


# -- by probabilities


def test_others_with_the_same_tokenizer_are_mixed_by_their_probabilities(far: Path) -> None:
    mixture = open_mixture(shared_run().path, [f"{far}:0.3"])
    assert mixture.mix_weights() is None
    decoder, ids = mixture.open_decoder("fp32", find_hardware("cpu")), torch.tensor([[5, 6, 7, 8]])
    assert isinstance(decoder, MixedDecoder)
    with torch.inference_mode():
        theirs = [load_model(path)(ids).logits[0].softmax(-1) for path in (shared_run().path / "model", far)]
        expected = (0.7 * theirs[0] + 0.3 * theirs[1]).log()
        torch.testing.assert_close(decoder.read_all(ids), expected, rtol=0, atol=1e-4)
        state = decoder.begin(ids[:, :3], 8, 1)
        torch.testing.assert_close(state.logits, expected[2:3], rtol=0, atol=1e-4)
        torch.testing.assert_close(state.copy().step(ids[:, 3]), expected[3:], rtol=0, atol=1e-4)
        torch.testing.assert_close(decoder.step_together([state], ids[:, 3]), expected[3:], rtol=0, atol=1e-4)


def test_only_mixed_weights_can_be_saved(far: Path, tmp_path: Path) -> None:
    done = command("mix", shared_run().path, f"{far}:0.4", "--out", tmp_path / "both")
    assert done.code == 2
    assert "did not begin from the same weights" in done.err
    assert not (tmp_path / "both").exists()


def test_a_mixture_needs_one_tokenizer(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["another text altogether"], 280)
    make_random_model(tokenizer).save_pretrained(tmp_path / "other")
    tokenizer.as_stock().save_pretrained(tmp_path / "other")
    done = command("write", shared_run().path, "--mix", f"{tmp_path / 'other'}:0.5")
    assert done.code == 2
    assert "their tokenizers differ" in done.err
    assert "--base" in done.err


def test_the_best_for_one_author_is_not_asked_of_a_mixture(near: Path) -> None:
    with pytest.raises(SettingsError, match="--mix"):
        shared_run().write(mix={near: 0.5}, best_of=2)


# -- the server


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of a server with two runs: the shared one, and a copy with other weights."""
    place = tmp_path_factory.mktemp("served")
    shutil.copytree(shared_run().path, place / "other")
    shutil.rmtree(place / "other" / "model")
    save_changed(place / "other" / "model", 0.3)
    (place / "other" / "sums.json").unlink()
    library = ModelLibrary(None, [shared_run().path, place / "other"], with_bases=True)
    app = make_app(library, AccessRules(), Limits())
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as served:
        yield served


def test_the_server_mixes(client: TestClient) -> None:
    how = {"seed": 1, "max_tokens": 20, "prompt": "Shall"}
    alone, none = list_texts(complete(client, **how)), list_texts(complete(client, mix={"other": 0}, **how))
    half = list_texts(complete(client, mix={"other": 0.5}, **how))
    assert none == alone != half
    assert list_texts(complete(client, mix={"other": 0.5}, **how)) == half
    assert list_texts(complete(client, mix={"other": 1}, **how)) == list_texts(complete(client, model="other", **how))


@pytest.mark.parametrize(
    ("mix", "status", "says"),
    [
        ({"nobody": 0.5}, 404, "no model"),
        ({"other": 1.5}, 400, "less than or equal to 1"),
        ({"other": 0.7, "small": 0.7}, 400, "more than 1"),
        ({"run": 0.5}, 400, "itself"),
        ({"small": 0.5}, 400, "different tokenizers"),
        ({"other": "much"}, 400, "number"),
    ],
    ids=str,
)
def test_the_server_says_why_it_cannot_mix(client: TestClient, mix: Any, status: int, says: str) -> None:
    answer = client.post("/v1/completions", json={"mix": mix, "max_tokens": 3})
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"]["message"]
    assert "/" not in answer.json()["error"]["message"]
