"""A plan derives every number from what was counted, gives each its reason, and does as it was asked."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from epigone import TrainSettings
from epigone.errors import RunDamaged, SettingsError, TextTooShort
from epigone.model.size import Shape
from epigone.planning.plan import Plan
from epigone.report.views import describe_plan
from epigone.runs.folder import RunFolder
from helpers_plan import find_value
from helpers_tokens import GPT2_SMALL, SMALL_BASE, make_hardware, plan_for
from helpers_training import manifest_for

SIZES_IN_BYTES = (5_000, 50_000, 500_000, 5_000_000, 50_000_000)
DEVICES = ("cpu", "cuda", "mps")


def plan_for_bytes(n_bytes: int, **asked: Any) -> Plan:
    return plan_for(n_bytes // 2, **asked)


# -- what a plan is


@pytest.mark.parametrize("asked", [{}, {"minutes": 3.0}, {"base_shape": GPT2_SMALL, "base": "gpt2"}, {"seed": 5}])
def test_equal_input_gives_an_equal_plan(asked: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    assert plan_for(**asked) == plan_for(**asked)
    assert torch.equal(before, torch.get_rng_state())


@settings(deadline=None)
@given(
    n_tokens=st.integers(1, 3_000_000),
    device=st.sampled_from(DEVICES),
    fine_tune=st.booleans(),
    n_processes=st.integers(1, 8),
    minutes=st.sampled_from(["none", 0.5, 60.0]),
)
def test_every_text_has_a_plan_that_can_be_followed_or_is_told_to_be_too_short(
    n_tokens: int, device: str, fine_tune: bool, n_processes: int, minutes: Any
) -> None:
    base: dict[str, Any] = {"base": "gpt2", "base_shape": GPT2_SMALL} if fine_tune else {}
    asked = {"n_processes": n_processes, "minutes": minutes, "hardware": make_hardware(device), **base}
    try:
        plan = plan_for(n_tokens, **asked)
    except TextTooShort:
        assert n_tokens < 100
        return
    assert 8 <= plan.batch.block_size <= plan.model.shape.n_positions
    assert 1 <= plan.batch.n_blocks == (n_tokens + 1) // plan.batch.block_size
    assert (
        min(
            plan.batch.batch_size,
            plan.batch.gradient_accumulation,
            plan.schedule.n_steps,
            plan.schedule.evaluations_per_epoch,
            plan.schedule.report_every,
        )
        >= 1
    )
    assert plan.model.shape.n_embd % plan.model.shape.n_head == 0
    assert 0 < plan.schedule.warmup_ratio < 1 and 0 <= plan.model.dropout < 1 and plan.optimizer.learning_rate > 0
    assert plan.batch.n_processes == n_processes


# -- what is asked

ASKED: dict[str, Any] = {
    "size": "3x96",
    "block_size": 40,
    "batch_size": 3,
    "gradient_accumulation": 5,
    "epochs": 1.5,
    "learning_rate": 0.0123,
    "schedule": "cosine",
    "warmup_ratio": 0.4,
    "weight_decay": 0.0,
    "dropout": 0.0,
    "patience": 7,
    "vocab_size": 333,
    "base": "none",
    "precision": "bf16",
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_is_done_and_reported_as_asked(name: str) -> None:
    plan = plan_for(**{name: ASKED[name]})
    assert find_value(plan, name) == ASKED[name]
    assert plan.reasons[name] == "as asked"
    others = set(ASKED) - {name}
    assert not [other for other in others if plan.reasons[other] == "as asked"]


def test_all_together_are_done_too() -> None:
    plan = plan_for(**ASKED)
    assert {name: find_value(plan, name) for name in ASKED} == ASKED


@pytest.mark.parametrize(
    "asked",
    [
        {"seed": 0},
        {"seed": 7},
        {"max_grad_norm": 0.0},
        {"evaluate_every": 11},
        {"schedule_arguments": ("num_cycles=3",)},
    ],
)
def test_settings_without_a_choice_are_passed_on(asked: dict[str, Any]) -> None:
    plan = plan_for(**asked)
    assert {name: find_value(plan, name) for name in asked} == asked


def test_no_patience_at_all_can_be_asked_for() -> None:
    assert plan_for(patience="none").schedule.patience is None
    assert plan_for().schedule.patience is not None


# -- what is derived

ELSEWHERE = {"encoding", "format", "unwrap", "split", "device", "evaluate_every"}
"""Settings that others decide on: reading, splitting, the machine, and set_length in its own words."""


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fine_tune", [False, True])
def test_every_choice_left_to_the_plan_has_its_reason(device: str, fine_tune: bool) -> None:
    base: dict[str, Any] = {"base": "gpt2", "base_shape": GPT2_SMALL} if fine_tune else {}
    plan = plan_for(hardware=make_hardware(device), **base)
    left = {name for name, field in TrainSettings.model_fields.items() if field.default == "auto"} - ELSEWHERE
    left |= {"evaluations_per_epoch", "attention"}
    if fine_tune:
        left.remove("size")
    assert left <= plan.reasons.keys()
    assert all(reason.strip() for reason in plan.reasons.values())


def test_short_texts_get_small_models_that_read_them_often() -> None:
    plans = [plan_for_bytes(n_bytes) for n_bytes in SIZES_IN_BYTES]
    sizes = [plan.model.shape.n_layer * plan.model.shape.n_embd**2 for plan in plans]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert plans[0].model.n_parameters < 1_000_000, "5 KB cannot fill more"
    passes = [plan.schedule.epochs or 0 for plan in plans]
    assert passes == sorted(passes, reverse=True) and passes[-1] < passes[0]


def test_short_texts_get_short_blocks_so_that_there_is_something_to_shuffle() -> None:
    plans = [plan_for(n_tokens) for n_tokens in (150, 300, 700, 2_000, 100_000, 10_000_000)]
    blocks = [plan.batch.block_size for plan in plans]
    assert blocks == sorted(blocks) and blocks[0] < blocks[2] < blocks[-1]
    assert min(plan.batch.n_blocks for plan in plans) >= 8


@pytest.mark.parametrize("n_processes", [1, 2, 4])
def test_a_pass_over_five_kilobytes_still_takes_several_steps(n_processes: int) -> None:
    plan = plan_for_bytes(5_000, n_processes=n_processes)
    assert plan.batch.n_blocks >= 8 and plan.batch.steps_per_epoch >= 3


def test_adamw_moves_a_wider_model_more_gently() -> None:
    rates = [
        plan_for(size=f"4x{width}", optimizer="adamw").optimizer.learning_rate for width in (64, 192, 384, 768, 1536)
    ]
    assert rates == sorted(rates, reverse=True) and rates[-1] < rates[0]


def test_a_fresh_model_sees_one_block_and_a_base_keeps_its_shape() -> None:
    fresh, base = plan_for(), plan_for(base="gpt2", base_shape=GPT2_SMALL, base_revision="abc", start_text="\n")
    assert fresh.model.fresh and fresh.model.shape.n_positions == fresh.batch.block_size
    assert (
        not base.model.fresh and base.model.shape == GPT2_SMALL and base.model.n_parameters == GPT2_SMALL.n_parameters
    )
    assert (base.model.base, base.model.base_revision, base.start_text) == ("gpt2", "abc", "\n")
    assert base.optimizer.learning_rate < fresh.optimizer.learning_rate and (base.schedule.epochs or 0) <= (
        fresh.schedule.epochs or 0
    )


def test_attention_is_plain_for_small_models_on_a_processor_and_fused_elsewhere() -> None:
    assert plan_for().model.attention == "eager"
    assert plan_for(base="gpt2", base_shape=GPT2_SMALL).model.attention == "sdpa"
    assert plan_for(size="2x64", hardware=make_hardware("cuda")).model.attention == "sdpa"


def test_the_machine_is_passed_on() -> None:
    plan = plan_for(hardware=make_hardware("cuda", n_threads=5, bf16=True))
    assert (plan.compute.device, plan.compute.n_threads, plan.compute.precision) == ("cuda", 5, "bf16")
    assert plan_for().compute.precision == "fp32"


def test_the_small_base_is_tuned_as_it_was_made_and_faster_the_shorter_the_text() -> None:
    """Without dropout, which it was made without, and by the optimizer that made it."""
    plans = [plan_for(n_tokens, base="small", base_shape=SMALL_BASE) for n_tokens in (3_000, 15_000, 300_000)]
    assert all((plan.optimizer.name, plan.model.dropout) == ("muon", 0.0) for plan in plans)
    rates, epochs = [plan.optimizer.learning_rate for plan in plans], [plan.schedule.epochs for plan in plans]
    assert rates == sorted(rates, reverse=True) and rates[0] > rates[-1] and epochs == sorted(epochs, reverse=True)
    other = plan_for(15_000, base="owner/other", base_shape=SMALL_BASE)
    assert (other.optimizer.name, other.model.dropout, other.optimizer.learning_rate) == ("adamw", 0.1, 5e-5)


@pytest.mark.parametrize(
    ("minutes", "said"),
    [(1.0, "in 1 minute: "), (3.0, "in 3 minutes: "), (0.12195, "in 7 s: "), (90.5, "in 1 h 30 min: ")],
)
def test_a_time_is_written_as_people_say_it(minutes: float, said: str) -> None:
    """That of a voice is a share of what was given, such as 0.12195 minutes."""
    plan = plan_for(15_000, base="small", base_shape=SMALL_BASE, minutes=minutes)
    _, length, reason = next(row for row in describe_plan(plan, manifest_for(plan).estimate) if row[0] == "steps")
    assert said in length and reason.startswith(f"at most {plan.schedule.epochs:g} epochs, if the minutes allow: about")


def test_only_what_muon_teaches_from_scratch_has_quick_embeddings() -> None:
    small = plan_for(base="small", base_shape=SMALL_BASE)
    plans = [plan_for(), plan_for(optimizer="adamw"), small]
    assert [plan.optimizer.embedding_share for plan in plans] == [3.0, 1.0, 1.0]
    assert (plans[0].optimizer.momentum, small.optimizer.momentum) == (0.9, 0.95), "a base was made with the longer one"


# -- what cannot be


@pytest.mark.parametrize("n_tokens", [40, 500])
def test_a_block_longer_than_the_text_is_told_with_one_that_works(n_tokens: int) -> None:
    with pytest.raises(TextTooShort, match=f"{n_tokens + 1:,} tokens") as caught:
        plan_for(n_tokens, block_size=n_tokens + 1)
    found = re.search(r"--block-size (\d+)", caught.value.hint)
    assert found and plan_for(n_tokens, block_size=int(found[1])).batch.n_blocks >= 1


def test_fewer_tokens_than_any_block_needs_is_too_short() -> None:
    with pytest.raises(TextTooShort, match="8 tokens; one block needs more than 8") as caught:
        plan_for(7)
    assert "Give more text" in caught.value.hint and "--block-size" not in caught.value.hint
    assert plan_for(8).batch.n_blocks == 1


def test_a_block_longer_than_the_base_can_see_is_told_with_the_limit() -> None:
    asked = {"base": "gpt2", "base_shape": GPT2_SMALL}
    with pytest.raises(SettingsError, match="1024 positions of gpt2") as caught:
        plan_for(block_size=1025, **asked)
    assert "1024 or less" in caught.value.hint and "--base none" in caught.value.hint
    assert plan_for(block_size=1024, **asked).batch.block_size == 1024
    assert plan_for(block_size=1025).batch.block_size == 1025


def test_a_precision_that_cannot_work_is_told() -> None:
    with pytest.raises(SettingsError, match="fp16"):
        plan_for(precision="fp16")


# -- counting weights


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        (GPT2_SMALL, 124_439_808),
        (replace(GPT2_SMALL, n_layer=24, n_embd=1024, n_head=16), 354_823_168),
        (replace(GPT2_SMALL, n_layer=48, n_embd=1600, n_head=25), 1_557_611_200),
    ],
)
def test_the_published_sizes_have_their_published_number_of_weights(shape: Shape, published: int) -> None:
    assert shape.n_parameters == published


@pytest.mark.parametrize("size", ["1x32", "2x64", "3x96", "6x384"])
@pytest.mark.parametrize("vocab_size", [257, 1000])
def test_the_weights_are_as_many_as_the_real_model_has(size: str, vocab_size: int) -> None:
    plan = plan_for(size=size, vocab_size=vocab_size, block_size=48)
    shape = plan.model.shape
    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.n_positions,
        n_embd=shape.n_embd,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
    )
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    assert sum(weights.numel() for weights in model.parameters()) == plan.model.n_parameters == shape.n_parameters


# -- on the disk


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"minutes": 3.0, "start_text": "\n"},
        ASKED | {"schedule_arguments": ("num_cycles=3", "power=2")},
        {"base": "gpt2", "base_shape": GPT2_SMALL, "base_revision": "abc", "patience": "none"},
    ],
)
def test_a_plan_is_read_as_it_was_written(tmp_path: Path, asked: dict[str, Any]) -> None:
    folder, plan = RunFolder(tmp_path), plan_for(**asked)
    folder.write_manifest(manifest_for(plan))
    assert folder.read_manifest() == manifest_for(plan)
    assert json.loads(folder.manifest.read_text("utf-8"))["plan"]["reasons"] == plan.reasons


@pytest.mark.parametrize("content", ["", "{", "[]", '{"plan": 3}', '{"plan": {"seed": 1}}', "{}"])
def test_a_damaged_plan_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content, "utf-8")
    with pytest.raises(RunDamaged, match=r"run\.json cannot be read") as caught:
        RunFolder(tmp_path).read_manifest()
    assert caught.value.hint


def test_a_plan_with_an_unknown_number_is_damaged(tmp_path: Path) -> None:
    values = manifest_for(plan_for()).as_json()
    (tmp_path / "run.json").write_text(json.dumps(values | {"plan": values["plan"] | {"magic": 3}}), "utf-8")
    with pytest.raises(RunDamaged, match="magic"):
        RunFolder(tmp_path).read_manifest()
