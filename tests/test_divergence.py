"""A loss or a weight that is not a number ends training soon; what is good is kept, and the run can go on from it."""

from __future__ import annotations

import math
import shutil
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import epigone
from conftest import Reliability, keeping
from epigone import Run, TrainSettings
from epigone.errors import SettingsError, TrainingDiverged
from epigone.planning.plan import Plan
from epigone.runs.checkpoints import find_checkpoint, find_fault, list_checkpoints, load_checkpoint
from epigone.training import state
from epigone.training.events import CheckpointSaved, Evaluated, Event, Sampled, StepReport
from epigone.training.lr_schedule import LRSchedule
from epigone.training.trainer import Trainer, are_finite
from helpers_divergence import FAULTS, Fault, going_wrong
from helpers_front import Outcome, command, hash_one, workshop, write_sonnets
from helpers_plan import change, make_schedule
from helpers_training import make_learner, make_tokens, pick, plan_for

GROUP, LOST = "A model gone astray", "what came after the last save"
TOKENS = make_tokens()
"""25 blocks: with 4 blocks a step a pass takes six and a quarter steps."""


def plan_with(*, report_every: int = 5, **settings: Any) -> Plan:
    return change(plan_for(TOKENS, **{"epochs": 8.0, **settings}), report_every=report_every)


def learn_until_it_ends(learner: Trainer) -> list[Event]:
    """What it told before it said that it had gone astray. Whatever was to be saved on the way was sound."""
    events = []
    with pytest.raises(TrainingDiverged):
        for event in learner.learn():
            events.append(event)
            if isinstance(event, CheckpointSaved):
                packed = learner.pack()
                assert are_finite([*packed.weights.values(), *packed.optimizer.values()])
                assert all(map(math.isfinite, packed.facts["progress"]["losses"]))
    return events


# -- it stops

STEPS = (1, 2, 5, 6, 7, 13, 24)

OFTEN = [("muon", 1), ("adamw", 5), ("muon", 7), ("adamw", 24)]
"""The first step, one that is reported, one before an evaluation, and one after which no evaluation comes."""
MORE = [pytest.param(*one, marks=pytest.mark.slow) for one in product(("adamw", "muon"), STEPS) if one not in OFTEN]


@pytest.mark.parametrize(("optimizer", "step"), [*OFTEN, *MORE])
@pytest.mark.parametrize("fault", FAULTS)
def test_training_stops_within_one_interval_of_reports(
    reliability: Reliability, fault: Fault, step: int, optimizer: str
) -> None:
    """Evaluations come after steps 7, 13, 19 and 25, reports at every fifth step."""
    with keeping(reliability, GROUP, f"{fault} in some step: it stops by the next report", LOST):
        with going_wrong(fault, step - 1):
            learner = make_learner(plan_with(optimizer=optimizer), TOKENS)
            events = learn_until_it_ends(learner)
        assert 0 <= learner.progress.step - step <= 5
        assert [event.step for event in pick(events, Evaluated)] == [look for look in (7, 13, 19) if look < step]
        assert all(math.isfinite(event.loss) for event in pick(events, StepReport))
        assert all(event.step < step for event in pick(events, CheckpointSaved))


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_batch_of_several_is_enough(fault: Fault) -> None:
    with going_wrong(fault, 3 * 4 + 1):
        learner = make_learner(plan_with(batch_size=1, gradient_accumulation=4), TOKENS)
        learn_until_it_ends(learner)
    assert learner.progress.step <= 4 + 5


def test_without_a_fault_it_ends_as_planned() -> None:
    """So that the faults are what ends it above."""
    assert list(make_learner(plan_with(), TOKENS).learn())[-1].step == plan_with().schedule.n_steps


# -- nothing sound is replaced


