"""Logits in, one token for each sequence out, each sequence with its own random numbers."""

from __future__ import annotations

import torch
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from epigone.settings import WritingSettings


def make_processors(settings: WritingSettings) -> LogitsProcessorList:
    """transformers' own processors in the order in which `generate` applies them."""
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.temperature not in (0, 1):
        processors.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k and settings.temperature:
        processors.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1 and settings.temperature:
        processors.append(TopPLogitsWarper(settings.top_p))
    return processors


class Chooser:
    """Chooses tokens for a batch. What one sequence gets does not depend on the others."""

    def __init__(self, settings: WritingSettings, seeds: list[int]) -> None:
        self.greedy = settings.temperature == 0
        self.processors = make_processors(settings)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(self, logits: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """The next token of each sequence: int64 [batch]. logits: [batch, vocabulary]; written: int64 [batch, time].

        The largest of p / e, with e drawn from an exponential distribution, falls on a token with probability p.
        """
        scores = self.processors(written, logits.float())  # type: ignore[arg-type]
        if self.greedy:
            return scores.argmax(-1)
        noise = [torch.empty(scores.shape[-1]).exponential_(generator=one) for one in self.generators]
        return (scores.softmax(-1) / torch.stack(noise).to(scores.device)).argmax(-1)
