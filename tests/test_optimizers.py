"""Decay pulls at matrices alone, fine-tuning goes by AdamW, and an optimizer's state survives a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from epigone.planning.plan import Plan
from epigone.training.optimizer import FIVE, THREE, Muon, Polynomials, make_optimizer, pack_state, unpack_state
from helpers_plan import change
from helpers_training import are_equal, copy_weights, make_tokens, plan_for, tiny_model

TOKENS = make_tokens()


def plan_with(base: str = "none", **settings: object) -> Plan:
    """For a fresh model that is Muon beside AdamW, for fine-tuning AdamW alone."""
    optimizer = "muon" if base == "none" else "adamw"
    plan = plan_for(TOKENS, learning_rate=0.01, weight_decay=0.3, optimizer=optimizer, **settings)
    return change(plan, base=base)


def give_gradients(model: GPT2LMHeadModel, step: int) -> None:
    """Made-up gradients, the same for the same step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def take_steps(model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        give_gradients(model, step)
        optimizer.step()


# -- what it is made of


def step_without_a_gradient(plan: Plan) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights of a fresh model before and after a step in which every gradient is zero."""
    model = tiny_model(plan)
    optimizer = make_optimizer(model, plan)
    before = copy_weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return before, copy_weights(model)


@pytest.mark.parametrize("base", ["none", "gpt2"])
def test_without_a_gradient_matrices_shrink_and_nothing_else_moves(base: str) -> None:
    """By rate times decay, as decoupled decay does."""
    before, after = step_without_a_gradient(plan_with(base))
    kept = {False: 0, True: 0}
    for name, weight in after.items():
        is_matrix = weight.dim() >= 2
        kept[is_matrix] += 1
        if is_matrix:
            shrunk = weight.norm() / before[name].norm()
            assert 0.9 < float(shrunk) < 1, name
            torch.testing.assert_close(weight, before[name] * shrunk, rtol=1e-5, atol=1e-8, msg=name)
        else:
            assert torch.equal(weight, before[name]), name
    assert kept[True] >= 6 and kept[False] >= 10


@pytest.mark.parametrize(("base", "polynomials"), [("none", FIVE), ("small", THREE)])
def test_a_base_is_tuned_with_fewer_polynomials_than_a_fresh_model(base: str, polynomials: Polynomials) -> None:
    plan = change(plan_with(), base=base)
    optimizer = make_optimizer(tiny_model(plan), plan)
    assert isinstance(optimizer, Muon) and optimizer.polynomials == polynomials


def test_a_fresh_model_has_quick_embeddings_and_a_short_momentum() -> None:
    """As the plan has it."""
    plan = change(plan_with(), learning_rate=0.01, embedding_share=3.0, momentum=0.9)
    optimizer = make_optimizer(tiny_model(plan), plan)
    assert isinstance(optimizer, Muon) and optimizer.momentum == 0.9
    assert [group["share"] for group in optimizer.param_groups[2:]] == [3.0, 1.0]
    assert [group["lr"] for group in optimizer.param_groups[2:]] == pytest.approx([0.03, 0.01])


def test_without_a_decay_nothing_moves_without_a_gradient() -> None:
    before, after = step_without_a_gradient(change(plan_with(), weight_decay=0.0))
    assert are_equal(after, before)


@pytest.mark.parametrize("base", ["none", "gpt2"])
def test_every_parameter_is_moved_by_one_group(base: str) -> None:
    plan = plan_with(base)
    model = tiny_model(plan)
    optimizer = make_optimizer(model, plan)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    before = copy_weights(model)
    take_steps(model, optimizer, range(1))
    assert all(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_frozen_stays() -> None:
    plan = plan_with()
    model = tiny_model(plan)
    model.transformer.wpe.weight.requires_grad_(False)
    optimizer = make_optimizer(model, plan)
    before = model.transformer.wpe.weight.clone()
    take_steps(model, optimizer, range(2))
    assert torch.equal(model.transformer.wpe.weight, before)
    assert not any(name.startswith("transformer.wpe.weight:") for name in pack_state(optimizer, model))


def test_fine_tuning_is_adamw_as_torch_has_it() -> None:
    """The plain loops of torch's own, one parameter after another."""
    plan = plan_with("gpt2")
    ours, theirs = tiny_model(plan), tiny_model(plan)
    take_steps(ours, make_optimizer(ours, plan), range(4))
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() >= 2], "weight_decay": plan.optimizer.weight_decay},
        {"params": [p for p in theirs.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(
        groups, lr=plan.optimizer.learning_rate, betas=(0.9, plan.optimizer.beta2), foreach=False, fused=False
    )
    take_steps(theirs, reference, range(4))
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("base", ["none", "gpt2"])
def test_a_larger_rate_takes_larger_steps(base: str) -> None:
    """The loop sets the rate of all groups before each step."""
    moved = []
    for rate in (0.01, 0.02):
        plan = change(plan_with(base), weight_decay=0.0)
        model = tiny_model(plan)
        optimizer = make_optimizer(model, plan)
        before = copy_weights(model)
        for group in optimizer.param_groups:
            group["lr"] *= rate / 0.01
        take_steps(model, optimizer, range(1))
        moved.append({name: float((tensor - before[name]).norm()) for name, tensor in model.state_dict().items()})
    for name, length in moved[0].items():
        assert moved[1][name] == pytest.approx(2 * length, rel=1e-3), name


# -- its state


@pytest.mark.parametrize("base", ["none", "gpt2"])
def test_its_state_survives_a_file(tmp_path: Path, base: str) -> None:
    """Packed after three steps and unpacked into another optimizer, it takes the fourth and fifth as it would have."""
    plan = plan_with(base)
    model = tiny_model(plan)
    optimizer = make_optimizer(model, plan)
    take_steps(model, optimizer, range(3))
    packed = pack_state(optimizer, model)
    save_file(packed, tmp_path / "optimizer.safetensors")

    other = tiny_model(change(plan, seed=5))
    other.load_state_dict(model.state_dict())
    resumed = make_optimizer(other, plan)
    unpack_state(resumed, other, load_file(tmp_path / "optimizer.safetensors"))
    assert are_equal(pack_state(resumed, other), packed)
    for one, its_optimizer in ((model, optimizer), (other, resumed)):
        take_steps(one, its_optimizer, range(3, 5))
    assert are_equal(copy_weights(other), copy_weights(model))
    assert are_equal(pack_state(resumed, other), pack_state(optimizer, model))


def test_without_its_state_the_next_step_would_be_another() -> None:
    plan = plan_with()
    model = tiny_model(plan)
    optimizer = make_optimizer(model, plan)
    take_steps(model, optimizer, range(3))
    other = tiny_model(plan)
    other.load_state_dict(model.state_dict())
    take_steps(model, optimizer, range(3, 4))
    take_steps(other, make_optimizer(other, plan), range(3, 4))
    assert not are_equal(copy_weights(other), copy_weights(model))


@pytest.mark.parametrize("base", ["none", "gpt2"])
def test_its_state_is_named_after_the_parameters(base: str) -> None:
    plan = plan_with(base)
    model = tiny_model(plan)
    optimizer = make_optimizer(model, plan)
    assert pack_state(optimizer, model) == {}, "before the first step there is nothing"
    unpack_state(optimizer, model, {})
    take_steps(model, optimizer, range(1))
    packed = pack_state(optimizer, model)
    assert {key.rsplit(":", 1)[0] for key in packed} == {name for name, _ in model.named_parameters()}
    assert all(type(tensor) is torch.Tensor and tensor.is_contiguous() for tensor in packed.values())


def test_queries_keys_and_values_are_orthogonalised_apart() -> None:
    """GPT-2 keeps the three in one matrix, c_attn; every other matrix is one part."""
    plan = plan_with()
    model = tiny_model(plan)
    optimizer = make_optimizer(model, plan)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parts = {
        names[id(parameter)].split(".")[-2]: group["n_parts"]
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["n_parts"]
    }
    assert parts == {"c_attn": 3, "c_fc": 1, "c_proj": 1}
