"""Trials, one JSON object a line, in; the best bits per byte that each reaches out, one line each.

A trial names a text, the minutes and any settings: {"text": "a.txt", "minutes": 1, "size": "4x192"}. Its minutes become
steps by the plan's own guess of the speed, so that trials can run side by side and on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from epigone import preparation
from epigone.hardware import Hardware
from epigone.pipeline import base_weights_loader
from epigone.planning.plan import Plan
from epigone.preparation import estimate_run
from epigone.settings import TrainSettings
from epigone.training.events import Estimate, Evaluated
from epigone.training.trainer import Trainer

MACHINE = Hardware(device="cpu", name="2 processor cores", n_threads=2, memory_bytes=24 << 30, bf16=True, compiles=True)
"""What every trial is planned for, whatever it runs on; with "precision": "fp32" the same without bf16."""
SECONDS_TO_COMPILE = 6.0
HALF = 0.45
"""Share of a trial after which it may be given up for being far behind."""


def main() -> None:
    """Run the trials of a file, several at once, and append what comes of them to another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    for result in run_all(read_lines(asked.trials), asked.workers):
        with asked.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(describe(result), flush=True)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The file's trials in order; what is added while they run is seen."""
    for number in count():
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        if number >= len(lines):
            return
        yield json.loads(lines[number])


def run_all(trials: Iterator[dict[str, Any]], n_workers: int) -> Iterator[dict[str, Any]]:
    """Each trial's result as it comes. Workers compute with one thread each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, context, _use_one_thread) as pool:
        running = {pool.submit(run, trial) for trial in islice(trials, n_workers)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(run, trial) for trial in islice(trials, len(done))}
            for future in done:
                yield future.result()


def _use_one_thread() -> None:
    torch.set_num_threads(1)


def run(trial: dict[str, Any]) -> dict[str, Any]:
    """Train as asked and say what came of it.

    "behind" may give [bits per byte at HALF of the run, factor]: a trial that is then worse by more is given up, and
    says so.
    """
    asked = dict(trial)
    text, note, behind = asked.pop("text"), asked.pop("note", ""), asked.pop("behind", None)
    settings = TrainSettings(**{"base": "none", "samples": 0, "compile": "layers", "device": "cpu", **asked})
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        prepared, plan = _prepare(text, settings, Path(folder))
        origin = base_weights_loader(plan)
        learner = Trainer(prepared.model, prepared.tokens, plan, origin=origin)
        held_out = prepared.tokens.validation
        per_byte = held_out.n_tokens / math.log(2) / held_out.n_bytes
        trace: list[tuple[float, float, float]] = []
        halfway, given_up = math.inf, False
        for event in learner.learn():
            if isinstance(event, Evaluated):
                learned = event.training_loss or 0.0
                trace.append((round(event.epoch, 2), round(learned, 4), round(event.loss * per_byte, 4)))
                if learner.clock.share_done >= HALF and halfway == math.inf:
                    halfway = trace[-1][2]
                    if given_up := behind is not None and halfway > behind[0] * behind[1]:
                        break
    return trial | {
        "bits_per_byte": min(point[2] for point in trace),
        "final": trace[-1][2],
        "best_epoch": min(trace, key=lambda point: point[2])[0],
        "halfway": halfway,
        "given_up": given_up,
        "passes": round(plan.schedule.n_steps / plan.batch.steps_per_epoch, 2),
        "shape": f"{plan.model.shape.n_layer}x{plan.model.shape.n_embd}",
        "vocabulary_size": plan.model.shape.vocab_size,
        "bytes": prepared.tokens.train.n_bytes,
        "plan": _list_numbers(plan),
        "seconds": round(time.monotonic() - began, 1),
        "trace": trace,
        "note": note,
    }


def _list_numbers(plan: Plan) -> dict[str, Any]:
    return {
        "n_parameters": plan.model.n_parameters,
        "block_size": plan.batch.block_size,
        "batch_size": plan.batch.batch_size,
        "dropout": plan.model.dropout,
        "learning_rate": plan.optimizer.learning_rate,
        "n_steps": plan.schedule.n_steps,
        "optimizer": plan.optimizer.name,
    }


def _prepare(text: str, settings: TrainSettings, folder: Path) -> tuple[preparation.PreparedRun, Plan]:
    """What `prepare` makes of it, with guessed times instead of measured ones, and no clock."""

    machine = replace(MACHINE, bf16=settings.precision != "fp32")

    def guess(model: Any, tokens: Any, plan: Plan, **_: Any) -> Estimate:
        per_step = plan.model.shape.guess_seconds(plan.batch.tokens_per_step, plan.batch.block_size, machine)
        estimate = Estimate(
            seconds_per_step=per_step,
            seconds_per_evaluation=0.0,
            n_evaluations=0,
            seconds=0.0,
            memory_bytes=0,
            compile_seconds=0.0 if settings.compile == "off" else SECONDS_TO_COMPILE,
        )
        return estimate_run(plan, estimate)

    with patch.multiple(preparation, measure_speed=guess, find_hardware=lambda _: machine):
        prepared = preparation.prepare([text], settings, folder, progress=False)
    plan = prepared.plan
    epochs = plan.schedule.n_steps / plan.batch.steps_per_epoch
    schedule, compute = replace(plan.schedule, minutes=None, epochs=epochs), replace(plan.compute, n_threads=1)
    return prepared, replace(plan, schedule=schedule, compute=compute)


def describe(result: dict[str, Any]) -> str:
    """One line to look at."""
    text = Path(result["text"]).stem
    return (
        f"{text:22} {result.get('minutes', 0):4} min {result['shape']:>6} V{result['vocabulary_size']:<5}"
        f" T{result['plan']['block_size']:<4} B{result['plan']['batch_size']:<3} drop {result['plan']['dropout']:.2f}"
        f" passes {result['passes']:6} best {result['bits_per_byte']:.4f} at {result['best_epoch']}"
        f" final {result['final']:.4f} {'given up' if result['given_up'] else ''} {result['seconds']:.0f} s"
        f" {result['note']}"
    )


if __name__ == "__main__":
    main()
