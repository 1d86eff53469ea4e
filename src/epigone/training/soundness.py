"""Losses and tensors in; an error where they are no numbers any more, and should replace nothing sound, out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from epigone.errors import TrainingDiverged
from epigone.model.plan import Plan
from epigone.training.state import Progress


def are_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether all of them hold nothing but numbers. Takes no memory to speak of."""
    return all(math.isfinite(end) for tensor in tensors for end in map(float, tensor.detach().aminmax()))


def check_loss(loss: float, plan: Plan, progress: Progress) -> float:
    """The loss. Raises TrainingDiverged where it is no number."""
    if not math.isfinite(loss):
        raise explain_divergence(f"The loss became {loss}", plan, progress)
    return loss


def explain_divergence(what: str, plan: Plan, progress: Progress) -> TrainingDiverged:
    """What happened, what is kept and what to try."""
    some = math.isfinite(progress.best_loss)
    kept = f"the best epoch so far, {progress.best_epoch:.2f}, is kept" if some else "there is no good epoch yet"
    precision = ", or --precision fp32" if plan.precision != "fp32" else ""
    return TrainingDiverged(
        f"{what} by step {progress.step:,}; {kept}.",
        hint=f"Try a lower rate, --learning-rate {plan.learning_rate / 2:.1g}{precision}.",
    )
