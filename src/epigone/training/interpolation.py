"""A model that was tuned and its base's weights in; the model anywhere between the two out, and how far is best.

A base that is tuned on a short text learns its style and learns it by heart. Part of the way back it has lost more of
the second than of the first (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import nn

NEAR = 0.05
"""Shares that are closer to each other than this make no difference."""


class WeightInterpolation:
    """A model that can be set anywhere between its base (share 0) and what was learned (1); afterwards it is as before.

    `base` has the base's weights by the names that the model gives them. Raises KeyError where one is missing.
    """

    def __init__(self, model: nn.Module, base: Mapping[str, torch.Tensor]) -> None:
        named = model.named_parameters()
        self._weights = [(weight, weight.detach().clone(), base[name].to(weight)) for name, weight in named]

    @torch.no_grad()
    def set(self, share: float) -> None:
        """Go to this share of the way."""
        for weight, learned, base in self._weights:
            weight.copy_(torch.lerp(base, learned, share))

    def __enter__(self) -> Self:
        return self

    @torch.no_grad()
    def __exit__(self, *_: object) -> None:
        for weight, learned, _base in self._weights:
            weight.copy_(learned)


def find_best_share(at_base: float, learned: float, measure: Callable[[float], float]) -> tuple[float, float]:
    """The best share and the loss there: of the two ends, halfway, and where a parabola through those is lowest.

    `at_base` and `learned` are the losses at the ends; `measure` tells that at a share, and is asked twice at most.
    """
    losses = {0.0: at_base, 1.0: learned, 0.5: measure(0.5)}
    bend = at_base - 2 * losses[0.5] + learned
    if bend > 0:
        lowest = (3 * at_base - 4 * losses[0.5] + learned) / (4 * bend)
        if NEAR < lowest < 1 - NEAR and abs(lowest - 0.5) > NEAR:
            losses[lowest] = measure(lowest)
    share = min(losses, key=lambda share: (losses[share], -share))
    return share, losses[share]
