"""A run that dies anywhere goes on to the same end as one that never did: every bit of it, on the disk."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest

from conftest import Reliability
from epigone.evaluation.sample_checks import SampleWriter
from epigone.runs import checkpoints
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from epigone.tokens.dataset import Batches
from epigone.training import trainer
from epigone.training.trainer import Trainer
from helpers_faults import HOW, copy, dying, find_differences, go_on, plain_pictures, prepared, uninterrupted
from helpers_front import prepare_run, write_sonnets
from standin import hub_root

OPTIMIZERS = ("muon", "adamw")
BASES = ("none", "tuned")
DEATHS: dict[str, Callable[[int], Any]] = {
    "before the first step": lambda n: dying(Trainer, "step", call=1),
    "after the first step": lambda n: dying(Trainer, "step", call=1, late=True),
    "in the middle of an epoch": lambda n: dying(Trainer, "step", call=n + n // 2),
    "between the batches of one step": lambda n: dying(Batches, "read", call=2 * (n + n // 2)),
    "at the end of an epoch": lambda n: dying(Trainer, "step", call=2 * n, late=True),
    "during an evaluation": lambda n: dying(trainer, "evaluate", call=3, late=True),
    "while it writes samples": lambda n: dying(SampleWriter, "__call__", call=3, late=True),
    "during a save": lambda n: dying(checkpoints, "save_file", call=8, late=True),
}
"""By the steps of an epoch; each step is of two batches."""


def find_base(name: str) -> str:
    return "none" if name == "none" else str(hub_root() / "gpt2")


def count_steps(run: Path) -> int:
    """Steps in an epoch, rounded up."""
    return math.ceil(RunFolder(run).read_manifest().plan.batch.steps_per_epoch)


def die_and_go_on(run: Path, death: str) -> None:
    with plain_pictures():
        with DEATHS[death](count_steps(run)):
            go_on(run)
        go_on(run)


OFTEN = {("muon", "none", death) for death in DEATHS}
OFTEN |= {("adamw", "tuned", death) for death in ("in the middle of an epoch", "during an evaluation", "during a save")}


@pytest.mark.parametrize(
    ("optimizer", "base", "death"),
    [one if one in OFTEN else pytest.param(*one, marks=pytest.mark.slow) for one in product(OPTIMIZERS, BASES, DEATHS)],
)
def test_a_run_that_died_comes_to_the_same_end(
    tmp_path: Path, reliability: Reliability, optimizer: str, base: str, death: str
) -> None:
    """Weights, the optimizer's state, random numbers, metrics, samples, the best model; dropout is on."""
    with plain_pictures():
        expected = uninterrupted(optimizer, find_base(base))
    run = copy(prepared(optimizer, find_base(base)), tmp_path / "run")
    die_and_go_on(run, death)
    differences = find_differences(run, expected)
    reliability(
        "Going on", f"died {death}", tried=1, survived=int(not differences), lost="what came after the last save"
    )
    assert not differences


@pytest.mark.parametrize("after", [0, 1, 5, 10, 15, 24])
def test_a_run_that_was_asked_to_stop_comes_to_the_same_end(
    tmp_path: Path, reliability: Reliability, after: int
) -> None:
    run, calls = copy(prepared(), tmp_path / "run"), count()
    with plain_pictures():
        expected = uninterrupted()
        go_on(run, should_stop=lambda: next(calls) >= after)
        go_on(run)
    differences = find_differences(run, expected)
    reliability("Going on", "asked to stop after some step", tried=1, survived=int(not differences))
    assert not differences


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "compile"), [("bf16", "off"), ("fp32", "layers"), ("bf16", "full")])
def test_in_other_numbers_and_compiled_it_comes_to_the_same_end(
    tmp_path: Path, reliability: Reliability, precision: str, compile: str
) -> None:
    """As runs are planned where the processor has bf16 and steps are worth compiling."""
    text, how = write_sonnets(tmp_path, 3_000), HOW | {"precision": precision, "compile": compile}
    folder = prepare_run(text, tmp_path / "run", TrainSettings(**how, optimizer="muon", base="none"))
    run, whole, calls = folder.path, copy(folder.path, tmp_path / "whole"), count()
    after = count_steps(run) + 2
    with plain_pictures():
        go_on(whole)
        go_on(run, should_stop=lambda: next(calls) >= after)
        go_on(run)
    differences = find_differences(run, whole)
    fault = f"stopped in the middle of an epoch, in {precision}, {SAID[compile]}"
    reliability("Going on", fault, tried=1, survived=int(not differences))
    assert not differences


SAID = {"off": "not compiled", "layers": "compiled layer by layer", "full": "compiled as a whole"}


def test_two_that_differ_are_seen_to_differ(tmp_path: Path) -> None:
    """So that the comparisons here are known to be able to fail."""
    with plain_pictures():
        run, expected, _ = copy(uninterrupted(), tmp_path / "run"), uninterrupted(), uninterrupted("adamw")
    assert not find_differences(run, expected)
    (run / "samples" / "epoch-01.txt").write_text("something else")
    assert find_differences(run, expected) == ["samples/epoch-01.txt"]
    assert "model/model.safetensors" in find_differences(uninterrupted("adamw"), expected)
