"""A plan and a model to spend in; the time of a step, an evaluation and the run, and the memory they take, out."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import GPT2LMHeadModel

from epigone.model.plan import Plan
from epigone.tokens.stream import Tokens
from epigone.training.evaluation import evaluate
from epigone.training.events import Estimate
from epigone.training.loop import Learner

WARM_UP_STEPS, TIMED_STEPS = 2, 3
SLOW_STEP_SECONDS = 1.0
"""On a processor a step that takes longer is known well enough from one."""
TIMED_BLOCKS = 32


def measure_speed(
    model: GPT2LMHeadModel,
    tokens: Tokens,
    plan: Plan,
    *,
    time_samples: Callable[[GPT2LMHeadModel], float],
    teacher: GPT2LMHeadModel | None = None,
) -> Estimate:
    """Take a few steps of the plan and look at some held-out text. The model is changed: give one to spend.

    `time_samples` says how many seconds the samples of one evaluation take.
    """
    long_enough = replace(plan, n_steps=max(plan.n_steps, WARM_UP_STEPS + TIMED_STEPS))
    learner = Learner(model, tokens, long_enough, teacher=teacher)
    compile_seconds = _time(lambda: _take_steps(learner, 1), learner) if plan.compilation != "none" else 0.0
    alone = plan.n_processes == 1 and learner.accelerator.device.type == "cpu"  # processes have to take equally many
    is_slow = _time(learner.step, learner) > SLOW_STEP_SECONDS and alone
    n_warm, n_timed_steps = (1, 1) if is_slow else (WARM_UP_STEPS, TIMED_STEPS)
    _take_steps(learner, n_warm - 1)
    seconds_per_step = _time(lambda: _take_steps(learner, n_timed_steps), learner) / n_timed_steps
    n_targets = len(tokens.validation.ids) - 1
    n_timed = min(n_targets, TIMED_BLOCKS * plan.block_size * plan.n_processes)
    few = replace(tokens.validation, ids=tokens.validation.ids[: n_timed + 1])
    seconds = _time(
        lambda: evaluate(
            model,
            few,
            block_size=plan.block_size,
            batch_size=learner.plan.largest_part,
            accelerator=learner.accelerator,
        ),
        learner,
    )
    evaluation = seconds * n_targets / n_timed + time_samples(model)
    estimate = Estimate(
        seconds_per_step=seconds_per_step,
        seconds_per_evaluation=evaluation,
        n_evaluations=0,
        seconds=0.0,
        memory_bytes=_find_peak_memory(learner.accelerator.device),
        compile_seconds=max(0.0, compile_seconds - seconds_per_step),
        parts=learner.plan.parts,
    )
    return expect(plan, estimate)


def expect(plan: Plan, measured: Estimate) -> Estimate:
    """What the measured times come to over the plan."""
    n_evaluations = count_evaluations(plan)
    seconds = measured.compile_seconds + plan.n_steps * measured.seconds_per_step
    seconds += n_evaluations * measured.seconds_per_evaluation
    seconds = min(seconds, 60 * plan.minutes) if plan.minutes is not None else seconds
    return replace(measured, n_evaluations=n_evaluations, seconds=seconds)


def count_steps_in_time(plan: Plan, estimate: Estimate) -> int:
    """Steps that the plan's minutes allow, with a tenth of them for evaluations."""
    seconds = 60 * (plan.minutes or 0) - estimate.compile_seconds
    return max(1, int(0.9 * seconds / estimate.seconds_per_step))


def count_evaluations(plan: Plan) -> int:
    """Evaluations in a plan: of an untouched base, at each epoch, every so many steps, and at the end.

    Under a time limit ten or so.
    """
    per_step = plan.blocks_per_step * plan.evaluations_per_epoch
    n_by_epochs = plan.n_steps * per_step // plan.n_blocks
    if plan.minutes is not None:
        return max(1, min(n_by_epochs, 10))
    steps = {math.ceil(number * plan.n_blocks / per_step) for number in range(1, n_by_epochs + 1)}
    if plan.evaluate_every is not None:
        steps |= set(range(plan.evaluate_every, plan.n_steps + 1, plan.evaluate_every))
    return len(steps | {plan.n_steps}) + (not plan.fresh)


def _take_steps(learner: Learner, count: int) -> None:
    for _ in range(count):
        learner.step()


def _time(work: Callable[[], object], learner: Learner) -> float:
    began = time.perf_counter()
    work()
    if learner.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _find_peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