@pytest.mark.parametrize("fault", FAULTS)
def test_between_two_reports_nothing_spoiled_is_saved(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the time for a checkpoint has come after each step, and no report or evaluation is due for long."""
    monkeypatch.setattr(state, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    plan = plan_with(report_every=50, batch_size=25, epochs=60.0)
    plan = change(plan, evaluations_per_epoch=1, n_blocks=25 * 40)
    with going_wrong(fault, 9):
        learner = make_learner(plan, TOKENS)
        events = learn_until_it_ends(learner)
    assert [event.step for event in events[1:]] == list(range(1, 10)) and learner.progress.step == 10


@pytest.mark.parametrize("fault", FAULTS)
def test_who_is_stopped_after_it_saves_nothing_spoiled(fault: Fault) -> None:
    with going_wrong(fault, 1):
        learner = make_learner(plan_with(), TOKENS, should_stop=lambda: learner.progress.step >= 2)
        assert not pick(learn_until_it_ends(learner), CheckpointSaved)


@pytest.mark.parametrize("fault", ["nan gradient", "infinite gradient"])
def test_spoiled_weights_are_never_asked_to_write(fault: Fault) -> None:
    """The loss of the seventh step, which an evaluation follows, was a number still."""
    n_asked = 0

    def write(model: torch.nn.Module) -> tuple[tuple[()], None]:
        nonlocal n_asked
        n_asked += 1
        assert are_finite(model.parameters())
        return (), None

    with going_wrong(fault, 12):
        events = learn_until_it_ends(make_learner(plan_with(), TOKENS, sample=write))
    assert n_asked == 1 and len(pick(events, Sampled)) == 1


def test_a_sum_of_squares_that_has_overflowed_is_noticed() -> None:
    """The weights are numbers, but that one would never be learned again."""
    learner = make_learner(plan_with(optimizer="adamw"), TOKENS, should_stop=lambda: learner.progress.step >= 2)
    learner.step()
    learner.step()
    learner.optimizer.state[learner.model.transformer.ln_f.weight]["exp_avg_sq"][3] = torch.inf
    assert not pick(learn_until_it_ends(learner), CheckpointSaved)


@given(st.lists(st.floats(width=32), min_size=1, max_size=70), st.sampled_from([torch.float32, torch.bfloat16]))
def test_are_finite_says_what_isfinite_says(values: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(values).to(dtype)
    assert are_finite([torch.zeros(2), tensor]) == bool(tensor.isfinite().all())


# -- what is said


@pytest.mark.parametrize(("precision", "more"), [("fp32", ""), ("bf16", ", or --precision fp32")])
def test_the_error_says_what_is_kept_and_what_to_try(precision: str, more: str) -> None:
    with going_wrong("nan loss", 8):
        learner = make_learner(plan_with(learning_rate=0.004, precision=precision), TOKENS)
        with pytest.raises(TrainingDiverged) as caught:
            list(learner.learn())
    assert str(caught.value) == "The loss became nan by step 10; the best epoch so far, 1.12, is kept."
    assert caught.value.hint == f"Try a lower rate, --learning-rate 0.002{more}."
    with going_wrong("infinite loss", 4), pytest.raises(TrainingDiverged, match="became inf by step 5; there is no"):
        list(make_learner(plan_with(), TOKENS).learn())


# -- a run

TINY: dict[str, Any] = {"size": "1x32", "block_size": 32, "batch_size": 8, "epochs": 4.0, "samples": 1, "base": "none"}
TINY |= {"patience": "none", "sample_length": 8}
FLAGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
MEASURED = 5
"""Steps that are taken to measure the speed before the run."""


@cache
def text() -> Path:
    return write_sonnets(workshop(), 8_000, "diverging.txt")


@cache
def unhurt() -> Run:
    return epigone.train(text(), out=workshop() / "converged", settings=TrainSettings(**TINY))


@cache
def first_best() -> str:
    """The weights of the run's second evaluation."""
    found: list[str] = []

    def look(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            found.append(hash_one(workshop() / "watched" / "model" / "model.safetensors"))

    epigone.train(text(), out=workshop() / "watched", settings=TrainSettings(**TINY), on_event=look)
    assert len(set(found)) >= 3
    return found[1]


def step_after_second_look() -> int:
    return unhurt().evaluations[1].step + 1


def diverge(folder: Path, fault: Fault) -> tuple[Run, Outcome]:
    with going_wrong(fault, MEASURED + step_after_second_look()):
        outcome = command("train", text(), *FLAGS, "--out", folder)
    return epigone.open_run(folder), outcome


@pytest.mark.parametrize(
    "fault", [one if one == "nan gradient" else pytest.param(one, marks=pytest.mark.slow) for one in FAULTS]
)
def test_a_run_keeps_its_best_model_and_a_good_checkpoint_and_goes_on(
    fault: Fault, tmp_path: Path, reliability: Reliability
) -> None:
    with keeping(reliability, GROUP, f"{fault} in a run, which then goes on", LOST):
        _diverge_and_go_on(tmp_path, fault)


def _diverge_and_go_on(tmp_path: Path, fault: Fault) -> None:
    run, outcome = diverge(tmp_path / "run", fault)
    first, second = outcome.err.splitlines()
    assert outcome.code == 1 and first.startswith("error: The loss ") and "the best epoch so far, " in first
    assert f"epigone resume {run.path} --learning-rate" in second
    assert hash_one(run.folder.model / "model.safetensors") == first_best()
    assert run.write("Thou", length=5)
    for checkpoint in list_checkpoints(run.folder.checkpoints):
        assert find_fault(checkpoint) is None
        packed = load_checkpoint(checkpoint)
        assert are_finite([*packed.weights.values(), *packed.optimizer.values()])
    resumed = command("resume", run.path, "--quiet")
    assert resumed.code == 0, resumed.err
    ours, theirs = ([item.loss for item in one.evaluations] for one in (run, unhurt()))
    assert ours == theirs, "what went wrong does not go wrong again, and nothing else was lost"
    weights = "model.safetensors"
    assert hash_one(run.folder.model / weights) == hash_one(unhurt().folder.model / weights)


def test_a_rate_that_is_far_too_high_is_noticed_and_a_lower_one_taken_on_resume(tmp_path: Path) -> None:
    """No fault is put in here."""
    wild = command(
        "train", text(), *FLAGS, "--learning-rate", "1e30", "--max-grad-norm", "0", "--out", tmp_path / "run"
    )
    assert wild.code == 1 and "became" in wild.err, wild.err
    calm = command("resume", tmp_path / "run", "--learning-rate", "0.003", "--quiet")
    assert calm.code == 0, calm.err
    run = epigone.open_run(tmp_path / "run")
    plan = run.folder.read_manifest().plan
    assert (plan.optimizer.learning_rate, plan.optimizer.matrix_share) == (0.003, 4.0)
    assert run.folder.read_settings().learning_rate == 0.003
    assert plan.reasons["learning_rate"] == "as asked when the run was resumed"
    assert all(item.learning_rate <= 0.003 for item in run.evaluations)
    assert run.best is not None and run.best.loss < run.evaluations[0].loss + 1e-9


def test_a_lower_rate_scales_all_that_is_to_come_and_nothing_else(tmp_path: Path) -> None:
    run = Path(shutil.copytree(diverge(tmp_path / "first", "nan loss")[0].path, tmp_path / "run"))
    before = epigone.open_run(run).folder.read_manifest().plan
    epigone.resume(run, learning_rate=before.optimizer.learning_rate / 4)
    after = epigone.open_run(run)
    looks, theirs = after.evaluations, unhurt().evaluations
    assert [item.step for item in looks] == [item.step for item in theirs]
    shares = [ours.learning_rate / other.learning_rate for ours, other in zip(looks, theirs, strict=True)]
    assert shares == pytest.approx([1, 1] + [0.25] * (len(looks) - 2))
    plan = after.folder.read_manifest().plan
    assert plan == change(before, learning_rate=before.optimizer.learning_rate / 4, reasons=plan.reasons)
    assert find_checkpoint(after.folder.checkpoints)[0] is not None


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(SettingsError):
        epigone.resume(unhurt().path, learning_rate=rate)


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "greedy"])
def test_schedules_that_remember_rates_take_up_lower_ones(schedule: str) -> None:
    def make(peak: float) -> LRSchedule:
        return LRSchedule(make_schedule(schedule, "factor=0.5", "patience=0", n_steps=100), peak=peak)

    first, lower, same = make(0.01), make(0.0025), make(0.01)
    for loss in (1.0, 2.0, 3.0):
        first.see(loss)
    assert first.at(0) < 0.01
    lower.restore(first.state())
    same.restore(first.state())
    assert same.at(0) == first.at(0) and lower.at(0) == pytest.approx(first.at(0) / 4)
    for loss in (4.0, 3.0, 2.0, 1.0, 0.5, 0.2):
        for rate in (first, lower, same):
            rate.see(loss)
        assert same.at(0) == first.at(0) and lower.at(0) == pytest.approx(first.at(0) / 4)
