"""Evaluation on held-out tokens: loss, accuracy, perplexity and bits per byte."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from epigone.hardware import with_smaller_batches
from epigone.tokens.dataset import Batch, TokenSplit, read_in_order

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How well a model predicts held-out text. `loss` in nats per token."""

    loss: float
    accuracy: float
    n_tokens: int
    n_bytes: int

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers, unlike the loss per token."""
        return self.loss * self.n_tokens / math.log(2) / self.n_bytes


@torch.inference_mode()
def evaluate(
    model: GPT2LMHeadModel, part: TokenSplit, *, block_size: int, batch_size: int, accelerator: Accelerator
) -> Evaluation:
    """Evaluate on a whole split in blocks that do not overlap; each token is predicted exactly once.

    The logits are computed in the run's precision, the loss from them in fp32 and its sum in fp64. If memory runs
    out, a batch is read in smaller parts. Raises OutOfMemory.
    """
    was_training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    sums = torch.zeros(3, dtype=torch.float64)
    batches = read_in_order(
        part.ids,
        block_size=block_size,
        batch_size=batch_size,
        part=accelerator.process_index,
        n_parts=accelerator.num_processes,
    )
    at_once = batch_size
    for batch in batches:
        found, at_once = with_smaller_batches(
            partial(_measure_in_parts, model, batch, accelerator),
            at_once,
            what=f"one block of {block_size:,} tokens of the held-out text",
            hint="Train with a smaller --block-size or --size.",
        )
        sums += found
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums.to(accelerator.device), reduction="sum").cpu()
    model.train(was_training)
    nats, right, n_tokens = sums.tolist()
    return Evaluation(loss=nats / n_tokens, accuracy=right / n_tokens, n_tokens=int(n_tokens), n_bytes=part.n_bytes)


def _measure_in_parts(model: GPT2LMHeadModel, batch: Batch, accelerator: Accelerator, at_once: int) -> torch.Tensor:
    """The result of `_measure` for a batch, with at most `at_once` blocks computed together."""
    sums = torch.zeros(3, dtype=torch.float64)
    for ids, targets in zip(*(torch.split(each, at_once) for each in batch), strict=True):
        with accelerator.autocast():
            logits = model(input_ids=ids.to(accelerator.device), use_cache=False).logits
        sums += _measure(logits, targets.to(accelerator.device))
    return sums


def _measure(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Nats, correct predictions, count. logits: [batch, time, vocabulary]; targets: int64 [batch, time]."""
    logits = logits.float()  # once: argmax of bf16 is five times as slow
    nats = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    right = (logits.argmax(-1) == targets).sum()
    return torch.tensor([nats.item(), right.item(), targets.numel()], dtype=torch.float64)
