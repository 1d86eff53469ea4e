"""Each schedule is transformers' own, step by step; those that a metric drives move when they are shown one."""

from __future__ import annotations

import ast
import json
import math
from typing import get_args

import pytest
import torch
from transformers import get_scheduler

from epigone.errors import SettingsError
from epigone.settings import Schedule
from epigone.training.lr_schedule import LRSchedule
from helpers_plan import make_schedule

PEAK, N_STEPS, WARMUP = 0.02, 40, 0.2
BY_STEP: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles=0.75",),
    "cosine_with_restarts": ("num_cycles=3",),
    "polynomial": ("lr_end=0.001", "power=2.0"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale=12",),
    "cosine_with_min_lr": ("min_lr=0.004",),
    "cosine_warmup_with_min_lr": ("min_lr_rate=0.25", "warmup_lr_rate=0.1"),
    "warmup_stable_decay": ("num_decay_steps=10", "decay_type=cosine", "min_lr_ratio=0.1"),
}
"""Arguments that are none of anybody's defaults."""
BY_METRIC: dict[str, tuple[str, ...]] = {
    "reduce_lr_on_plateau": ("factor=0.3", "patience=0", "min_lr=0.001"),
    "greedy": ("factor=0.6", "patience=0", "min_lr=0.001", "max_lr=0.05", "eps=0.0", "smooth=True", "window_size=2"),
}
LOSSES = [3.0, 2.5, 2.6, 2.7, 2.8, 2.0, 2.1, 2.2, 1.9, 1.8, 1.7, 1.8, 1.9, 2.0, 2.1]
BEHAVED = [name for name in BY_STEP if not name.startswith("constant")]
"""They come down from the peak."""


def ours(name: str, *arguments: str, warmup_ratio: float = WARMUP, n_steps: int = N_STEPS) -> LRSchedule:
    return LRSchedule(make_schedule(name, *arguments, n_steps=n_steps, warmup_ratio=warmup_ratio), peak=PEAK)


def value_of(text: str) -> object:
    return ast.literal_eval(text) if text[0].isdigit() or text in ("True", "False") else text


