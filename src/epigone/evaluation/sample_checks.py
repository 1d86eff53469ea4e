"""What a model writes during training: samples, their copying, repetition and style; and the temperature to write at.

The samples always have the same prompts and seeds, so those of two evaluations can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from epigone.evaluation.copying import choose_grade, find_copied
from epigone.evaluation.judge import COPY_BARRIER, TEXT_SEPARATOR
from epigone.evaluation.repetition import AuthorRange, check_repetition, measure_range
from epigone.evaluation.style import LEAST, StyleScales, choose_size, make_style_scales, split_own_text
from epigone.generation.generator import TextGenerator
from epigone.model.decoder import make_decoder
from epigone.settings import TrainSettings, WriteSettings
from epigone.tokens.dataset import DecodedPieces, TokenDataset, decode_sample
from epigone.tokens.tokenizer import BPETokenizer
from epigone.training.events import Sample, SampleStats

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


TOKENS_BETWEEN = 100
"""Training tokens between two evaluations for each token written to measure style: it then takes at most 5 % longer."""
MOST_OWN_TOKENS = 1 << 22
"""Training tokens from which the author's style is measured."""
LENGTH, COUNT = 2_600, 10
"""Characters and number of the texts that are written to measure style."""
TEMPERATURES = tuple(round(0.5 + 0.05 * step, 2) for step in range(15))
TEMPERATURE_TEXTS, TEMPERATURE_TOKENS = 16, 256
"""Texts, and tokens of each, that are written to try a temperature."""
FEWEST_CHARACTERS = 6_000
"""Held-out text needed to know the author's own range."""
MOST_PARAMETERS = 200_000_000
"""For a larger model, choosing a temperature takes longer than it is worth."""

# -- samples


