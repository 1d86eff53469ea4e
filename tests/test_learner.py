"""The learner tells in order what it does, stops where it should, and learns what its numbers say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from epigone.errors import TrainingDiverged
from epigone.planning.plan import Plan
from epigone.training.evaluate import Evaluation, evaluate
from epigone.training.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    Sample,
    Sampled,
    Stage,
    Started,
    StepReport,
)
from epigone.training.lr_schedule import LRSchedule
from epigone.training.trainer import Trainer
from helpers_plan import change, make_schedule
from helpers_training import (
    are_equal,
    copy_weights,
    make_learner,
    make_tokens,
    pick,
    plan_for,
    regular_ids,
    tiny_model,
    watch_gradients,
)

TOKENS = make_tokens()
"""25 blocks: with 4 blocks a step a pass takes six and a quarter steps."""
LOOK = [Evaluated, CheckpointSaved]


def plan_with(*, per_epoch: int = 1, report_every: int = 1, base: str = "none", **settings: object) -> Plan:
    return change(plan_for(TOKENS, **settings), evaluations_per_epoch=per_epoch, report_every=report_every, base=base)


def learn(plan: Plan) -> list[Event]:
    return list(make_learner(plan, TOKENS).learn())


def kinds(events: Sequence[Event]) -> list[type[Event]]:
    return [type(event) for event in events if not isinstance(event, Stage)]


def stop_after(plan: Plan, n_steps: int) -> Trainer:
    """A trainer that is stopped after some steps."""
    learner = make_learner(plan, TOKENS, should_stop=lambda: learner.progress.step >= n_steps)
    return learner


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Losses that the held-out text will be found to have, one after another; the last one again and again."""
    losses = [0.0]

    def find(*_: object, **__: object) -> Evaluation:
        loss = losses.pop(0) if len(losses) > 1 else losses[0]
        return Evaluation(loss=loss, accuracy=0.5, n_tokens=100, n_bytes=300)

    monkeypatch.setattr("epigone.training.trainer.evaluate", find)
    return losses


# -- what it tells


def test_events_come_in_order() -> None:
    """Ten steps: an epoch ends within the seventh, and the run in the middle of the next."""
    plan = plan_with(epochs=1.5)
    sample = Sample(prompt="a", text="b", seed=0)
    events = list(make_learner(plan, TOKENS, sample=lambda model: ((sample,), None)).learn())
    look = [Evaluated, Sampled, CheckpointSaved]
    assert kinds(events) == [Started, *[StepReport] * 7, *look, *[StepReport] * 3, *look, Finished]
    assert [event.step for event in events if not isinstance(event, Stage)] == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        *[7] * 4,
        8,
        9,
        *[10] * 4,
        10,
    ]
    assert all(event.samples == (sample,) for event in pick(events, Sampled))


def test_it_begins_and_ends_with_the_whole() -> None:
    first, *_, last = learn(plan_with(epochs=1.5))
    assert first == Started(step=0, n_steps=10, epochs=1.5, resumed=False)
    assert isinstance(last, Finished)
    assert (last.step, last.epoch, last.reason) == (10, 1.6, "done")


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"epochs": 4.0}, [7, 13, 19, 25]),
        ({"epochs": 0.3}, [2]),
        ({"epochs": 1.0, "per_epoch": 3}, [3, 5, 7]),
        ({"epochs": 1.5, "evaluate_every": 4}, [4, 7, 8, 10]),
        ({"epochs": 2.0, "batch_size": 25}, [1, 2]),
        ({"epochs": 4.0, "batch_size": 40}, [1, 2, 3]),
    ],
    ids=str,
)
def test_it_looks_at_each_epoch_and_always_at_the_end(settings: dict[str, object], steps: list[int]) -> None:
    found = pick(learn(plan_with(**settings)), Evaluated)  # type: ignore[arg-type]
    assert [event.step for event in found] == steps


def test_reports_say_how_far_it_is() -> None:
    plan = plan_with(epochs=2.0)
    reports = pick(learn(plan), StepReport)
    n_steps = plan.schedule.n_steps
    assert [report.progress for report in reports] == [step / n_steps for step in range(1, n_steps + 1)]
    assert [report.epoch for report in reports] == [step * 4 / 25 for step in range(1, n_steps + 1)]
    assert {report.n_steps for report in reports} == {n_steps}
    assert 0 <= reports[-1].seconds_left < reports[0].seconds_left


def test_a_report_is_the_mean_of_the_steps_since_the_last() -> None:
    each = [report.loss for report in pick(learn(plan_with()), StepReport)]
    few = pick(learn(plan_with(report_every=3)), StepReport)
    last = 0
    assert [report.step for report in few] == [3, 6, 7, 9, 12, 13]
    for report in few:
        between = each[last : report.step]
        assert report.loss == pytest.approx(sum(between) / len(between), rel=1e-6)
        last = report.step