def theirs(name: str, *arguments: str) -> tuple[torch.optim.Optimizer, object]:
    """A real optimizer whose rate transformers moves."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=PEAK)
    pairs = (pair.split("=") for pair in arguments)
    scheduler = get_scheduler(
        name,
        optimizer,
        num_warmup_steps=round(WARMUP * N_STEPS),
        num_training_steps=N_STEPS,
        scheduler_specific_kwargs={key: value_of(value) for key, value in pairs},
    )
    return optimizer, scheduler


def rates_of(rate: LRSchedule) -> list[float]:
    return [rate.at(step) for step in range(rate.n_steps)]


# -- beside transformers


def test_every_schedule_that_can_be_set_is_tested_here() -> None:
    assert {*BY_STEP, *BY_METRIC} == set(get_args(Schedule))


@pytest.mark.parametrize("name", BY_STEP)
def test_a_schedule_by_step_is_that_of_transformers(name: str) -> None:
    optimizer, scheduler = theirs(name, *BY_STEP[name])
    rate = ours(name, *BY_STEP[name])
    for step in range(N_STEPS):
        assert rate.at(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15), step
        optimizer.step()
        scheduler.step()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", BY_METRIC)
def test_a_schedule_by_metric_is_that_of_transformers(name: str) -> None:
    optimizer, scheduler = theirs(name, *BY_METRIC[name])
    rate = ours(name, *BY_METRIC[name])
    seen = []
    for loss in LOSSES:
        rate.see(loss)
        scheduler.step(loss)  # type: ignore[attr-defined]
        seen.append(rate.at(0))
        assert seen[-1] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
    assert len(set(seen)) >= 3


@pytest.mark.parametrize("name", BY_METRIC)
def test_a_schedule_by_metric_moves_at_nothing_else(name: str) -> None:
    rate = ours(name, *BY_METRIC[name])
    assert set(rates_of(rate)) == {PEAK}
    for _ in range(3):
        rate.see(2.0)
    assert rate.at(0) == rate.at(N_STEPS) < PEAK


@pytest.mark.parametrize("name", BY_STEP)
def test_a_schedule_by_step_does_not_look_at_the_loss(name: str) -> None:
    rate = ours(name, *BY_STEP[name])
    before = rates_of(rate)
    for loss in LOSSES:
        rate.see(loss)
    assert rates_of(rate) == before


# -- its shape


@pytest.mark.parametrize("name", [name for name in BY_STEP if name != "constant"])
def test_it_warms_up_to_the_peak_and_no_further(name: str) -> None:
    """As far as transformers' own does: one of them counts its warm-up from one."""
    rate = ours(name)
    n_warm = round(WARMUP * N_STEPS)
    rising = [rate.at(step) for step in range(n_warm)]
    assert rising == sorted(rising) and rising[0] <= PEAK / n_warm
    assert rising[n_warm // 2] == pytest.approx(PEAK / 2, rel=0.3)
    everywhere = [rate.at(tenth / 10) for tenth in range(10 * N_STEPS)]
    assert max(everywhere) == pytest.approx(PEAK, rel=0.02) and max(everywhere) <= PEAK


@pytest.mark.parametrize("name", BEHAVED)
def test_without_a_warm_up_it_begins_at_the_peak(name: str) -> None:
    assert ours(name, warmup_ratio=0.0).at(0) == pytest.approx(PEAK, rel=0.01)


@pytest.mark.parametrize("name", BEHAVED)
def test_left_alone_it_comes_down_and_stays_above_zero_until_the_end(name: str) -> None:
    """Each with working values for what transformers would not do without."""
    rates = rates_of(ours(name, n_steps=200))
    assert 0 < rates[-1] < PEAK / 2


def test_what_needs_arguments_has_working_ones() -> None:
    assert ours("polynomial").at(N_STEPS) == pytest.approx(PEAK / 100)
    assert ours("cosine_with_min_lr").at(N_STEPS) == pytest.approx(PEAK / 10)
    assert ours("cosine_warmup_with_min_lr", n_steps=1000).at(999) == pytest.approx(PEAK / 10, rel=0.01)
    stable = ours("warmup_stable_decay", n_steps=100)
    assert stable.at(79) == PEAK and stable.at(90) == pytest.approx(PEAK / 2, rel=0.01)


@pytest.mark.parametrize(("name", "factor"), [("reduce_lr_on_plateau", 0.5), ("greedy", 0.8)])
def test_left_alone_those_by_metric_come_down_at_the_second_bad_loss(name: str, factor: float) -> None:
    """Evaluations are few: transformers' ten bad ones would be the whole run."""
    rate = ours(name)
    seen = []
    for loss in (2.0, 2.1, 2.1, 2.1, 2.1):
        rate.see(loss)
        seen.append(rate.at(0) / PEAK)
    assert seen == pytest.approx([1, 1, factor, factor, factor**2])


def test_left_alone_those_by_metric_stay_near_the_peak() -> None:
    """transformers' own bounds for greedy, 1e-3 to 1, would raise a fine-tuning rate a hundredfold."""
    for name in BY_METRIC:
        rate = LRSchedule(make_schedule(name, n_steps=N_STEPS), peak=5e-5)
        for loss in [3.0 - 0.1 * n for n in range(20)]:
            rate.see(loss)
            assert rate.at(0) == 5e-5
        for _ in range(100):
            rate.see(9.0)
        assert 0 < rate.at(0) < 5e-5


def test_between_two_steps_it_is_between_their_rates() -> None:
    rate = ours("linear", warmup_ratio=0.0)
    assert rate.at(10.5) == pytest.approx((rate.at(10) + rate.at(11)) / 2)


@pytest.mark.parametrize("name", BY_STEP)
def test_one_step_is_run_enough(name: str) -> None:
    rate = ours(name, n_steps=1, warmup_ratio=0.25)
    assert 0 <= rate.at(0.5) <= PEAK and math.isfinite(rate.at(0.5))


# -- what it refuses


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("linear", ("num_cycles=2",)),
        ("cosine", ("cycles=2",)),
        ("cosine", ("num_cycles=many",)),
        ("constant", ("min_lr=0.1",)),
        ("constant_with_warmup", ("num_cycles=1",)),
        ("polynomial", ("lr_end=0.5",)),
        ("polynomial", ("power=high",)),
        ("warmup_stable_decay", ("decay_type=nonsense",)),
        ("cosine_with_min_lr", ("min_lr=low",)),
        ("reduce_lr_on_plateau", ("factor=2.0",)),
        ("reduce_lr_on_plateau", ("mode=sideways",)),
        ("reduce_lr_on_plateau", ("patience=long",)),
        ("greedy", ("factor=1.5",)),
        ("greedy", ("smooth=True", "window_size=0")),
    ],
    ids=str,
)
def test_wrong_arguments_are_an_error_before_the_first_step(name: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=f"--schedule {name} .*--schedule-arguments"):
        ours(name, *arguments)


def test_having_been_tried_out_it_is_as_new() -> None:
    """All values are tried before the first step, and two losses with them."""
    for name in BY_METRIC:
        _, scheduler = theirs(name, *BY_METRIC[name])
        state = scheduler.state_dict()  # type: ignore[attr-defined]
        mine = ours(name, *BY_METRIC[name]).state()["scheduler"]
        assert mine == {key: state[key] for key in mine}
        assert mine["best"] == math.inf


# -- what a checkpoint keeps


@pytest.mark.parametrize("name", BY_METRIC)
@pytest.mark.parametrize("n_seen", [0, 1, 5, 9])
def test_restored_it_goes_on_as_it_would_have(name: str, n_seen: int) -> None:
    whole = ours(name, *BY_METRIC[name])
    for loss in LOSSES[:n_seen]:
        whole.see(loss)
    restored = ours(name, *BY_METRIC[name])
    restored.restore(json.loads(json.dumps(whole.state())))
    for loss in LOSSES[n_seen:]:
        assert restored.at(0) == whole.at(0)
        whole.see(loss)
        restored.see(loss)
    assert restored.at(0) == whole.at(0)


@pytest.mark.parametrize("name", BY_STEP)
def test_a_schedule_by_step_has_nothing_to_keep(name: str) -> None:
    rate = ours(name)
    assert rate.state() == {}
    before = rates_of(rate)
    rate.restore({})
    assert rates_of(rate) == before