class SampleWriter:
    """Writes `settings.samples` samples for each prompt, or without a prompt, from random numbers of its own."""

    def __init__(self, tokenizer: BPETokenizer, settings: TrainSettings, start_text: str) -> None:
        self.tokenizer, self.start_text = tokenizer, start_text
        self.prompts = settings.sample_prompt or ("",)
        self.count, self.length, self.seed = settings.samples, settings.sample_length, settings.seed

    def __call__(self, model: GPT2LMHeadModel) -> tuple[Sample, ...]:
        """The samples of one evaluation."""
        return self._write(model, self.length)

    def time(self, model: GPT2LMHeadModel) -> float:
        """Seconds that the samples of one evaluation take, estimated from a twentieth of their length."""
        few = max(4, self.length // 20)
        self._write(model, 1)
        began = time.perf_counter()
        self._write(model, few)
        return (time.perf_counter() - began) * self.length / few

    def _write(self, model: GPT2LMHeadModel, length: int) -> tuple[Sample, ...]:
        if self.count == 0:
            return ()
        generator = TextGenerator(make_decoder(model), self.tokenizer, start_text=self.start_text)
        settings = WriteSettings(length=length, count=self.count, seed=self.seed)
        return tuple(
            Sample(prompt=prompt, text=text, seed=self.seed + number)
            for prompt in self.prompts
            for number, text in enumerate(generator.write(prompt, settings))
        )


class SampleChecker:
    """Writes the samples of an evaluation and checks them for copying, repetition and, if there is time, style."""

    def __init__(self, sampler: SampleWriter, tokens: TokenDataset, n_tokens_between: float = 0.0) -> None:
        """`n_tokens_between` two evaluations decide whether there is time to write enough text to measure style."""
        self.sampler, self.tokens, self.tokenizer = sampler, tokens, sampler.tokenizer
        n_written = LENGTH * COUNT * tokens.train.n_tokens / max(1, tokens.train.n_characters)
        self.measures_style = n_tokens_between >= TOKENS_BETWEEN * n_written

    def __call__(self, model: GPT2LMHeadModel) -> tuple[tuple[Sample, ...], SampleStats | None]:
        """The samples of one evaluation, and statistics of them and, if there is time, of more text."""
        samples = self.sampler(model)
        return samples, self._measure_samples(model, samples) if samples else None

    def _measure_samples(self, model: GPT2LMHeadModel, samples: tuple[Sample, ...]) -> SampleStats:
        more = self._write(model) if self.measures_style and self._style_scales else ""
        text = COPY_BARRIER.join(filter(None, [*(sample.text for sample in samples), more]))
        copied = find_copied(text, DecodedPieces(self.tokens.train, self.tokenizer))
        repeated, repeating = check_repetition(text, self._usual)
        return SampleStats(
            n_characters=len(text),
            copied=copied.share,
            longest_copied=copied.longest.n_characters if copied.longest else 0,
            copying=choose_grade(copied),
            repeated=repeated.mean_repeated,
            repeating=repeating,
            sounds_like=self._measure_likeness(more) if more else None,
        )

    @cached_property
    def _usual(self) -> AuthorRange:
        return measure_range(TEXT_SEPARATOR.join(decode_sample(self.tokens.validation, self.tokenizer)))

    @cached_property
    def _style_scales(self) -> StyleScales | None:
        train = decode_sample(self.tokens.train, self.tokenizer, MOST_OWN_TOKENS)
        held_out = decode_sample(self.tokens.validation, self.tokenizer)
        own, held, _ = split_own_text(train, TEXT_SEPARATOR.join(held_out))
        if len(own) < LEAST or len(held) < LEAST:
            return None
        return make_style_scales(own, held, choose_size(LEAST, len(held)), seed=self.sampler.seed)

    def _write(self, model: GPT2LMHeadModel) -> str:
        generator = TextGenerator(make_decoder(model), self.tokenizer, start_text=self.sampler.start_text)
        settings = WriteSettings(length=LENGTH, unit="characters", count=COUNT, seed=self.sampler.seed)
        return TEXT_SEPARATOR.join(generator.write("", settings))

    def _measure_likeness(self, text: str) -> float | None:
        if self._style_scales is None:
            return None
        scores = self._style_scales.score(text, self.sampler.seed)
        reliable = [scores[scale.name].score for scale in self._style_scales.scales if scale.is_reliable]
        return min(reliable, default=None)


# -- temperature


@dataclass(frozen=True, kw_only=True, slots=True)
class TemperatureTrial:
    """The repetition in what a model writes at a temperature, measured as in `Repetition`."""

    temperature: float
    compression: float
    repeated: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TemperatureChoice:
    """The chosen temperature, the top of the author's own range, and what was tried."""

    temperature: float
    most_compression: float
    most_repeated: float
    trials: tuple[TemperatureTrial, ...]


def choose_temperature(
    model: GPT2LMHeadModel, tokenizer: BPETokenizer, held_out: Sequence[str], start_text: str, seed: int
) -> TemperatureChoice | None:
    """The lowest temperature at which what the model writes is no more repetitive than the author's held-out text.

    Its pages compress no better than 95 in 100 of the author's, which is a measure of entropy that needs no model, and
    no more of its four-word passages recur. None if too little text is held out or the model is too large.
    """
    if sum(map(len, held_out)) < FEWEST_CHARACTERS or model.num_parameters() > MOST_PARAMETERS:
        return None
    generator = TextGenerator(make_decoder(model), tokenizer, start_text=start_text)
    usual = measure_range("\n".join(held_out))
    trials: list[TemperatureTrial] = []
    first, last = 0, len(TEMPERATURES) - 1
    while first < last:  # both measures fall as the temperature rises
        middle = (first + last) // 2
        trials.append(_try_temperature(generator, usual, TEMPERATURES[middle], seed))
        first, last = (first, middle) if _fits(trials[-1], usual) else (middle + 1, last)
    return TemperatureChoice(
        temperature=TEMPERATURES[first],
        most_compression=usual.compression[1],
        most_repeated=usual.repeated[1],
        trials=tuple(trials),
    )


def _try_temperature(generator: TextGenerator, usual: AuthorRange, temperature: float, seed: int) -> TemperatureTrial:
    settings = WriteSettings(temperature=temperature, length=TEMPERATURE_TOKENS, count=TEMPERATURE_TEXTS, seed=seed)
    found, _ = check_repetition("\n".join(generator.write("", settings)), usual)
    return TemperatureTrial(temperature=temperature, compression=found.mean_compression, repeated=found.mean_repeated)


def _fits(trial: TemperatureTrial, usual: AuthorRange) -> bool:
    return trial.compression <= usual.compression[1] and trial.repeated <= usual.repeated[1]
