"""A base is fetched once, learned on from, and kept as a stock model; what it knew already is worth something."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

import epigone
from epigone import WriteSettings
from epigone import run as run_module
from epigone.errors import SettingsError
from epigone.model.gpt2 import build_model
from epigone.training.events import Evaluated
from epigone.training.trainer import Trainer
from helpers_front import Outcome, command, early_sonnets, finish, shared_run, sonnets, start, workshop
from helpers_plan import change
from hub_server import HubServer
from standin import hub_root

QUICK = ("--epochs", "1", "--batch-size", "8", "--block-size", "64", "--samples", "0", "--learning-rate", "1e-3")
LITTLE = {"epochs": 1.0, "batch_size": 8, "block_size": 64, "samples": 0, "learning_rate": 1e-3}
DEAD = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Fetched:
    first: Outcome
    requests: int
    folder: Path


@cache
def fetch() -> Fetched:
    """A command with a hub and an empty cache."""
    folder = workshop() / "fetched"
    with (
        HubServer(hub_root()) as hub,
        mock.patch.multiple(
            constants,
            ENDPOINT=hub.url,
            HUGGINGFACE_CO_URL_TEMPLATE=f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            HF_HUB_CACHE=str(folder / "cache" / "hub"),
        ),
    ):
        first = command("train", early_sonnets(), *QUICK, "--base", "gpt2", "--out", folder / "one")
        return Fetched(first=first, requests=hub.requests.total(), folder=folder)


@cache
def go_without() -> Outcome:
    """Then a process of its own with the same cache and no hub."""
    folder = fetch().folder
    arguments = ("train", early_sonnets(), *QUICK, "--out", folder / "two")
    return finish(start(*arguments, HF_ENDPOINT=DEAD, HF_HOME=str(folder / "cache")))


def test_a_base_is_downloaded_and_learned_on_from() -> None:
    found = fetch()
    assert found.first.code == 0, found.first.err
    assert found.requests > 3 and "gpt2" in found.first.out
    losses = [item.loss for item in epigone.open_run(found.folder / "one").evaluations]
    assert losses[-1] < losses[0] - 0.02


@pytest.mark.slow
def test_without_a_network_the_cache_is_enough_and_the_plan_says_why_it_is_taken() -> None:
    second = go_without()
    assert second.code == 0, second.err
    assert "GPT-2's weights are on this machine" in second.out
    plan = json.loads((fetch().folder / "two" / "run.json").read_text("utf-8"))["plan"]
    assert plan["model"]["base"] == "gpt2" and len(plan["model"]["base_revision"]) == 40


@pytest.mark.slow
def test_both_ways_learn_the_same() -> None:
    assert go_without().code == 0
    folder = fetch().folder
    one, two = (epigone.open_run(folder / name).evaluations for name in ("one", "two"))
    assert [item.loss for item in one] == [item.loss for item in two]


def test_the_untouched_base_is_epoch_zero() -> None:
    first, *_ = epigone.open_run(fetch().folder / "one").evaluations
    assert (first.step, first.epoch, first.training_loss) == (0, 0.0, None)


def test_the_card_of_a_fine_tuned_model_names_its_base() -> None:
    card = (fetch().folder / "one" / "model" / "README.md").read_text("utf-8")
    assert "base_model: gpt2" in card


def test_a_fine_tuned_model_loads_without_us() -> None:
    folder = fetch().folder / "one" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    ids = tokenizer(sonnets(100), return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == sonnets(100) and model(input_ids=ids, labels=ids).loss < 7


def test_a_base_is_worth_its_start() -> None:
    """Beside a fresh model of the same shape on the same tokens, before the first step and after as many."""
    found = epigone.plan(
        early_sonnets(), base=str(hub_root() / "gpt2"), block_size=64, batch_size=8, epochs=1.0, samples=0
    )
    plan = change(found.plan, learning_rate=1e-3, precision="fp32")
    fresh = build_model(plan.model, None, found.tokenizer.end_of_text_id, seed=plan.seed)
    losses: dict[str, list[float]] = {}
    for name, model in (("fine-tuned", found.model), ("fresh", fresh)):
        events = list(Trainer(model, found.tokens, plan).learn())
        losses[name] = [event.loss for event in events if isinstance(event, Evaluated)]
    assert losses["fine-tuned"][0] < losses["fresh"][0] - 0.5
    assert losses["fine-tuned"][-1] < losses["fresh"][-1]
    assert losses["fine-tuned"][-1] < losses["fine-tuned"][0]


@pytest.mark.slow
def test_a_cold_cache_without_a_network_is_one_error_and_blocks_nothing(tmp_path: Path) -> None:
    arguments = ("train", early_sonnets(), *QUICK, "--base", "gpt2", "--out", tmp_path / "run")
    outcome = finish(start(*arguments, HF_ENDPOINT=DEAD, HF_HOME=str(tmp_path / "cold")))
    assert (outcome.code, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert first.startswith("error: gpt2 is neither a folder nor complete in the cache")
    assert "--base none" in second
    again = command(
        "train", early_sonnets(), *QUICK, "--base", "none", "--size", "1x32", "--quiet", "--out", tmp_path / "run"
    )
    assert again.code == 0, again.err


def test_any_gpt2_in_a_folder_can_write() -> None:
    outcome = command("write", hub_root() / "gpt2", "--prompt", "Thou", "--length", "10")
    assert outcome.code == 0 and outcome.out.startswith("Thou")


def test_the_style_of_a_fine_tuned_run_can_be_toned_down_to_its_base() -> None:
    """Its own base lies in another cache than this process's, so a run with a folder as its base is asked."""
    run = epigone.train(early_sonnets(), out=workshop() / "styled", base=str(hub_root() / "gpt2"), **LITTLE)
    base = run_module.open_generator(hub_root() / "gpt2").write(
        "Thou", WriteSettings(length=20, seed=1, stop_at="line")
    )
    how = {"length": 20, "seed": 1}
    assert run.write("Thou", **how, guidance=0.0) == base
    assert run.write("Thou", **how) == run.write("Thou", **how, guidance=1.0)
    assert len({run.write("Thou", **how, guidance=strength)[0] for strength in (0.0, 1.0, 3.0)}) > 1
    fresh = shared_run()
    with pytest.raises(SettingsError, match="fine-tuned from a base"):
        fresh.write("Thou", guidance=2.0)


def test_a_fine_tuned_run_writes() -> None:
    texts = epigone.open_run(fetch().folder / "one").write("Thou", length=10, count=2)
    assert len(texts) == 2 and all(texts)
