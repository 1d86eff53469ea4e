"""Several models over one vocabulary as one: by mixed weights, by mixed probabilities, or one guided by another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from epigone.model.decoder import Decoder, DecoderState
from epigone.model.weights import Weights, is_plain

Combine = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""From the logits of each model to log-probabilities: fp32 [rows, vocabulary]."""
FARTHEST = 0.7
"""Distance of two models' weights, as a part of their size, up to which they began from the same ones. Runs of a
bundled base are 0.05 apart; models that began from different random weights 1.4, as any two random directions are."""


class CombinedDecoder:
    """Models that read the same tokens, and whose predictions become one."""

    def __init__(self, decoders: Sequence[Decoder], combine: Combine) -> None:
        self.decoders, self.combine = decoders, combine
        self.device: torch.device = decoders[0].device
        self.n_positions: int = min(decoder.n_positions for decoder in decoders)

    def count_bytes(self, room: int) -> int:
        """See `Decoder`."""
        return sum(decoder.count_bytes(room) for decoder in self.decoders)

    def begin(self, ids: torch.Tensor, room: int, count: int) -> CombinedState:
        """See `Decoder`."""
        room = min(room, self.n_positions)
        return CombinedState(self, [decoder.begin(ids, room, count) for decoder in self.decoders])

    def step_together(self, states: Sequence[CombinedState], ids: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        by_model = zip(self.decoders, zip(*(state.states for state in states), strict=True), strict=True)
        return self.combine([decoder.step_together(own, ids) for decoder, own in by_model])

    def read_all(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        return self.combine([decoder.read_all(ids) for decoder in self.decoders])


class CombinedState:
    """The states of all models of a `CombinedDecoder`."""

    def __init__(self, decoder: CombinedDecoder, states: Sequence[DecoderState]) -> None:
        self._decoder, self.states = decoder, states
        self.logits = decoder.combine([state.logits for state in states])

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """See `DecoderState`."""
        return self._decoder.combine([state.step(ids) for state in self.states])

    @property
    def room_left(self) -> int:
        """See `DecoderState`."""
        return min(state.room_left for state in self.states)

    def keep(self, rows: Sequence[int]) -> None:
        """See `DecoderState`."""
        for state in self.states:
            state.keep(rows)
        self.logits = self.logits[list(rows)]

    def copy(self) -> CombinedState:
        """See `DecoderState`."""
        return CombinedState(self._decoder, [state.copy() for state in self.states])


class GuidedDecoder(CombinedDecoder):
    """A model's log-probabilities, extrapolated beyond those of the model that it was tuned from.

    `strength` 0 is the second model, 1 the first one, and above 1 exaggerates what it has learned since (DExperts, Liu
    et al. 2021).
    """

    def __init__(self, tuned: Decoder, base: Decoder, strength: float) -> None:
        def extrapolate(logits: Sequence[torch.Tensor]) -> torch.Tensor:
            of_tuned, of_base = (each.log_softmax(-1) for each in logits)
            return torch.lerp(of_base, of_tuned, strength)

        super().__init__([tuned, base], extrapolate)


class MixedDecoder(CombinedDecoder):
    """The mean of several models' probabilities, weighted by their shares: each token is drawn from one of them."""

    def __init__(self, decoders: Sequence[Decoder], shares: Sequence[float]) -> None:
        logs = [math.log(share) for share in shares]

        def mix(logits: Sequence[torch.Tensor]) -> torch.Tensor:
            parts = [each.log_softmax(-1) + log for each, log in zip(logits, logs, strict=True)]
            return torch.stack(parts).logsumexp(0)

        super().__init__(decoders, mix)


def mix_weights(parts: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """The mean of the weights of models that began from the same ones, weighted by their shares."""
    mixed = {}
    for name, first in parts[0].tensors.items():
        mixed[name] = first * shares[0]
        for part, share in zip(parts[1:], shares[1:], strict=True):
            mixed[name] += part.tensors[name] * share
    return Weights(parts[0].config, mixed)


def began_alike(first: Weights, second: Weights) -> bool:
    """Whether two models began from the same weights, so that what lies between theirs is a model too.

    Two networks that were trained apart compute the same things in other places, and a mean of their weights computes
    nothing. This is seen by their weights, and not by names: a base may have another version or another path.
    """
    if first.tensors.keys() != second.tensors.keys():
        return False
    pairs = [(tensor, second.tensors[name]) for name, tensor in first.tensors.items()]
    if any(one.shape != other.shape for one, other in pairs):
        return False
    heads = {(each.config.n_head, each.config.layer_norm_epsilon) for each in (first, second)}
    if len(heads) > 1 or not (is_plain(first.config) and is_plain(second.config)):
        return False
    matrices = [(one, other) for one, other in pairs if one.dim() > 1]
    apart = math.fsum((one - other).square().sum().item() for one, other in matrices)
    size = math.fsum(one.square().sum().item() + other.square().sum().item() for one, other in matrices) / 2
    return apart <= FARTHEST**2 * size
