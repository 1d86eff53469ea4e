"""A pass over some blocks and what goes wrong in it come in; a training that goes wrong there comes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from unittest.mock import patch

import torch

from epigone.model.forward import NextTokenLoss

Fault = Literal["nan loss", "infinite loss", "nan gradient", "infinite gradient"]
FAULTS: tuple[Fault, ...] = ("nan loss", "infinite loss", "nan gradient", "infinite gradient")


class _Spoil(torch.autograd.Function):
    """Passes a value on and spoils the gradient on the way back."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor, factor: float) -> torch.Tensor:
        context.factor = factor
        return value.clone()

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0] * context.factor, None


@contextmanager
def going_wrong(fault: Fault, at_pass: int) -> Iterator[None]:
    """Within, one pass of training, counted from 0, goes wrong."""
    genuine, n_passes = NextTokenLoss.forward, 0

    def forward(loss: NextTokenLoss, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal n_passes
        found = genuine(loss, ids, targets)
        here, n_passes = n_passes == at_pass, n_passes + 1
        factor = torch.nan if fault.startswith("nan") else torch.inf
        if not here:
            return found
        if fault.endswith("loss"):
            return found * factor
        return _Spoil.apply(found, factor)  # type: ignore[no-any-return, no-untyped-call]

    with patch.object(NextTokenLoss, "forward", forward):
        yield
