"""The size of a GPT-2: its parameters, and the operations and time that training it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from epigone.hardware import Hardware
from epigone.settings import Share, parse_size

Attention = Literal["sdpa", "eager"]
"""How transformers computes attention: fused, or in single operations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The sizes of a GPT-2: layers, width, heads, positions and vocabulary."""

    n_layer: int
    n_embd: int
    n_head: int
    n_positions: int
    vocab_size: int

    @property
    def n_parameters(self) -> int:
        """Parameters of a GPT2LMHeadModel of this shape; the embedding is also the head."""
        block = 12 * self.n_embd**2 + 13 * self.n_embd
        return (self.vocab_size + self.n_positions + 2) * self.n_embd + self.n_layer * block

    def count_flops(self, n_time: int) -> float:
        """Operations to train on one token in a block of `n_time`: 6 N + 12 L d T (Chowdhery et al. 2022)."""
        return 6.0 * self.n_parameters + 12 * self.n_layer * self.n_embd * n_time

    def guess_seconds(self, n_tokens: float, n_time: int, hardware: Hardware) -> float:
        """A rough estimate of the seconds to train on `n_tokens` in blocks of `n_time`."""
        return n_tokens * hardware.guess_seconds_per_token(self.n_layer, self.n_embd, self.count_flops(n_time))


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """What is needed to build the initial model."""

    base: str
    """Name or folder of the pretrained model whose weights training starts from; "none" for random weights."""
    base_revision: str
    """The commit on the hub; "" if it was not downloaded from there."""
    shape: Shape
    dropout: Share
    """Share of activations dropped after the embeddings and in each residual branch; never in the attention."""
    lora: Annotated[int, Field(ge=1)] | None
    """Rank of the adapters that are trained instead of the base's weights; None to train all weights."""
    attention: Attention

    @property
    def fresh(self) -> bool:
        """Whether the weights are random ones at first."""
        return self.base == "none"

    @property
    def n_parameters(self) -> int:
        """Parameters of the model, without adapters."""
        return self.shape.n_parameters


def make_shape(size: str, *, block_size: int, vocab_size: int) -> Shape:
    """The shape of a model from scratch, for a size as in the settings."""
    n_layer, width = parse_size(size)
    head = 32 if width < 256 or width % 64 else 64
    return Shape(
        n_layer=n_layer,
        n_embd=width,
        n_head=width // head,
        n_positions=block_size,
        vocab_size=vocab_size,
    )
