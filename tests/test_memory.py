"""Where memory runs out the same is learned in smaller parts, and where that does not help one error says what does."""

from __future__ import annotations

import shutil
from functools import cache
from typing import Any

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from conftest import Reliability, keeping
from epigone.errors import OutOfMemory
from epigone.hardware import is_out_of_memory, with_smaller_batches
from epigone.planning.plan import Plan
from epigone.preparation import measure_speed
from epigone.training import evaluate as evaluation
from epigone.training.evaluate import evaluate
from epigone.training.events import BatchSplit, Evaluated, Event, Finished, StepReport
from epigone.training.trainer import Trainer
from helpers_plan import change
from helpers_shortage import ERRORS, Machine, Place
from helpers_training import are_equal, copy_weights, make_learner, make_tokens, pick, plan_for, tiny_model

TOKENS = make_tokens()
"""25 blocks: with 8 blocks a step a pass takes a little over three steps."""


def plan_with(**settings: Any) -> Plan:
    usual: dict[str, Any] = {"batch_size": 8, "epochs": 3.0, "optimizer": "adamw"}
    return change(plan_for(TOKENS, **usual | settings), report_every=1)


def learn_on(machine: Machine, plan: Plan) -> tuple[Trainer, list[Event]]:
    with machine.at_work():
        learner = make_learner(plan, TOKENS)
        return learner, list(learner.learn())


@cache
def unhurt(**settings: Any) -> tuple[Trainer, list[Event], list[torch.Tensor]]:
    """What becomes of the plan on a machine with memory for all."""
    machine = Machine(fits=None)
    learner, events = learn_on(machine, plan_with(**settings))
    return learner, events, machine.read


def assert_close(one: Trainer, other: Trainer, tolerance: float = 1e-3) -> None:
    """Whether they have gone the same way: what is between their ends is nothing beside the way itself.

    Where a gradient is next to nothing AdamW makes a step of the order in which it was summed up.
    """
    start = tiny_model(other.plan).state_dict()
    for name, end in other.model.state_dict().items():
        way = (end - start[name]).norm()
        assert (one.model.state_dict()[name] - end).norm() <= tolerance * way, name
        assert way > 0, name


# -- what running out of memory looks like


@pytest.mark.parametrize("kind", ERRORS)
def test_a_shortage_is_known_by_its_class_or_its_words(kind: str) -> None:
    error = ERRORS[kind]()
    assert is_out_of_memory(error)
    outer = BackendCompilerFailed(lambda: None, error, None) if isinstance(error, Exception) else None
    assert is_out_of_memory(outer)
    try:
        raise RuntimeError("while it was compiled") from error
    except RuntimeError as other:
        assert is_out_of_memory(other)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("x"), None])
def test_other_errors_are_none(error: Exception | None) -> None:
    assert not is_out_of_memory(error)


