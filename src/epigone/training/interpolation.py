"""Interpolation between the weights of a base and of the fine-tuned model, and the best share (WiSE-FT).

A base that is fine-tuned on a short text learns the style and memorizes the text. Part of the way back it has lost more
of the latter than of the former (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import nn

NEAR = 0.05
"""Shares that differ by less are not tried separately."""


class WeightInterpolation:
    """A model set to weights between its base (share 0) and the fine-tuned model (1); afterwards it is as before.

    `base`: the base's weights, by the model's names for them. Raises KeyError if one is missing.
    """

    def __init__(self, model: nn.Module, base: Mapping[str, torch.Tensor]) -> None:
        named = model.named_parameters()
        self._weights = [(weight, weight.detach().clone(), base[name].to(weight)) for name, weight in named]

    @torch.no_grad()
    def set(self, share: float) -> None:
        """Set the weights at this share."""
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

    `at_base` and `learned` are the losses at the ends; `measure` gives it at a share, and is called twice at most.
    """
    losses = {0.0: at_base, 1.0: learned, 0.5: measure(0.5)}
    bend = at_base - 2 * losses[0.5] + learned
    if bend > 0:
        lowest = (3 * at_base - 4 * losses[0.5] + learned) / (4 * bend)
        if NEAR < lowest < 1 - NEAR and abs(lowest - 0.5) > NEAR:
            losses[lowest] = measure(lowest)
    share = min(losses, key=lambda share: (losses[share], -share))
    return share, losses[share]
