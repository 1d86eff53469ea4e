"""Training that diverges at a chosen place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from unittest.mock import patch

import torch

from epigone.model.loss import LossParts, NextTokenLoss

Fault = Literal["nan loss", "infinite loss", "nan gradient", "infinite gradient"]
FAULTS: tuple[Fault, ...] = ("nan loss", "infinite loss", "nan gradient", "infinite gradient")


@contextmanager
def going_wrong(fault: Fault, at_pass: int) -> Iterator[None]:
    """Within, one pass of training, counted from 0, goes wrong."""
    genuine, n_passes = NextTokenLoss.forward, 0

    def forward(loss: NextTokenLoss, ids: torch.Tensor, targets: torch.Tensor) -> LossParts:
        nonlocal n_passes
        found = genuine(loss, ids, targets)
        here, n_passes = n_passes == at_pass, n_passes + 1
        factor = torch.nan if fault.startswith("nan") else torch.inf
        if not here:
            return found
        if fault.endswith("loss"):
            return LossParts(found.objective * factor, found.nats * factor)
        objective = found.objective.clone()
        objective.register_hook(lambda gradient: gradient * factor)
        return LossParts(objective, found.nats)

    with patch.object(NextTokenLoss, "forward", forward):
        yield
