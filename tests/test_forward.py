"""The function that is learned with is transformers' own, however it is computed; its dropout drops what it should."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from epigone.model.loss import LEVELS, NextTokenLoss, draw_bytes, gelu
from epigone.model.loss import dropout as drop
from epigone.model.weights import is_plain

BATCH, TIME, VOCABULARY = 3, 24, 96


def make_model(**config: Any) -> GPT2LMHeadModel:
    """Two layers, weights far enough from zero for every part to matter."""
    usual: dict[str, Any] = {"vocab_size": VOCABULARY, "n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 2}
    usual |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(**usual | config))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return model.train()


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(VOCABULARY, (BATCH, TIME + 1), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], ids[:, 1:]


def list_gradients(model: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    named = model.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.requires_grad}


def look_up(model: GPT2LMHeadModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """transformers' own loss and gradients."""
    ids, targets = make_batch()
    model.zero_grad()
    loss = functional.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten())
    loss.backward()
    return loss.detach(), list_gradients(model)


def compute(model: GPT2LMHeadModel, **how: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss, nats = NextTokenLoss(model, **how)(*make_batch())
    assert torch.equal(loss, nats)
    loss.backward()
    return loss.detach(), list_gradients(model)


def assert_equal(ours: Any, theirs: Any, tolerance: float) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=tolerance, atol=0)
    for name, gradient in theirs[1].items():
        largest = float(gradient.abs().max())
        torch.testing.assert_close(ours[1][name], gradient, rtol=0, atol=tolerance * largest, msg=name)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_loss_and_every_gradient_are_those_of_transformers(attention: str) -> None:
    model = make_model()
    assert_equal(compute(model, attention=attention), look_up(model), 1e-5)


@pytest.mark.parametrize("vocab_size", [97, 127, 128])
def test_a_tokenizer_that_fills_no_rows_of_64_is_padded_without_a_trace(vocab_size: int) -> None:
    model = make_model(vocab_size=vocab_size)
    assert_equal(compute(model), look_up(model), 1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("compile", ["layers", "full"])
def test_compiled_they_are_the_same(compile: str) -> None:
    model = make_model()
    assert_equal(compute(model, attention="eager", compile=compile), look_up(model), 1e-5)


def test_in_bf16_they_are_nearly_the_same() -> None:
    model = make_model()
    ours, theirs = compute(model, attention="eager", dtype=torch.bfloat16), look_up(model)
    assert_equal(ours, theirs, 0.03)
    assert not torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize(
    "config",
    [
        {"activation_function": "relu"},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"reorder_and_upcast_attn": True, "_attn_implementation": "eager"},
    ],
    ids=lambda config: next(iter(config)),
)
def test_a_variant_of_gpt2_is_computed_by_transformers_itself(config: dict[str, Any]) -> None:
    model = make_model(**config)
    assert not is_plain(model.config) and is_plain(make_model().config)
    assert_equal(compute(model), look_up(model), 1e-6)


def test_gelu_is_the_tanh_form() -> None:
    x = torch.linspace(-6, 6, 1001)
    torch.testing.assert_close(gelu(x), functional.gelu(x, approximate="tanh"), rtol=1e-5, atol=1e-6)


# -- dropout


def test_a_model_that_is_not_learning_drops_nothing_and_draws_nothing() -> None:
    model = make_model(resid_pdrop=0.5, embd_pdrop=0.5).eval()
    before = torch.get_rng_state()
    assert torch.equal(NextTokenLoss(model)(*make_batch()).nats, NextTokenLoss(model)(*make_batch()).nats)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_drawn_from_the_global_generator() -> None:
    """Which a checkpoint keeps: so a run goes on with the draws that it would have had."""
    loss = NextTokenLoss(make_model(resid_pdrop=0.2, embd_pdrop=0.2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, second = loss(*make_batch()).nats, loss(*make_batch()).nats
        torch.manual_seed(5)
        again = loss(*make_batch()).nats
    assert torch.equal(first, again) and not torch.equal(first, second)


@pytest.mark.parametrize("dropout", [0.001, 0.05, 0.1, 0.3, 0.5, 0.999])
def test_a_part_is_dropped_and_the_mean_stays(dropout: float) -> None:
    n = 1_000_000
    kept = drop(torch.ones(n), draw_bytes(n), dropout)
    share = float((kept == 0).float().mean())
    nearest = min(round(dropout * LEVELS), LEVELS - 1) / LEVELS
    assert abs(nearest - dropout) < 1 / LEVELS
    assert share == pytest.approx(nearest, abs=5 * (nearest / n) ** 0.5)
    assert float(kept.mean()) == pytest.approx(1, abs=0.1 if dropout > 0.9 else 0.005)
    assert kept.unique().numel() == (2 if nearest else 1)


def test_every_byte_is_as_likely() -> None:
    """Also the highest of each word, of which torch's usual draw leaves one bit zero."""
    drawn = draw_bytes(8, 1_000_001 // 8 + 1)
    counts = torch.bincount(drawn.flatten().long(), minlength=256).double()
    expected = drawn.numel() / 256
    assert float(((counts - expected) ** 2 / expected).sum()) < 255 + 6 * (2 * 255) ** 0.5
    top = draw_bytes(80_000).view(-1, 8)[:, 7].double()
    assert float(top.mean()) == pytest.approx(127.5, abs=5 * 74 / 10_000**0.5)


def test_what_is_dropped_here_says_nothing_of_there() -> None:
    first, second = (draw_bytes(200_000).double() for _ in range(2))
    pairs = torch.stack([first, second, first.roll(1), first.roll(8)])
    off = torch.corrcoef(pairs) - torch.eye(4)
    assert float(off.abs().max()) < 5 / 200_000**0.5
