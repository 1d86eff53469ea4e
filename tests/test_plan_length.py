"""How long a run is follows from epochs, minutes and processes, and how often it is looked at from its length."""

from __future__ import annotations

from typing import Any

import pytest

from epigone import TrainSettings
from epigone.planning.plan import Plan, set_length
from epigone.preparation import count_evaluations
from helpers_plan import change
from helpers_tokens import plan_for

SIZES_IN_BYTES = (5_000, 50_000, 500_000, 5_000_000, 50_000_000)
DEVICES = ("cpu", "cuda", "mps")


def plan_for_bytes(n_bytes: int, **asked: Any) -> Plan:
    return plan_for(n_bytes // 2, **asked)


# -- the length


@pytest.mark.parametrize("epochs", [0.1, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_epochs_decide_how_many_steps(epochs: float, batch_size: int) -> None:
    plan = plan_for(epochs=epochs, batch_size=batch_size, gradient_accumulation=2)
    assert plan.batch.blocks_per_step == 2 * batch_size
    seen = plan.schedule.n_steps * plan.batch.blocks_per_step
    assert seen - plan.batch.blocks_per_step < plan.batch.n_blocks * epochs <= seen
    assert plan.batch.tokens_per_step == plan.batch.blocks_per_step * plan.batch.block_size


def test_the_minutes_can_only_shorten_the_epochs() -> None:
    plan, asked = plan_for(minutes=2.0), TrainSettings(minutes=2.0)
    assert (
        plan.schedule.epochs == plan_for().schedule.epochs
        and plan.schedule.minutes == 2.0
        and "minutes" in plan.reasons["epochs"]
    )
    assert set_length(plan, asked, 10).schedule.n_steps == 10
    assert set_length(plan, asked, 10**9).schedule.n_steps == plan.most_steps


def test_of_minutes_and_epochs_the_shorter_ends_it() -> None:
    plan, asked = plan_for(minutes=2.0, epochs=3.0), TrainSettings(minutes=2.0, epochs=3.0)
    assert (plan.schedule.epochs, plan.schedule.minutes) == (3.0, 2.0)
    assert set_length(plan, asked, 10 * plan.schedule.n_steps).schedule.n_steps == plan.schedule.n_steps
    assert set_length(plan, asked, 5).schedule.n_steps == 5


def test_a_short_run_warms_up_over_a_larger_share_but_never_most_of_it() -> None:
    plan, asked = plan_for(minutes=1.0), TrainSettings(minutes=1.0)
    shares = [set_length(plan, asked, n_steps).schedule.warmup_ratio for n_steps in (1, 30, 100, 1_000, 100_000)]
    assert shares == sorted(shares, reverse=True) and 0 < shares[-1] < shares[0] <= 0.5
    assert set_length(plan, TrainSettings(warmup_ratio=0.4), 30).schedule.warmup_ratio == 0.4
    assert set_length(plan, TrainSettings(warmup_ratio=0.0), 30).schedule.warmup_ratio == 0.0


@pytest.mark.parametrize("epochs", [0.3, 1.0, 2.0, 4.5])
def test_few_epochs_are_looked_at_about_ten_times_in_all(epochs: float) -> None:
    assert min(5, (plan := plan_for(500_000, epochs=epochs)).schedule.n_steps // 20) <= count_evaluations(plan) <= 20


@pytest.mark.parametrize("epochs", [6.0, 30.0])
def test_many_epochs_are_looked_at_once_each(epochs: float) -> None:
    plan = plan_for(500_000, epochs=epochs)
    assert plan.schedule.evaluations_per_epoch == 1 and count_evaluations(plan) == pytest.approx(epochs, abs=1)


def test_a_length_set_again_is_the_same() -> None:
    plan, asked = plan_for(epochs=3.0), TrainSettings(epochs=3.0)
    assert set_length(plan, asked) == plan


# -- several processes


@pytest.mark.parametrize("n_tokens", [3_000, 500_000])
@pytest.mark.parametrize("n_processes", [2, 4, 8])
def test_more_processes_train_the_same(n_processes: int, n_tokens: int) -> None:
    alone, several = (plan_for(n_tokens, n_processes=count) for count in (1, n_processes))
    assert change(several, n_processes=1) == alone