def test_the_training_loss_is_the_mean_of_the_steps_since_the_last_look() -> None:
    events = learn(plan_with())
    losses = [report.loss for report in pick(events, StepReport)]
    first, second = pick(events, Evaluated)
    assert first.training_loss == pytest.approx(sum(losses[:7]) / 7, rel=1e-6)
    assert second.training_loss == pytest.approx(sum(losses[7:13]) / 6, rel=1e-6)


def test_the_learning_rate_follows_the_schedule_and_is_told() -> None:
    """The rate of a step is that of its middle, so that neither the first nor the last step is lost."""
    plan = plan_with(epochs=3.0, schedule="cosine", warmup_ratio=0.2)
    curve = LRSchedule(
        make_schedule("cosine", n_steps=plan.schedule.n_steps, warmup_ratio=0.2), peak=plan.optimizer.learning_rate
    )
    rates = [report.learning_rate for report in pick(learn(plan), StepReport)]
    expected = [curve.at(step + 0.5) for step in range(plan.schedule.n_steps)]
    assert [rate / max(rates) for rate in rates] == pytest.approx([rate / max(expected) for rate in expected])
    assert min(rates) > 0


def test_between_two_events_the_learner_is_what_the_event_says() -> None:
    plan = plan_with()
    learner = make_learner(plan, TOKENS)
    for event in learner.learn():
        assert isinstance(event, Stage) or learner.progress.step == event.step
        if isinstance(event, Evaluated):
            found = evaluate(
                learner.model, TOKENS.validation, block_size=16, batch_size=4, accelerator=learner.accelerator
            )
            said = (event.loss, event.accuracy, event.perplexity, event.bits_per_byte, event.n_tokens)
            assert said == (found.loss, found.accuracy, found.perplexity, found.bits_per_byte, found.n_tokens)


def test_the_untouched_base_is_epoch_zero() -> None:
    plan = plan_with(base="gpt2")
    learner = make_learner(plan, TOKENS)
    untouched = evaluate(
        tiny_model(plan), TOKENS.validation, block_size=16, batch_size=4, accelerator=learner.accelerator
    )
    events = list(learner.learn())
    assert kinds(events)[:4] == [Started, *LOOK, StepReport]
    first = pick(events, Evaluated)[0]
    assert (first.step, first.epoch, first.training_loss, first.learning_rate) == (0, 0.0, None, 0.0)
    assert first.loss == untouched.loss and first.best


# -- the best


def test_the_best_is_the_lowest_loss_so_far(scripted: list[float]) -> None:
    scripted[:] = [3.0, 2.0, 2.5, 2.0, 1.5, 1.75]
    *events, end = learn(plan_with(epochs=6.0))
    assert [event.best for event in pick(events, Evaluated)] == [True, True, False, False, True, False]
    assert isinstance(end, Finished)
    assert (end.best_loss, end.best_step, end.best_epoch) == (1.5, 32, 32 * 4 / 25)


@pytest.mark.parametrize(("patience", "n_looks"), [(1, 3), (2, 6), (3, 7), ("none", 8)])
def test_patience_ends_after_so_many_looks_without_a_better_one(
    scripted: list[float], patience: object, n_looks: int
) -> None:
    """To be as good as the best is not to be better."""
    losses = [3.0, 2.0, 2.5, 1.9, 2.0, 2.1, 1.9, 1.8]
    scripted[:] = losses
    *events, end = learn(plan_with(epochs=8.0, patience=patience))
    assert isinstance(end, Finished) and end.reason == ("done" if patience == "none" else "patience")
    assert len(pick(events, Evaluated)) == n_looks and end.best_loss == min(losses[:n_looks])


# -- stopping


@pytest.mark.parametrize("n_steps", [0, 3, 7, 9])
def test_who_is_stopped_saves_and_looks_no_more(n_steps: int) -> None:
    events = list(stop_after(plan_with(), n_steps).learn())
    saved, end = events[-2:]
    assert saved == CheckpointSaved(step=n_steps) and isinstance(end, Finished)
    assert (end.reason, end.step) == ("interrupted", n_steps)
    assert [event.step for event in pick(events, Evaluated)] == [step for step in (7,) if step <= n_steps]
    assert (end.best_loss == math.inf) is (n_steps < 7)


@pytest.mark.parametrize("base", ["none", "gpt2"])
def test_a_loss_that_is_not_a_number_is_an_error_and_nothing_is_called_the_best(base: str) -> None:
    plan = plan_with(base=base, report_every=100)
    learner = make_learner(plan, TOKENS)
    with torch.no_grad():
        learner.model.transformer.ln_f.weight[3] = torch.nan
    events = []
    with pytest.raises(TrainingDiverged, match="became nan") as caught:
        events.extend(learner.learn())
    assert "--learning-rate" in caught.value.hint
    assert not pick(events, Evaluated) and learner.progress.best_loss == math.inf


