"""A model is a stock GPT-2: built from a seed, loaded in fp32, saved as everybody else can load it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2LMHeadModel
from transformers.activations import ACT2FN
from transformers.utils import logging

from epigone.errors import BaseUnusable, RunDamaged
from epigone.model.gpt2 import (
    build_model,
    load_model,
    load_weights,
    read_shape,
    save_config_and_tokenizer,
    save_weights,
)
from epigone.model.hub import WEIGHTS
from epigone.model.size import Shape
from epigone.planning.plan import Plan
from epigone.tokens.tokenizer import encode
from helpers_front import sonnets, workshop
from helpers_tokens import make_hardware, plan_for, small_tokenizer
from standin import make_standin

SMALL: dict[str, Any] = {"size": "2x64", "block_size": 48, "vocab_size": 400}
FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def build_small(**asked: Any) -> GPT2LMHeadModel:
    plan = plan_for(**{**SMALL, **asked})
    return build_model(plan.model, None, small_tokenizer().end_of_text_id, seed=plan.seed)


def save(model: GPT2LMHeadModel, folder: Path) -> Path:
    save_config_and_tokenizer(model, copy.deepcopy(small_tokenizer()), folder)  # it is told how long a text can be
    save_weights(model, folder / WEIGHTS)
    return folder


@cache
def standin() -> Path:
    """A base in the layout of the published GPT-2, which has learned a little. Shared: none may change it."""
    return make_standin(workshop() / "standin", text=sonnets(4_000), steps=5, n_positions=48)


def plan_for_base(folder: Path, **asked: Any) -> Plan:
    shape = read_shape(json.loads((folder / "config.json").read_text("utf-8")))
    return plan_for(base=str(folder), base_shape=shape, block_size=48, **asked)


def build_base(folder: Path, **asked: Any) -> GPT2LMHeadModel:
    return build_model(plan_for_base(folder, **asked).model, folder, 0, seed=0)


@torch.no_grad()
def compute_logits(model: GPT2LMHeadModel) -> torch.Tensor:
    """On some of the sonnets: float32 [1, 48, entries]."""
    model.train(False)
    ids = encode(sonnets(400), small_tokenizer())[:48]
    logits: torch.Tensor = model(input_ids=torch.tensor([ids])).logits
    return logits


def assert_equal_weights(one: GPT2LMHeadModel, other: GPT2LMHeadModel) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


# -- a fresh model


def test_a_fresh_model_is_stock_and_of_the_planned_shape() -> None:
    plan, model = plan_for(**SMALL), build_small()
    assert type(model) is GPT2LMHeadModel and model.num_parameters() == plan.model.n_parameters
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}
    assert {weights.device.type for weights in model.parameters()} == {"cpu"}
    assert (
        read_shape(model.config.to_dict())
        == plan.model.shape
        == Shape(n_layer=2, n_embd=64, n_head=2, n_positions=48, vocab_size=400)
    )
    assert model.config.eos_token_id == model.config.bos_token_id == small_tokenizer().end_of_text_id
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_fresh_model_guesses_among_all_entries_alike() -> None:
    ids = torch.tensor([encode(sonnets(400), small_tokenizer())[:48]])
    assert build_small()(input_ids=ids, labels=ids).loss.item() == pytest.approx(math.log(400), abs=0.15)


def test_the_seed_and_nothing_else_makes_the_weights() -> None:
    first = build_small(seed=3)
    torch.rand(5)  # moves the generator that others draw from
    assert_equal_weights(first, build_small(seed=3))
    one, other = (model.transformer.wte.weight for model in (first, build_small(seed=4)))
    assert not torch.equal(one, other)
    assert torch.equal(build_small(seed=0).transformer.wte.weight, build_small().transformer.wte.weight)


def test_no_random_numbers_of_others_are_used_up() -> None:
    before = torch.get_rng_state()
    build_small(seed=3)
    build_base(standin())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_there_is_dropout_as_planned_and_none_in_the_attention(dropout: float) -> None:
    assert json.loads((standin() / "config.json").read_text("utf-8"))["attn_pdrop"] > 0, "the base was made with some"
    for model in (build_small(dropout=dropout), build_base(standin(), dropout=dropout)):
        found = {name: part.p for name, part in model.named_modules() if isinstance(part, torch.nn.Dropout)}
        assert found["transformer.drop"] == found["transformer.h.1.mlp.dropout"] == dropout
        assert found["transformer.h.1.attn.resid_dropout"] == dropout
        assert {p for name, p in found.items() if name.endswith("attn_dropout")} == {0.0}
        assert (model.config.attn_pdrop, model.config.resid_pdrop, model.config.embd_pdrop) == (0.0, dropout, dropout)


def test_attention_is_computed_as_planned() -> None:
    for device, attention in (("cpu", "eager"), ("cuda", "sdpa")):
        machine = make_hardware(device)
        for model in (build_small(hardware=machine), build_base(standin(), hardware=machine)):
            assert model.config._attn_implementation == attention
    plain, fused = (compute_logits(build_small(hardware=make_hardware(device))) for device in ("cpu", "cuda"))
    assert torch.allclose(plain, fused, atol=1e-5)


# -- the activation


def test_the_fused_activation_is_gpt2_s_own_to_float_rounding() -> None:
    x = torch.linspace(-12, 12, 100_001)
    ours, theirs = ACT2FN[build_small().config.activation_function], ACT2FN["gelu_new"]
    assert torch.allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    exact = theirs(x.double())
    assert (ours(x).double() - exact).abs().max() <= 2 * (theirs(x).double() - exact).abs().max()


def test_a_base_computes_what_transformers_computes_with_it() -> None:
    stock = GPT2LMHeadModel.from_pretrained(standin())
    assert stock.config.activation_function == "gelu_new"
    ours = build_base(standin())
    assert ours.config.activation_function == "gelu_pytorch_tanh"
    assert torch.allclose(compute_logits(ours), compute_logits(stock), atol=1e-5)


def test_another_activation_is_left_as_it_is(tmp_path: Path) -> None:
    folder = make_standin(tmp_path, text=sonnets(4_000), n_positions=48)
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"activation_function": "relu"}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert build_base(folder).config.activation_function == "relu"


# -- saved


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_what_is_saved_is_loaded_by_transformers_alone_and_computes_the_same(tmp_path: Path, attention: str) -> None:
    model = build_small(hardware=make_hardware("cpu" if attention == "eager" else "cuda"), seed=8)
    save(model, tmp_path)
    loaded, told = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation=attention, output_loading_info=True
    )
    assert type(loaded) is GPT2LMHeadModel and not any(told.values())
    assert torch.equal(compute_logits(loaded), compute_logits(model))
    assert_equal_weights(loaded, model)


def test_a_saved_folder_holds_what_a_stock_one_does(tmp_path: Path) -> None:
    save(build_small(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert (config["model_type"], config["architectures"], config["dtype"]) == ("gpt2", ["GPT2LMHeadModel"], "float32")
    assert not [path.name for path in tmp_path.iterdir() if b"epigone" in path.read_bytes()]
    assert "auto_map" not in config


def test_a_saved_folder_says_where_a_text_ends_and_how_long_it_can_be(tmp_path: Path) -> None:
    save(build_small(), tmp_path)
    tokenizer, end = AutoTokenizer.from_pretrained(tmp_path), small_tokenizer().end_of_text_id
    assert tokenizer(sonnets(300))["input_ids"] == encode(sonnets(300), small_tokenizer())
    assert tokenizer.model_max_length == 48 and tokenizer.eos_token_id == end
    generation = GenerationConfig.from_pretrained(tmp_path)
    assert (generation.eos_token_id, generation.bos_token_id, generation.do_sample) == (end, end, True)


def test_the_weights_are_stored_once_in_fp32_and_with_their_origin(tmp_path: Path) -> None:
    save_weights(build_small(), tmp_path / WEIGHTS)
    with safe_open(tmp_path / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        names = set(file.keys())
    assert "transformer.wte.weight" in names and "lm_head.weight" not in names
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.float32}


def test_weights_come_back_into_another_model_of_the_shape(tmp_path: Path) -> None:
    first, second = build_small(seed=1), build_small(seed=2)
    save_weights(first, tmp_path / WEIGHTS)
    load_weights(second, tmp_path / WEIGHTS)
    assert_equal_weights(first, second)
    assert second.lm_head.weight is second.transformer.wte.weight
    save_weights(build_small(seed=3), tmp_path / WEIGHTS)  # in place of the others
    load_weights(second, tmp_path / WEIGHTS)
    assert_equal_weights(build_small(seed=3), second)
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]


# -- loaded


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_a_base_in_half_precision_is_loaded_in_full(tmp_path: Path, stored: torch.dtype) -> None:
    folder = make_standin(tmp_path, text=sonnets(4_000), n_positions=48)
    halves = {name: tensor.to(stored) for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8")) | {"dtype": str(stored).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for model in (build_base(folder), load_model(folder)):
        assert {weights.dtype for weights in model.parameters()} == {torch.float32}
        assert torch.equal(model.transformer.wte.weight, halves["wte.weight"].float())
        save(model, tmp_path / "saved")
        saved = json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))
        assert saved["dtype"] == "float32"


def test_a_model_is_loaded_for_writing_without_dropout(tmp_path: Path) -> None:
    model = build_small(dropout=0.5)
    loaded = load_model(save(model, tmp_path))
    assert not loaded.training and loaded.config._attn_implementation == "sdpa"
    assert load_model(tmp_path, attention="eager").config._attn_implementation == "eager"
    assert_equal_weights(loaded, model)


def test_nothing_is_drawn_while_loading_and_the_user_s_bars_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert logging.is_progress_bar_enabled()
    load_model(standin())
    assert capsys.readouterr() == ("", "") and logging.is_progress_bar_enabled()


# -- damage


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut short": cut_short,
    "emptied": lambda path: path.write_bytes(b""),
    "no safetensors": lambda path: path.write_bytes(b"once upon a time" * 9),
    "missing": lambda path: path.unlink(),
    "a configuration cut short": lambda path: cut_short(path.with_name("config.json")),
}
WEIGHTS_ALONE = {name: damage for name, damage in DAMAGES.items() if "configuration" not in name}
OTHERS: dict[str, Callable[[Path], object]] = {
    "a tensor too few": change_tensors(lambda tensors: tensors.pop("transformer.h.1.mlp.c_fc.weight")),
    "a tensor too many": change_tensors(lambda tensors: tensors.update(more=torch.zeros(3))),
    "another shape": change_tensors(lambda tensors: tensors.update({"transformer.ln_f.bias": torch.zeros(3)})),
}


@pytest.mark.parametrize("damage", (WEIGHTS_ALONE | OTHERS).values(), ids=WEIGHTS_ALONE | OTHERS)
def test_weights_that_are_not_this_model_s_are_told(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save_weights(build_small(), tmp_path / WEIGHTS)
    damage(tmp_path / WEIGHTS)
    with pytest.raises(RunDamaged, match=r"model\.safetensors"):
        load_weights(build_small(), tmp_path / WEIGHTS)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_model_is_told_with_the_way_out(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save(build_small(), tmp_path)
    damage(tmp_path / WEIGHTS)
    with pytest.raises(RunDamaged, match="cannot be loaded") as caught:
        load_model(tmp_path)
    assert str(tmp_path) in str(caught.value) and "epigone resume" in caught.value.hint


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_base_is_told_with_the_way_out(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    folder = make_standin(tmp_path, text=sonnets(4_000), n_positions=48)
    plan = plan_for_base(folder)
    damage(folder / WEIGHTS)
    with pytest.raises(BaseUnusable, match="cannot be loaded as a GPT-2") as caught:
        build_model(plan.model, folder, 0, seed=0)
    assert "--base" in caught.value.hint
