"""What was packed, saved and unpacked goes on as if it had never stopped, bit for bit."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest
import torch

from epigone.planning.plan import Plan
from epigone.runs.checkpoints import load_checkpoint, save_checkpoint
from epigone.runs.folder import RunFolder
from epigone.training.events import CheckpointSaved, Evaluated, Event, Finished, Started, StepReport
from epigone.training.trainer import Trainer
from helpers_plan import change
from helpers_training import are_equal, make_learner, make_tokens, pick, plan_for, tiny_model

TOKENS = make_tokens()
SCHEDULES = {
    "linear": (),
    "cosine": (),
    "reduce_lr_on_plateau": ("factor=0.5", "patience=0", "threshold=0.05"),
    "greedy": ("factor=0.5", "patience=0", "threshold=0.1", "smooth=True", "window_size=3"),
}
"""By the step, and by what earlier evaluations found."""


@cache
def plan_with(schedule: str = "linear") -> Plan:
    """Four passes of six and a quarter steps with dropout and gathered batches, reports at every second step."""
    plan = plan_for(
        TOKENS,
        epochs=4.0,
        batch_size=2,
        gradient_accumulation=2,
        dropout=0.2,
        schedule=schedule,
        schedule_arguments=SCHEDULES[schedule],
        optimizer="muon" if schedule in ("linear", "cosine") else "adamw",
    )
    return change(plan, evaluations_per_epoch=2, report_every=2)


@cache
def uninterrupted(schedule: str = "linear") -> tuple[Trainer, list[Event]]:
    learner = make_learner(plan_with(schedule), TOKENS)
    return learner, list(learner.learn())


def save(learner: Trainer, folder: Path) -> Path:
    return save_checkpoint(folder, learner.progress.step, learner.pack(), {})


def take_up(checkpoint: Path, plan: Plan) -> Trainer:
    """A learner as another process would have it: nothing is left but the plan, and all weights are others."""
    learner = Trainer(tiny_model(change(plan, seed=9)), TOKENS, plan)
    learner.unpack(load_checkpoint(checkpoint))
    return learner


def stop_and_go_on(folder: Path, schedule: str, *, after: int) -> tuple[Trainer, list[Event]]:
    """Stop after some steps, save, and go on with another learner: that one, and what the two of them told."""
    first = make_learner(plan_with(schedule), TOKENS, should_stop=lambda: first.progress.step >= after)
    *told, last = first.learn()
    assert isinstance(last, Finished) and last.reason == "interrupted"
    second = take_up(save(first, folder), plan_with(schedule))
    return second, told + list(second.learn())


def numbers(events: list[Event]) -> list[dict[str, object]]:
    """What the reports and evaluations say, but for time."""
    timed = {"seconds", "seconds_left", "tokens_per_second"}
    return [
        {item.name: getattr(event, item.name) for item in fields(event) if item.name not in timed}
        for event in events
        if isinstance(event, StepReport | Evaluated)
    ]


def assert_same_end(one: Trainer, other: Trainer) -> None:
    ours, theirs = one.pack(), other.pack()
    assert are_equal(ours.weights, theirs.weights) and are_equal(ours.random, theirs.random)
    assert are_equal(ours.optimizer, theirs.optimizer) and ours.optimizer
    assert ours.facts["rate"] == theirs.facts["rate"]


# -- to the same end


STOPS = {"linear": (1, 4, 7, 12, 24), "cosine": (12,), "reduce_lr_on_plateau": (4, 12), "greedy": (4, 12)}
"""Steps after which runs are stopped: with one schedule anywhere, with the others where they have moved."""
MORE = [(name, step) for name in SCHEDULES for step in STOPS["linear"] if step not in STOPS[name]]


@pytest.mark.parametrize(
    ("schedule", "after"),
    [
        *((name, step) for name in SCHEDULES for step in STOPS[name]),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path, schedule: str, after: int) -> None:
    """Weights, the optimizer's state, random numbers, and every number that was told."""
    expected, told = uninterrupted(schedule)
    learner, events = stop_and_go_on(tmp_path, schedule, after=after)
    assert_same_end(learner, expected)
    assert numbers(events) == numbers(told)


def test_each_schedule_here_moves() -> None:
    """Otherwise going on with it would prove nothing."""
    for schedule in SCHEDULES:
        rates = [event.learning_rate for event in pick(uninterrupted(schedule)[1], Evaluated)]
        assert len(set(rates)) >= 3, schedule


