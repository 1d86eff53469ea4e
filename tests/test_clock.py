"""Where the clock ends a run it ends in time, with the schedule run down; elsewhere the clock only tells."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from epigone.planning.plan import Plan
from epigone.training.events import CheckpointSaved, Evaluated, Event, Finished, Sample, StepReport
from epigone.training.state import SECONDS_BETWEEN_CHECKPOINTS
from epigone.training.trainer import Trainer
from helpers_plan import change
from helpers_training import make_learner, make_tokens, pick, plan_for

TOKENS = make_tokens()


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("epigone.training.state.time.monotonic", clock)
    return clock


def slow_down(learner: Trainer, clock: Clock, seconds: float) -> None:
    """Let each step take so many seconds of the clock, and compute no gradient: only the time counts here."""

    def take_time(_step: int) -> torch.Tensor:
        clock.now += seconds
        return torch.ones((), dtype=torch.float64)

    learner.gradients.add = take_time  # type: ignore[method-assign]


def timed_plan(minutes: float | None, *, n_steps: int = 100, **settings: object) -> Plan:
    """A plan that the clock ends, if there is one, looking ten times or so."""
    if minutes is None:
        return plan_for(TOKENS, **settings)
    return plan_for(TOKENS, minutes=minutes, n_steps_in_time=n_steps, **{"epochs": "auto"} | settings)


def timed_learner(plan: Plan, clock: Clock, *, step: float, look: float = 0.0) -> Trainer:
    """A step takes so many seconds; so does an evaluation, while its samples are written."""

    def write(model: object) -> tuple[tuple[Sample, ...], None]:
        clock.now += look
        return (), None

    learner = make_learner(plan, TOKENS, sample=write)
    slow_down(learner, clock, step)
    return learner


def finish(events: list[Event]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last


# -- under a time limit


@pytest.mark.parametrize(("step", "look"), [(1.0, 0.0), (1.0, 5.0), (0.5, 12.0), (3.0, 20.0)])
def test_it_ends_in_time_and_uses_most_of_it(clock: Clock, step: float, look: float) -> None:
    plan = timed_plan(3.0, n_steps=round(160 / step))
    events = list(timed_learner(plan, clock, step=step, look=look).learn())
    end = finish(events)
    assert end.reason == "time" and clock.now - 1_000 == end.seconds
    assert 180 - look - step <= end.seconds <= 180
    assert pick(events, Evaluated)[-1].step == end.step


@pytest.mark.parametrize(("step", "look"), [(7.0, 3.0), (11.0, 0.5), (50.0, 1.0)])
def test_a_long_step_makes_it_late_by_less_than_itself(clock: Clock, step: float, look: float) -> None:
    plan = timed_plan(3.0, n_steps=round(160 / step))
    end = finish(list(timed_learner(plan, clock, step=step, look=look).learn()))
    assert end.reason == "time" and 180 - step <= end.seconds < 180 + step


@pytest.mark.parametrize(("step", "look"), [(1.0, 0.0), (1.0, 5.0), (0.5, 12.0)])
def test_the_learning_rate_runs_down_with_the_time(clock: Clock, step: float, look: float) -> None:
    plan = timed_plan(3.0, n_steps=round(160 / step), warmup_ratio=0.1)
    reports = pick(timed_learner(plan, clock, step=step, look=look).learn(), StepReport)
    rates = [report.learning_rate / max(report.learning_rate for report in reports) for report in reports]
    highest = rates.index(1.0)
    assert rates[-1] < 0.03
    assert 0.05 <= reports[highest].progress <= 0.15, "where the warm-up ends"
    assert all(one > other for one, other in pairwise(rates[highest:]) if other > 0.1)


@pytest.mark.parametrize("wrong", [0.1, 10.0])
def test_a_wrong_guess_of_the_speed_does_not_matter(clock: Clock, wrong: float) -> None:
    plan = timed_plan(3.0, n_steps=round(160 * wrong))
    events = list(timed_learner(plan, clock, step=1.0, look=1.0).learn())
    assert 175 <= finish(events).seconds <= 180
    rates = [report.learning_rate for report in pick(events, StepReport)]
    assert rates[-1] < 0.05 * max(rates)


def test_what_compiling_took_is_time_but_no_progress(clock: Clock) -> None:
    """Otherwise the learning rate would begin past its warm-up."""
    learner = make_learner(timed_plan(1.0), TOKENS)
    learner.add_elapsed(24.0)
    slow_down(learner, clock, 0.5)
    events = list(learner.learn())
    first = pick(events, StepReport)[0]
    assert first.seconds > 24 and first.progress < 0.05 and first.seconds_left < 40
    assert first.learning_rate < max(step.learning_rate for step in pick(events, StepReport)) / 2
    assert 55 < finish(events).seconds <= 60


def test_evaluations_take_a_small_part_of_the_time(clock: Clock) -> None:
    """They are due fifty times an epoch; at 10 s each they would take most of it."""
    plan = change(timed_plan(20.0, n_steps=220), evaluations_per_epoch=50)
    looks = pick(timed_learner(plan, clock, step=5.0, look=10.0).learn(), Evaluated)
    assert 10 <= len(looks) <= 20 * 60 / 9 / 10 + 2


def test_evaluations_that_were_asked_for_come_whatever_they_take(clock: Clock) -> None:
    plan = timed_plan(3.0, n_steps=160, evaluate_every=7)
    looks = pick(timed_learner(plan, clock, step=1.0, look=10.0).learn(), Evaluated)
    assert {event.step for event in looks} >= set(range(7, looks[-1].step, 7))


def test_epochs_that_are_done_before_the_time_end_it(clock: Clock) -> None:
    plan = timed_plan(30.0, n_steps=1_000, epochs=2.0)
    events = list(timed_learner(plan, clock, step=1.0).learn())
    end = finish(events)
    assert (end.reason, end.step) == ("done", 13)
    assert pick(events, StepReport)[-1].progress == 1.0


def test_time_that_is_over_before_the_epochs_ends_it(clock: Clock) -> None:
    events = list(timed_learner(timed_plan(1.0, epochs=100.0), clock, step=1.0).learn())
    assert (finish(events).reason, finish(events).seconds) == ("time", 60)


def test_the_share_that_is_done_never_falls_and_ends_at_one(clock: Clock) -> None:
    plan = timed_plan(3.0, n_steps=160)
    reports = pick(timed_learner(plan, clock, step=1.0, look=0.0).learn(), StepReport)
    shares = [report.progress for report in reports]
    assert shares == sorted(shares) and shares[-1] == 1.0 and reports[-1].seconds_left == 0.0
    middle = reports[len(reports) // 2]
    assert middle.seconds_left == pytest.approx(180 - middle.seconds, abs=2)
    assert middle.n_steps == pytest.approx(len(reports), abs=2), "the steps of the whole run are predicted"


@pytest.mark.parametrize(("step", "look"), [(1.0, 0.0), (1.0, 20.0), (0.1, 5.0)])
def test_without_a_limit_the_time_left_is_that_of_steps_and_evaluations_to_come(
    clock: Clock, step: float, look: float
) -> None:
    plan = timed_plan(None, epochs=4.0)
    reports = []
    for event in timed_learner(plan, clock, step=step, look=look).learn():
        if isinstance(event, StepReport):
            reports.append((event, clock.now))
    known = [(event, now) for event, now in reports if event.epoch >= 1.2]  # once an evaluation has been seen
    assert len(known) > 10
    assert [event.seconds_left for event, _ in known] == pytest.approx([clock.now - now for _, now in known])


# -- over a resume


@pytest.mark.parametrize("minutes", [3.0, None])
def test_the_time_between_two_sittings_does_not_count(clock: Clock, minutes: float | None) -> None:
    plan = timed_plan(minutes, n_steps=160)
    first = timed_learner(plan, clock, step=1.0)
    for event in first.learn():
        if isinstance(event, StepReport) and event.step == 10:
            break
    packed = first.pack()
    clock.now += 1e6
    second = timed_learner(plan, clock, step=1.0)
    second.unpack(packed)
    clock.now += 1e6
    events = list(second.learn())
    assert pick(events, StepReport)[0].seconds == 11
    assert pick(events, StepReport)[0].tokens_per_second == pytest.approx(plan.batch.tokens_per_step)
    assert finish(events).seconds == (180 if minutes else plan.schedule.n_steps)


# -- what it tells


def test_speed_is_that_of_the_steps_alone(clock: Clock) -> None:
    plan = timed_plan(None, epochs=2.0)
    reports = pick(timed_learner(plan, clock, step=2.0, look=30.0).learn(), StepReport)
    assert {round(report.tokens_per_second, 6) for report in reports} == {plan.batch.tokens_per_step / 2}


def test_a_crash_costs_ten_minutes_at_most(clock: Clock) -> None:
    """A pass of nearly two hours, with no evaluation before its end."""
    plan = change(timed_plan(None, epochs=1.0, batch_size=1), evaluations_per_epoch=1)
    saved, begun = [clock.now], clock.now
    for event in timed_learner(plan, clock, step=250.0).learn():
        if isinstance(event, CheckpointSaved):
            saved.append(clock.now)
    assert clock.now - begun > 6_000
    assert max(later - earlier for earlier, later in pairwise(saved)) <= SECONDS_BETWEEN_CHECKPOINTS + 250
    assert len(saved) < 12, "saving costs time, too"
