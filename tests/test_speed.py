"""The estimate is what was measured on a few steps, times what the trainer will really do."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

from epigone import preparation
from epigone.planning.plan import Plan
from epigone.preparation import count_evaluations, count_steps_in_time, estimate_run, measure_speed
from epigone.tokens.dataset import TokenSplit
from epigone.training.evaluate import Evaluation
from epigone.training.events import Estimate, Evaluated
from epigone.training.trainer import Trainer
from helpers_plan import change
from helpers_training import make_learner, make_tokens, pick, plan_for, random_ids, tiny_model

TOKENS = make_tokens(validation=random_ids(3_001))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass only when told to, with this."""
    now = [50.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("epigone.preparation.time.perf_counter", lambda: now[0])
    return wait


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]) -> list[int]:
    """Steps of 50 ms but for the first two, of 90 ms; a token is tested in 1 ms. Lists what was tested."""
    tested = []

    class SlowLearner(Trainer):
        def step(self) -> None:
            clock(0.09 if self.progress.step < 2 else 0.05)
            super().step()

    def evaluate(model: object, part: TokenSplit, **_: object) -> Evaluation:
        tested.append(len(part.ids) - 1)
        clock(0.001 * tested[-1])
        return Evaluation(loss=1.0, accuracy=0.5, n_tokens=tested[-1], n_bytes=1)

    monkeypatch.setattr(preparation, "Trainer", SlowLearner)
    monkeypatch.setattr(preparation, "evaluate", evaluate)
    return tested


def measure(plan: Plan, *, samples: float = 0.0) -> Estimate:
    return measure_speed(tiny_model(plan), TOKENS, plan, time_samples=lambda model: samples)


# -- measuring


def test_a_step_is_timed_when_it_is_warm(slow: list[int]) -> None:
    assert measure(plan_for(TOKENS)).seconds_per_step == pytest.approx(0.05)


def test_where_steps_are_slow_only_two_are_taken(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    taken = []

    class SlowLearner(Trainer):
        def step(self) -> None:
            taken.append(self.progress.step)
            clock((3.0, 2.5)[len(taken) - 1])
            super().step()

    monkeypatch.setattr(preparation, "Trainer", SlowLearner)
    assert measure(plan_for(TOKENS)).seconds_per_step == pytest.approx(2.5)
    assert taken == [0, 1]


def test_an_evaluation_is_timed_on_a_part_and_told_of_the_whole_with_its_samples(slow: list[int]) -> None:
    found = measure(plan_for(TOKENS), samples=7.0)
    assert slow == [8 * 16], "eight blocks"
    assert found.seconds_per_evaluation == pytest.approx(3.0 + 7.0)


def test_a_short_text_is_tested_whole(slow: list[int]) -> None:
    found = measure(plan_for(TOKENS, block_size=384))
    assert slow == [3_000] and found.seconds_per_evaluation == pytest.approx(3.0)


def test_the_whole_run_is_told_from_the_parts(slow: list[int]) -> None:
    plan = plan_for(TOKENS, epochs=6.0)
    found = measure(plan, samples=1.0)
    assert found.n_evaluations == count_evaluations(plan)
    assert found.seconds == pytest.approx(plan.schedule.n_steps * 0.05 + found.n_evaluations * 4.0)


def test_a_run_of_one_step_can_be_measured() -> None:
    """More steps are tried than it has."""
    plan = plan_for(TOKENS, epochs=0.1)
    assert plan.schedule.n_steps == 1
    assert 0 < measure(plan).seconds_per_step < 5


def test_memory_is_what_the_process_held_at_most() -> None:
    found = measure(plan_for(TOKENS))
    held = psutil.Process().memory_info().rss
    assert 0.95 * held < found.memory_bytes < 100 * held


def test_what_is_measured_on_is_the_real_thing() -> None:
    """The model has learned a little: it is one to spend."""
    plan = plan_for(TOKENS, learning_rate=0.01)
    model = tiny_model(plan)
    given: list[object] = []

    def time_samples(one: object) -> float:
        given.append(one)
        return 0.25

    found = measure_speed(model, TOKENS, plan, time_samples=time_samples)
    assert given == [model] and found.seconds_per_evaluation > 0.25
    assert not model.transformer.wte.weight.equal(tiny_model(plan).transformer.wte.weight)


# -- counting


def measured(seconds_per_step: float, seconds_per_evaluation: float, memory_bytes: int) -> Estimate:
    return Estimate(
        seconds_per_step=seconds_per_step,
        seconds_per_evaluation=seconds_per_evaluation,
        n_evaluations=0,
        seconds=0.0,
        memory_bytes=memory_bytes,
    )


def test_the_minutes_are_the_most_it_takes() -> None:
    plan = plan_for(TOKENS, minutes=2.0, n_steps_in_time=500, epochs=200.0)
    assert estimate_run(plan, measured(1.0, 10.0, 0)).seconds == 120
    assert estimate_run(plan, measured(0.01, 0.1, 0)).seconds == pytest.approx(
        500 * 0.01 + count_evaluations(plan) * 0.1
    )
    assert estimate_run(change(plan, minutes=None), measured(1.0, 10.0, 0)).seconds > 500


def test_what_is_measured_is_handed_on() -> None:
    found = estimate_run(plan_for(TOKENS), measured(0.25, 3.0, 12_345))
    assert (found.seconds_per_step, found.seconds_per_evaluation, found.memory_bytes) == (0.25, 3.0, 12_345)


@pytest.mark.parametrize(
    ("minutes", "seconds_per_step", "n_steps"), [(1.0, 0.1, 540), (10.0, 0.5, 1_080), (0.5, 4.0, 6), (0.1, 60.0, 1)]
)
def test_steps_in_time_leave_a_tenth_for_evaluations(minutes: float, seconds_per_step: float, n_steps: int) -> None:
    plan = plan_for(TOKENS, minutes=minutes)
    found = count_steps_in_time(plan, estimate_run(plan, measured(seconds_per_step, 1.0, 0)))
    assert found == pytest.approx(n_steps, abs=1) and found >= 1


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 1.0},
        {"epochs": 0.3},
        {"epochs": 1.5},
        {"epochs": 2.0, "batch_size": 3},
        {"epochs": 7.0},
        {"epochs": 7.4},
        {"epochs": 7.0, "batch_size": 5},
        {"epochs": 3.0, "batch_size": 25},
        {"epochs": 3.0, "batch_size": 40},
        {"epochs": 7.0, "evaluate_every": 5},
        {"epochs": 7.0, "evaluate_every": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("base", ["none", "gpt2"])
def test_as_many_evaluations_are_predicted_as_there_are(settings: dict[str, object], base: str) -> None:
    tokens = make_tokens()
    plan = change(plan_for(tokens, **settings), base=base)
    events = list(make_learner(plan, tokens).learn())
    assert count_evaluations(plan) == len(pick(events, Evaluated))


def test_under_a_time_limit_about_ten_are_predicted() -> None:
    plan = plan_for(TOKENS, minutes=2.0, n_steps_in_time=5_000, epochs="auto")
    assert count_evaluations(plan) == 10
    assert count_evaluations(change(plan, n_steps=3)) <= 10