def test_a_run_that_died_goes_on_from_its_last_evaluation(tmp_path: Path) -> None:
    """It was saved at the third evaluation and lost two steps later; what comes again is what was lost."""
    expected, told = uninterrupted()
    dying = make_learner(plan_with(), TOKENS)
    n_saved, before = 0, []
    for event in dying.learn():
        before.append(event)
        n_saved += isinstance(event, CheckpointSaved)
        if n_saved == 3:
            checkpoint = save(dying, tmp_path)
            break
    saved_step = dying.progress.step
    dying.step()
    dying.step()
    learner = take_up(checkpoint, plan_with())
    assert learner.progress.step == saved_step
    assert numbers(before + list(learner.learn())) == numbers(told)
    assert_same_end(learner, expected)


def test_other_random_numbers_would_lead_to_another_end() -> None:
    """So that the comparisons above are known to see as little as that."""
    expected, _ = uninterrupted()
    first = make_learner(plan_with(), TOKENS, should_stop=lambda: first.progress.step >= 4)
    list(first.learn())
    packed = first.pack()
    second = make_learner(plan_with(), TOKENS)
    second.unpack(replace(packed, random={"cpu": torch.Generator().manual_seed(7).get_state()}))
    list(second.learn())
    assert not are_equal(second.pack().weights, expected.pack().weights)


# -- what is told


def test_it_says_that_it_goes_on(tmp_path: Path) -> None:
    _, events = stop_and_go_on(tmp_path, "linear", after=9)
    assert [(event.step, event.resumed) for event in pick(events, Started)] == [(0, False), (9, True)]


def test_the_best_and_the_patience_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three bad evaluations two were before the stop."""
    plan = change(plan_with(), patience=3)
    first = make_learner(plan, TOKENS, should_stop=lambda: first.progress.evaluated_step >= 10)
    list(first.learn())
    first.progress.best_loss, first.progress.n_worse = 0.5, 2
    second = take_up(save(first, tmp_path), plan)
    *events, end = second.learn()
    assert [event.best for event in pick(events, Evaluated)] == [False]
    assert isinstance(end, Finished) and (end.reason, end.best_loss) == ("patience", 0.5)


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    expected, _ = uninterrupted()
    learner = take_up(save(expected, tmp_path), plan_with())
    assert [type(event) for event in learner.learn()] == [Started, Finished]
    assert_same_end(learner, expected)


def test_an_evaluation_where_it_was_stopped_is_not_forgotten(tmp_path: Path) -> None:
    """Stopped after its last step it is evaluated when it goes on; the checkpoint of that step then says so."""
    plan = change(plan_with(), n_steps=23)
    plan = change(plan, epochs=23 / plan.batch.steps_per_epoch)
    first = make_learner(plan, TOKENS, should_stop=lambda: first.progress.step >= 23)
    list(first.learn())
    assert first.progress.evaluated_step == 22
    folder = RunFolder.create(tmp_path / "run")
    folder.save_checkpoint(23, first.pack())
    second = take_up(folder.checkpoints / "step-000023", plan)
    for event in second.learn():
        folder.record(event)
        if isinstance(event, CheckpointSaved):
            folder.save_checkpoint(event.step, second.pack())
    kept, _ = folder.load_checkpoint()
    assert kept is not None and kept.facts["progress"]["evaluated_step"] == 23
    assert kept.facts["progress"]["best_loss"] == second.progress.best_loss < first.progress.best_loss
    assert [event.step for event in pick(folder.read_events(), Evaluated)] == [23]


def test_a_finished_run_can_go_on_for_longer(tmp_path: Path) -> None:
    expected, _ = uninterrupted()
    plan = plan_with()
    longer = change(
        plan, epochs=(plan.schedule.n_steps + 6) / plan.batch.steps_per_epoch, n_steps=plan.schedule.n_steps + 6
    )
    events = list(take_up(save(expected, tmp_path), longer).learn())
    epochs = longer.schedule.n_steps / plan.batch.steps_per_epoch
    assert events[0] == Started(
        step=plan.schedule.n_steps, n_steps=plan.schedule.n_steps + 6, epochs=epochs, resumed=True
    )
    assert events[-1].step == longer.schedule.n_steps
    assert pick(events, Evaluated)[-1].step == longer.schedule.n_steps


def test_the_untouched_base_is_not_looked_at_again(tmp_path: Path) -> None:
    plan = change(plan_with(), base="gpt2")
    first = make_learner(plan, TOKENS, should_stop=lambda: True)
    assert [event.step for event in pick(first.learn(), Evaluated)] == [0]
    second = take_up(save(first, tmp_path), plan)
    assert pick(second.learn(), Evaluated)[0].step > 0


def test_what_is_packed_holds_plain_values_and_tensors_only() -> None:
    packed = uninterrupted("greedy")[0].pack()
    assert json.loads(json.dumps(packed.facts)) == packed.facts
    tensors = [*packed.weights.values(), *packed.optimizer.values(), *packed.random.values()]
    assert all(type(tensor) is torch.Tensor and tensor.device.type == "cpu" for tensor in tensors)
    assert "lm_head.weight" not in packed.weights, "it is the embedding, which would be kept twice"
