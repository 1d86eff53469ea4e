"""Several processes agree now and then, not at each step, and on the same: rates, the end, wishes, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from epigone.training import trainer
from epigone.training.distributed import join_processes
from epigone.training.events import CheckpointSaved, Finished, StepReport
from epigone.training.state import Pace
from helpers_ranks import run_together
from helpers_training import copy_weights, make_learner, make_tokens, pick, plan_for


def test_between_two_agreements_the_share_goes_on_at_the_pace_of_before() -> None:
    pace = Pace(step=10, share=0.5, per_step=0.01, next_step=20, stops=False, saves=False)
    assert pace.share_at(10) == 0.5 and pace.share_at(15) == pytest.approx(0.55)


def learn(rank: int, place: Path, name: str, more: dict[str, Any]) -> None:
    """The second process is asked to stop, or finds that a checkpoint is due, and the first is not."""
    calls = 0
    real = trainer.all_reduce_max

    def count(*values: Any) -> list[float]:
        nonlocal calls
        calls += 1
        return real(*values)

    trainer.all_reduce_max = count
    if name == "saves":
        trainer.Clock.is_checkpoint_due = property(lambda self: rank == 1 and self._progress.step == 12)  # type: ignore[assignment,method-assign]
        trainer.SECONDS_ALONE = 0.0
    tokens = make_tokens()
    with join_processes():
        plan = plan_for(tokens, n_processes=2, **more)
        asked = {"should_stop": lambda: rank == 1 and learner.progress.step >= 7} if name == "stops" else {}
        learner = make_learner(plan, tokens, **asked)
        events = list(learner.learn())
        found = {
            "calls": calls,
            "steps": learner.progress.step,
            "rates": [item.learning_rate for item in pick(events, StepReport)],
            "reason": pick(events, Finished)[0].reason,
            "saved": [item.step for item in pick(events, CheckpointSaved)],
            "weights": float(sum(value.double().abs().sum() for value in copy_weights(learner.model).values())),
        }
    (place / f"{name}-{rank}.json").write_text(json.dumps(found), "utf-8")


CASES: dict[str, dict[str, Any]] = {
    "steps": {"epochs": 30.0, "evaluate_every": 1_000},
    "time": {"epochs": 10_000.0, "minutes": 0.05, "n_steps_in_time": 400},
    "stops": {"epochs": 1_000.0},
    "saves": {"epochs": 4.0, "evaluate_every": 1_000},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_do_the_same_without_waiting_at_each_step(tmp_path: Path, name: str) -> None:
    outcomes = run_together(2, tmp_path / "log", learn, tmp_path, name, CASES[name])
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    first, second = (json.loads((tmp_path / f"{name}-{rank}.json").read_text("utf-8")) for rank in (0, 1))
    assert first == second
    assert first["steps"] > 5 and torch.tensor(first["rates"]).isfinite().all()
    if name in ("steps", "time"):
        assert first["calls"] < first["steps"], "it was twice a step"
    assert first["reason"] == {"time": "time", "stops": "interrupted"}.get(name, "done")
    if name == "saves":
        assert 13 in first["saved"]