# -- learning


def test_it_learns_what_can_be_predicted() -> None:
    """A uniform guess costs 3.91 nats, a guess by frequency hardly less; who knows the rule needs 1.26."""
    tokens = make_tokens(train=regular_ids(4_000), validation=regular_ids(1_000, seed=1))
    plan = change(plan_for(tokens, epochs=6.0), report_every=1)
    events = list(make_learner(plan, tokens).learn())
    losses = [report.loss for report in pick(events, StepReport)]
    assert losses[0] == pytest.approx(math.log(50), abs=0.1)
    assert sum(losses[-10:]) / 10 < 1.6
    best = min(pick(events, Evaluated), key=lambda event: event.loss)
    assert best.loss < 1.6 and 0.75 < best.accuracy < 0.85


def test_each_group_of_parameters_has_its_share_of_the_rate() -> None:
    """As the optimizer sets them: matrices, embeddings and the rest."""
    learner = make_learner(plan_with(optimizer="muon"), TOKENS)
    shares = [group["share"] for group in learner.optimizer.param_groups]
    learner.step()
    rate = learner.progress.learning_rate
    assert len(set(shares)) > 1 and rate > 0
    assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([rate * one for one in shares])


def first_gradients(plan: Plan) -> tuple[dict[str, torch.Tensor], float]:
    """The gradients that the first step goes by, and the loss that it tells."""
    learner = make_learner(plan, TOKENS)
    with watch_gradients(learner.model) as seen:
        report = next(event for event in learner.learn() if isinstance(event, StepReport))
    assert len(seen) == 1, "one update a step"
    return seen[0], report.loss


@pytest.mark.parametrize("gradient_accumulation", [2, 4, 8])
def test_batches_gathered_into_a_step_are_one_large_batch(gradient_accumulation: int) -> None:
    whole, loss = first_gradients(plan_with(batch_size=8, max_grad_norm=0.0))
    parts, mean = first_gradients(
        plan_with(batch_size=8 // gradient_accumulation, gradient_accumulation=gradient_accumulation, max_grad_norm=0.0)
    )
    assert mean == pytest.approx(loss, rel=1e-6)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_gathered_batches_lead_to_the_same_losses() -> None:
    one, other = (
        [event.loss for event in pick(learn(plan_with(batch_size=8 // n, gradient_accumulation=n)), Evaluated)]
        for n in (1, 2)
    )
    assert other == pytest.approx(one, rel=1e-3)


def test_no_gradient_is_left_over_from_the_step_before() -> None:
    """A learner that has taken a step hands over what one does that starts from the same weights."""
    plan = plan_with(max_grad_norm=0.0)
    learner = make_learner(plan, TOKENS)
    with watch_gradients(learner.model) as seen:
        learner.step()
        fresh = make_learner(plan, TOKENS)
        fresh.model.load_state_dict(learner.model.state_dict())
        learner.step()
    with watch_gradients(fresh.model) as expected:
        fresh.progress.step = 1
        fresh.step()
    assert are_equal(seen[1], expected[0])


def test_the_gradient_is_shortened_to_the_clip_and_keeps_its_direction() -> None:
    free, _ = first_gradients(plan_with(max_grad_norm=0.0))
    norm = torch.stack([gradient.norm() for gradient in free.values()]).norm()
    clipped, _ = first_gradients(plan_with(max_grad_norm=float(norm) / 4))
    for name, gradient in free.items():
        torch.testing.assert_close(clipped[name], gradient / 4, rtol=1e-3, atol=1e-7, msg=name)
    short, _ = first_gradients(plan_with(max_grad_norm=float(norm) * 2))
    assert are_equal(short, free)


# -- chance


def end_of(plan: Plan, *, seed_before: int = 0) -> dict[str, torch.Tensor]:
    """The weights at the end, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_before)
        learner = Trainer(tiny_model(change(plan, seed=0)), TOKENS, plan)
        list(learner.learn())
    return copy_weights(learner.model)


def test_equal_seeds_make_equal_models() -> None:
    plan = plan_with(epochs=1.0, dropout=0.2)
    assert are_equal(end_of(plan, seed_before=1), end_of(plan, seed_before=2))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_another_seed_makes_another_model_from_the_same_start(dropout: float) -> None:
    plan = plan_with(epochs=1.0, dropout=dropout)
    assert not are_equal(end_of(plan), end_of(change(plan, seed=1)))


def test_dropout_is_on_while_it_learns() -> None:
    plan = plan_with(epochs=1.0)
    assert not are_equal(end_of(plan), end_of(change(plan, dropout=0.2)))