def test_torch_complains_as_we_expect() -> None:
    """A petabyte is more than this machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as other:
        bytearray(2**62)
    assert is_out_of_memory(other.value)


def test_what_is_done_at_once_is_halved_until_it_fits() -> None:
    asked = []

    def work(at_once: int) -> str:
        asked.append(at_once)
        if at_once > 3:
            raise MemoryError
        return f"{at_once} at once"

    assert with_smaller_batches(work, 21, what="x", hint="y") == ("3 at once", 3)
    assert asked == [21, 11, 6, 3]


# -- a step that does not fit


@pytest.mark.parametrize("place", ["forward", "backward"])
@pytest.mark.parametrize("kind", ERRORS)
def test_it_goes_on_in_halves_to_the_same_end(reliability: Reliability, kind: str, place: Place) -> None:
    """From the fifth pass on: the same tokens are read, the same rates taken, the same weights come out."""
    fault = "memory runs out in the forward or backward pass, as each kind of device says it"
    with keeping(reliability, "Memory", fault):
        _compare_halves(kind, place)


def _compare_halves(kind: str, place: Place) -> None:
    expected, told, read = unhurt()
    machine = Machine(fits=4, place=place, kind=kind, from_call=4)
    learner, events = learn_on(machine, plan_with())
    assert machine.n_failed == 1, "from then on it is known what fits"
    assert_close(learner, expected)
    assert not are_equal(copy_weights(learner.model), copy_weights(tiny_model(plan_with())))
    assert torch.equal(torch.cat(machine.read), torch.cat(read))
    assert [len(ids) for ids in machine.read] == [8] * 4 + [4] * 2 * (learner.plan.schedule.n_steps - 4)
    ours, theirs = pick(events, StepReport), pick(told, StepReport)
    assert [(item.step, item.n_steps, item.learning_rate) for item in ours] == [
        (item.step, item.n_steps, item.learning_rate) for item in theirs
    ]
    assert [item.loss for item in ours] == pytest.approx([item.loss for item in theirs], rel=1e-4)
    assert [item.loss for item in pick(events, Evaluated)] == pytest.approx(
        [item.loss for item in pick(told, Evaluated)], rel=1e-4
    )


def test_it_is_told_when_and_into_how_many_parts() -> None:
    learner, events = learn_on(Machine(fits=2, from_call=4), plan_with())
    assert pick(events, BatchSplit) == [BatchSplit(step=5, batch_size=8, parts=4)]
    assert learner.plan == plan_with() and learner.parts == 4
    assert isinstance(events[-1], Finished) and events[-1].reason == "done"
    assert not pick(unhurt()[1], BatchSplit)


@pytest.mark.parametrize("place", ["forward", "backward"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_with_dropout_the_same_random_numbers_are_drawn_again(
    reliability: Reliability, optimizer: str, place: Place
) -> None:
    """Short of memory from the first pass on, it ends bit for bit where a plan with smaller batches does."""
    fault = "memory runs out with dropout: bit for bit the end of a run that was planned with such batches"
    with keeping(reliability, "Memory", fault):
        _compare_with_smaller_batches(optimizer, place)


def _compare_with_smaller_batches(optimizer: str, place: Place) -> None:
    how: dict[str, Any] = {"dropout": 0.2, "optimizer": optimizer}
    planned, _ = learn_on(Machine(fits=None), plan_with(batch_size=2, gradient_accumulation=4, **how))
    found, _ = learn_on(Machine(fits=2, place=place), plan_with(**how))
    assert are_equal(copy_weights(found.model), copy_weights(planned.model))
    assert are_equal(found.pack().optimizer, planned.pack().optimizer)
    assert are_equal(found.pack().random, planned.pack().random)
    whole, _ = learn_on(Machine(fits=None), plan_with(**how))
    assert not are_equal(copy_weights(found.model), copy_weights(whole.model)), "or this would show nothing"


def test_a_failure_in_the_last_of_several_batches_undoes_the_others() -> None:
    """Of three gathered batches the first two have left gradients and losses when the third fails."""
    how: dict[str, Any] = {"batch_size": 4, "gradient_accumulation": 3}
    expected, told, _ = unhurt(**how)
    learner, events = learn_on(Machine(fits=2, from_call=3 + 2, place="backward"), plan_with(**how))
    assert pick(events, BatchSplit) == [BatchSplit(step=2, batch_size=4, parts=2)]
    assert_close(learner, expected)
    losses = [item.loss for item in pick(told, StepReport)]
    assert [item.loss for item in pick(events, StepReport)] == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("batch_size", [2, 3, 5, 7, 8])
@pytest.mark.parametrize("fits", [1, 2, 3])
def test_whatever_the_batch_every_block_weighs_the_same(batch_size: int, fits: int) -> None:
    expected, _, read = unhurt(batch_size=batch_size, gradient_accumulation=2, epochs=2.0)
    machine = Machine(fits=fits)
    learner, _ = learn_on(machine, plan_with(batch_size=batch_size, gradient_accumulation=2, epochs=2.0))
    assert max(map(len, machine.read)) <= fits and learner.plan.batch.blocks_per_step == 2 * batch_size
    whole = machine.read[-2 * learner.parts * learner.plan.schedule.n_steps :]  # without what came to nothing
    assert torch.equal(torch.cat(whole), torch.cat(read))
    assert_close(learner, expected)


@pytest.mark.parametrize("n_processes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5])
def test_the_parts_of_all_processes_are_the_step(parts: int, n_processes: int) -> None:
    plan = change(plan_with(batch_size=5, gradient_accumulation=2), parts=parts, n_processes=n_processes)
    rows = [
        list(range(plan.batch.blocks_per_step))[part]
        for p in range(n_processes)
        for part in plan.batch.list_rows(p, parts)
    ]
    assert sorted(row for part in rows for row in part) == list(range(plan.batch.blocks_per_step))
    assert plan.batch.largest_share == -(-5 // n_processes)
    assert min(map(len, rows)) >= 1 and max(map(len, rows)) == -(-plan.batch.largest_share // parts)


def test_other_errors_are_not_tried_again() -> None:
    machine = Machine(fits=2, from_call=3)
    ERRORS["other"] = lambda: RuntimeError("The size of tensor a must match")
    machine.kind = "other"
    try:
        with pytest.raises(RuntimeError, match="size of tensor"):
            learn_on(machine, plan_with())
    finally:
        del ERRORS["other"]
    assert machine.n_failed == 1


@pytest.mark.parametrize(
    ("settings", "hint"), [({}, "--block-size or --size"), ({"base": "gpt2"}, "--block-size or --base, or --lora 16")]
)
def test_a_block_that_does_not_fit_alone_is_one_error_that_says_what_to_set(
    settings: dict[str, Any], hint: str
) -> None:
    machine = Machine(fits=0, from_call=2)
    plan = change(plan_with(), base=settings.get("base", "none"))
    with machine.at_work():
        learner, events = make_learner(plan, TOKENS), []
        with pytest.raises(OutOfMemory, match="one block of 16 tokens does not fit on cpu") as caught:
            events.extend(learner.learn())
    assert hint in caught.value.hint and machine.n_failed == 4, "8, 4, 2 and 1 at once"
    assert learner.progress.step == 2 and caught.value.exit_code == 1


def test_an_update_is_never_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """To compute less at once would not help it, and half of it may be done already."""
    learner, n_tried = make_learner(plan_with(), TOKENS), []

    def fail() -> None:
        n_tried.append(1)
        raise ERRORS["cuda"]()

    learner.step()
    monkeypatch.setattr(learner._stepper, "step", fail)
    with pytest.raises(OutOfMemory, match="optimizer's state does not fit") as caught:
        learner.step()
    assert len(n_tried) == 1 and "epigone resume" in caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("compile", ["layers", "full"])
def test_compiled_steps_take_another_shape(compile: str) -> None:
    """Compiled for eight blocks, then for four."""
    expected, _, _ = unhurt(epochs=1.0)
    machine = Machine(fits=4, place="backward", from_call=2)
    learner, events = learn_on(machine, plan_with(epochs=1.0, compile=compile))
    assert learner.plan.compute.compile == compile and len(pick(events, BatchSplit)) == 1
    assert_close(learner, expected, 1e-2)


# -- held-out text


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """[blocks that fit into memory when they are evaluated, the most that were tried, passes that failed]."""
    limits, measure = [1_000, 0, 0], evaluation._measure

    def measure_or_fail(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        limits[1] = max(limits[1], len(targets))
        if len(targets) > limits[0]:
            limits[2] += 1
            raise ERRORS["cuda"]()
        return measure(logits, targets)

    monkeypatch.setattr(evaluation, "_measure", measure_or_fail)
    return limits


def look(learner: Trainer, batch_size: int) -> evaluation.Evaluation:
    return evaluate(
        learner.model,
        TOKENS.validation,
        block_size=16,
        batch_size=batch_size,
        accelerator=learner.accelerator,
    )


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_held_out_text_is_read_in_smaller_batches_with_the_same_result(shortage: list[int], fits: int) -> None:
    learner = make_learner(plan_with(), TOKENS)
    whole = look(learner, 5)
    shortage[0] = fits
    found = look(learner, 5)
    assert (found.accuracy, found.n_tokens, found.n_bytes) == (whole.accuracy, whole.n_tokens, whole.n_bytes)
    assert found.loss == pytest.approx(whole.loss, rel=1e-6) and shortage[1] == 5
    assert learner.model.training


def test_once_it_is_known_what_fits_no_more_is_tried(shortage: list[int]) -> None:
    """101 ids are six blocks and a rest: batches of three, of which two do not fit at first."""
    shortage[0] = 2
    look(make_learner(plan_with(), TOKENS), 3)
    assert shortage[2] == 1


def test_training_and_evaluation_both_short_of_memory_end_where_they_should(shortage: list[int]) -> None:
    expected, told, _ = unhurt()
    shortage[0] = 1
    learner, events = learn_on(Machine(fits=3, from_call=5), plan_with())
    assert_close(learner, expected)
    assert [item.loss for item in pick(events, Evaluated)] == pytest.approx(
        [item.loss for item in pick(told, Evaluated)], rel=1e-4
    )


def test_held_out_text_of_which_no_block_fits_is_one_error(shortage: list[int]) -> None:
    shortage[0] = 0
    with pytest.raises(OutOfMemory, match="one block of 16 tokens of the held-out text") as caught:
        look(make_learner(plan_with(), TOKENS), 4)
    assert "--block-size" in caught.value.hint


# -- before the run


def test_what_does_not_fit_is_found_when_the_speed_is_measured() -> None:
    machine, plan = Machine(fits=3), plan_with()
    with machine.at_work():
        found = measure_speed(tiny_model(plan), TOKENS, plan, time_samples=lambda model: 0.0)
    assert found.parts == 4 and 0 < found.seconds_per_step < 5
    assert measure_speed(tiny_model(plan), TOKENS, plan, time_samples=lambda model: 0.0).parts == 1
