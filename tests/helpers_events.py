"""Evaluation events with consistent numbers, from a loss."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from epigone.training.events import Evaluated


def make_evaluated(step: int, loss: float, epoch: float, **more: Any) -> Evaluated:
    """The best evaluation so far, but for what is said otherwise."""
    usual = Evaluated(
        step=step,
        epoch=epoch,
        training_loss=loss,
        loss=loss,
        accuracy=0.25,
        perplexity=math.exp(loss),
        bits_per_byte=1.5,
        n_tokens=100,
        learning_rate=5e-5,
        seconds=60.0,
        best=True,
    )
    return replace(usual, **more)
