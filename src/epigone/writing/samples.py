"""A model that is learning in, samples from the same prompts and seeds as ever out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from epigone.settings import Settings, WritingSettings
from epigone.tokens.vocabulary import Vocabulary
from epigone.training.events import Sample
from epigone.writing.decoder import make_decoder
from epigone.writing.engine import Writer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


class Sampler:
    """Writes `settings.samples` samples for each prompt, or for none. Its random numbers are its own."""

    def __init__(self, vocabulary: Vocabulary, settings: Settings, start_text: str) -> None:
        self.vocabulary, self.start_text = vocabulary, start_text
        self.prompts = settings.sample_prompt or ("",)
        self.count, self.length, self.seed = settings.samples, settings.sample_length, settings.seed

    def __call__(self, model: GPT2LMHeadModel) -> tuple[Sample, ...]:
        """The samples of one evaluation."""
        return self._write(model, self.length)

    def time(self, model: GPT2LMHeadModel) -> float:
        """Seconds that the samples of one evaluation take, measured on a twentieth of their length."""
        few = max(4, self.length // 20)
        self._write(model, 1)
        began = time.perf_counter()
        self._write(model, few)
        return (time.perf_counter() - began) * self.length / few

    def _write(self, model: GPT2LMHeadModel, length: int) -> tuple[Sample, ...]:
        if self.count == 0:
            return ()
        writer = Writer(make_decoder(model), self.vocabulary, start_text=self.start_text)
        how = WritingSettings(length=length, count=self.count, seed=self.seed)
        return tuple(
            Sample(prompt=prompt, text=text, seed=self.seed + number)
            for prompt in self.prompts
            for number, text in enumerate(writer.write(prompt, how))
        )
