"""Learning-rate schedules by name; the curves are those of transformers."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from epigone.errors import SettingsError
from epigone.planning.specs import ScheduleSpec

DRIVEN_BY_METRIC = ("reduce_lr_on_plateau", "greedy")
"""Schedules that depend on the validation loss at each evaluation, not on the step."""

RATES = {"min_lrs", "max_lrs", "_last_lr", "_init_lrs"}
"""The entries of their state that are learning rates, one per group of parameters."""
TAKES_NO_ARGUMENTS = ("constant", "constant_with_warmup")


class LRSchedule:
    """The learning rate by step, or by evaluation for the schedules that are driven by a metric."""

    def __init__(self, spec: ScheduleSpec, *, peak: float) -> None:
        self.name, self.peak, self.n_steps = spec.name, peak, spec.n_steps
        self._warmup = spec.warmup_ratio
        name, arguments = spec.name, spec.arguments
        if arguments and name in TAKES_NO_ARGUMENTS:
            raise SettingsError(f"--schedule {name} takes no --schedule-arguments.", hint="Leave them out.")
        try:
            self._set_up(peak, _read(arguments))
            self._check_values()
            self._set_up(peak, _read(arguments))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise SettingsError(
                f"--schedule {name} does not take --schedule-arguments {' '.join(arguments)}: {error}.",
                hint="transformers' documentation of get_scheduler lists each schedule's arguments.",
            ) from None

    def _set_up(self, peak: float, arguments: dict[str, Any]) -> None:
        self._stand_in = torch.optim.SGD([torch.zeros(1)], lr=peak)
        self._scheduler: Any = get_scheduler(
            self.name,
            self._stand_in,
            num_warmup_steps=min(math.ceil(self._warmup * self.n_steps), self.n_steps - 1),
            num_training_steps=self.n_steps,
            scheduler_specific_kwargs=_fill_in(self.name, peak, self.n_steps, arguments) | arguments,
        )

    def _check_values(self) -> None:
        """Some invalid values fail only in use; this finds them before the run."""
        for part in range(101):
            self.at(part / 100 * self.n_steps)
        self.see(1.0)
        self.see(2.0)

    def at(self, step: float) -> float:
        """The learning rate of a step, counted from 0; fractions of a step are allowed."""
        if isinstance(self._scheduler, LambdaLR):
            curve: Callable[[Any], float] = self._scheduler.lr_lambdas[0]
            # one schedule counts from 1 and would, between two steps, exceed the peak
            return float(self._scheduler.base_lrs[0]) * min(1.0, curve(step))
        return float(self._stand_in.param_groups[0]["lr"])

    def see(self, loss: float) -> None:
        """Pass a validation loss to a schedule that depends on it."""
        if self.name in DRIVEN_BY_METRIC:
            self._scheduler.step(loss)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, as plain values; empty for schedules that depend only on the step."""
        if self.name not in DRIVEN_BY_METRIC:
            return {}
        return {"scheduler": _plain(self._scheduler.state_dict()), "rate": self.at(0), "peak": self.peak}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a `state`, scaled if the peak learning rate has changed since."""
        if state:
            scale = self.peak / state.get("peak", self.peak)
            rates = {
                name: [scale * rate for rate in state["scheduler"][name]] for name in RATES & set(state["scheduler"])
            }
            self._scheduler.load_state_dict(state["scheduler"] | rates)
            self._stand_in.param_groups[0]["lr"] = scale * state["rate"]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in state.items() if isinstance(value, str | int | float | bool | list | dict | None)
    }


def _fill_in(name: str, peak: float, n_steps: int, given: dict[str, Any]) -> dict[str, Any]:
    """Defaults for arguments that a schedule needs, or whose own defaults work badly."""
    lowest = {} if "min_lr" in given else {"min_lr_rate": 0.1}
    needed: dict[str, dict[str, Any]] = {
        "polynomial": {"lr_end": peak / 100},
        "cosine_with_min_lr": lowest,
        "cosine_warmup_with_min_lr": lowest,
        "warmup_stable_decay": {"num_decay_steps": max(1, n_steps // 5)},
        "reduce_lr_on_plateau": {"patience": 1, "factor": 0.5},
        # its own bounds, 1e-3 to 1, would raise a fine-tuning rate a hundredfold
        "greedy": {"min_lr": peak / 100, "max_lr": peak, "patience": 1, "factor": 0.8, "eps": 0.0},
    }
    return needed.get(name, {})


def _read(arguments: tuple[str, ...]) -> dict[str, Any]:
    """name=value pairs as Python values; anything but numbers, lists and truth values stays text."""
    return {name: _read_value(value) for name, value in (pair.split("=", 1) for pair in arguments)}


def _read_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
