"""Adapters change nothing until they learn, learn in place of the base's weights, and end as a stock GPT-2."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import epigone
from epigone.errors import SettingsError
from epigone.model.gpt2 import load_model
from epigone.model.lora import add_adapters, find_weight, merge_weights
from epigone.pipeline import run_training
from epigone.planning import plan as planning
from epigone.resumption import resume_training
from epigone.settings import TrainSettings
from epigone.training.events import CheckpointSaved
from helpers_front import command, early_sonnets, workshop
from helpers_plan import change
from standin import hub_root
from test_forward import assert_equal, compute, look_up, make_batch, make_model

ASKED = {"lora": 4, "epochs": 4.0, "batch_size": 8, "block_size": 64, "samples": 0, "learning_rate": 2e-2}


def base() -> Path:
    return hub_root() / "gpt2"


@cache
def adapted() -> Path:
    """A finished run."""
    run = workshop() / "adapted"
    epigone.train(early_sonnets(), out=run, base=str(base()), **ASKED)
    return run


def test_before_they_learn_they_change_nothing() -> None:
    plain, model = make_model(), make_model()
    add_adapters(model, 4, seed=0)
    assert torch.equal(compute(model)[0], compute(plain)[0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_loss_and_the_gradients_are_those_of_peft(attention: str) -> None:
    model = make_model()
    add_adapters(model, 4, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter += 0.05 * torch.randn_like(parameter)
    assert_equal(compute(model, attention=attention), look_up(model), 1e-5)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_at_every_rank_the_product_of_the_thin_matrices_counts_twice(rank: int) -> None:
    """So that a learning rate that suits one rank suits another (Hu et al. 2021, 4.1)."""
    model = make_model()
    add_adapters(model, rank, seed=0)
    layer: Any = model.transformer.h[0].mlp.c_fc
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        up += torch.randn_like(up)
        expected = layer.base_layer.weight + 2 * (up @ down).T
    torch.testing.assert_close(find_weight(layer), expected)


def test_merged_they_compute_the_same() -> None:
    model, stock = make_model(), make_model()
    add_adapters(model, 4, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    before = stock(input_ids=make_batch()[0]).logits
    stock.load_state_dict(merge_weights(model))
    after = stock(input_ids=make_batch()[0]).logits
    torch.testing.assert_close(after, model(input_ids=make_batch()[0]).logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, after, atol=1e-2)


def test_equal_seeds_make_equal_adapters() -> None:
    models = [make_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_adapters(model, 4, seed)
    one, same, other = (dict(model.named_parameters()) for model in models)
    name = "transformer.h.0.mlp.c_fc.lora_A.default.weight"
    assert torch.equal(one[name], same[name]) and not torch.equal(one[name], other[name])


def test_a_run_learns_and_leaves_a_stock_model() -> None:
    run = epigone.open_run(adapted())
    assert run.evaluations[-1].loss < run.evaluations[0].loss - 0.02
    model = AutoModelForCausalLM.from_pretrained(run.folder.model, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(run.folder.model, local_files_only=True)
    assert not any("lora" in name for name, _ in model.named_parameters())
    assert tokenizer.decode(tokenizer("Shall I").input_ids) == "Shall I"
    assert run.write("Shall I", length=10)


def test_the_bases_own_weights_outside_the_blocks_matrices_stay_as_they_were() -> None:
    before, after = (dict(load_model(folder).named_parameters()) for folder in (base(), adapted() / "model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")) for name in changed)


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    settings = TrainSettings(base=str(base()), **ASKED)
    seen: list[bool] = []
    events = run_training(
        [str(early_sonnets())], settings, tmp_path / "run", should_stop=lambda: bool(seen.append(True)) or len(seen) > 4
    )
    assert [event for event in events if isinstance(event, CheckpointSaved)][-1].step == 4
    assert list(resume_training(tmp_path / "run", {}))
    whole, resumed = (load_model(run / "model").state_dict() for run in (adapted(), tmp_path / "run"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_plan_says_that_there_are_adapters() -> None:
    outcome = command("plan", early_sonnets(), "--base", base(), "--lora", "4", "--block-size", "64", "--samples", "0")
    assert outcome.code == 0 and "of rank 4" in outcome.out


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"base": "none"}, "--lora 4 needs a base"),
        ({"optimizer": "muon"}, "--optimizer muon does not go with --lora"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        epigone.plan(early_sonnets(), **{"base": str(base()), "lora": 4, "block_size": 64, "samples": 0} | asked)


def test_without_peft_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "can_adapt", lambda: False)
    with pytest.raises(SettingsError, match="needs the package peft") as caught:
        epigone.plan(early_sonnets(), base=str(base()), lora=4, block_size=64, samples=0)
    assert "epigone[lora]" in str(caught.value.hint)
    assert epigone.plan(early_sonnets(), base=str(base()), block_size=64, samples=0).plan.model.lora is None


def test_a_plan_with_adapters_survives_being_written_and_read() -> None:
    plan = epigone.open_run(adapted()).folder.read_manifest().plan
    assert plan.model.lora == 4 and change(plan, lora=None) != plan
