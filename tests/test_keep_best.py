"""Which of a run's epochs is kept: by its loss, or by what its samples are like."""

from __future__ import annotations

import pytest

from epigone.training.events import Evaluated, Finished, Grade, SampleStats, find_best
from epigone.training.trainer import SampleFunction
from helpers_plan import change
from helpers_training import make_learner, pick
from test_learner import TOKENS, plan_with, scripted

__all__ = ["scripted"]


def criticise(*, copying: Grade = "good", repeating: Grade = "good", sounds_like: float | None = None) -> SampleStats:
    tones = {"copying": copying, "repeating": repeating}
    return SampleStats(n_characters=9, copied=0, longest_copied=9, repeated=0, sounds_like=sounds_like, **tones)


def sample_in_turn(*found: SampleStats) -> SampleFunction:
    """Samples of which this is found, one evaluation after the other."""
    turns = iter(found)
    return lambda model: ((), next(turns))


SPOILED = {"copies": {"copying": "bad"}, "repeats": {"repeating": "bad"}, "sounds otherwise": {"sounds_like": 39.0}}


@pytest.mark.parametrize("what", SPOILED)
@pytest.mark.parametrize(("keep_best", "kept"), [("loss", 3), ("quality", 2)])
def test_an_epoch_with_spoiled_samples_is_not_the_best_one_if_so_asked(
    scripted: list[float], keep_best: str, kept: int, what: str
) -> None:
    """The losses fall to the third of four epochs, and from there on the samples copy or repeat themselves."""
    scripted[:] = [4.0, 3.0, 2.0, 2.5]
    plan = change(plan_with(epochs=4), keep_best=keep_best)
    good, bad = criticise(sounds_like=41.0), criticise(**SPOILED[what])
    events = list(make_learner(plan, TOKENS, sample=sample_in_turn(good, good, bad, bad)).learn())
    evaluations = pick(events, Evaluated)
    assert [event.best for event in evaluations] == [number <= kept for number in (1, 2, 3, 9)]
    assert find_best(evaluations) is evaluations[kept - 1]
    assert pick(events, Finished)[0].best_loss == evaluations[kept - 1].loss


@pytest.mark.parametrize(("keep_best", "best"), [("loss", [1]), ("quality", [1, 3, 4])])
def test_an_epoch_that_is_clean_beats_spoiled_ones_whatever_its_loss_if_so_asked(
    scripted: list[float], keep_best: str, best: list[int]
) -> None:
    scripted[:] = [2.0, 2.5, 4.0, 3.0]
    plan = change(plan_with(epochs=4), keep_best=keep_best)
    bad, good = criticise(copying="bad"), criticise()
    learner = make_learner(plan, TOKENS, sample=sample_in_turn(bad, bad, good, good))
    evaluations = pick(list(learner.learn()), Evaluated)
    assert [number for number, event in enumerate(evaluations, 1) if event.best] == best
    assert find_best(evaluations) is evaluations[best[-1] - 1]
    assert learner.progress.best_loss == evaluations[best[-1] - 1].loss and not learner.progress.best_spoiled


def test_of_spoiled_epochs_the_one_with_the_lowest_loss_is_kept(scripted: list[float]) -> None:
    scripted[:] = [4.0, 3.0, 3.5]
    plan = change(plan_with(epochs=3), keep_best="quality")
    learner = make_learner(plan, TOKENS, sample=sample_in_turn(*[criticise(repeating="bad")] * 3))
    assert [event.best for event in pick(list(learner.learn()), Evaluated)] == [True, True, False]
    assert learner.progress.best_spoiled
