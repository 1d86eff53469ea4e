"""What a model writes during training: samples, their copying, repetition and style; and the temperature to write at.

The samples always have the same prompts and seeds, so those of two evaluations can be compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import linear_regression
from typing import TYPE_CHECKING

from epigone.corpus.large_text import Text
from epigone.evaluation.copying import choose_grade, find_copied
from epigone.evaluation.judge import COPY_BARRIER, TEXT_SEPARATOR
from epigone.evaluation.repetition import (
    WINDOW_UNITS,
    AuthorRange,
    check_repetition,
    choose_sizes,
    choose_unit,
    measure_range,
)
from epigone.evaluation.style import LEAST, StyleScales, divide_own_text, make_author_scales
from epigone.generation.batch import GenerationBatch
from epigone.generation.generator import TextGenerator, WriteDefaults
from epigone.generation.known_words import KnownWords, gather_words
from epigone.model.decoder import make_decoder
from epigone.settings import TrainSettings, WriteSettings
from epigone.tokens.dataset import DecodedPieces, TokenDataset, TokenSplit, decode_documents, decode_sample
from epigone.tokens.tokenizer import BPETokenizer
from epigone.training.events import Sample, SampleStats

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


TOKENS_BETWEEN = 100
"""Training tokens between two evaluations for each token written to measure style: it then takes at most 5 % longer."""
MOST_COMPARED = 1 << 26
"""Tokens of the training text with which samples are compared at each evaluation: about 250 MB, read in seconds."""
MOST_OWN_TOKENS = 1 << 22
"""Training tokens from which the author's style is measured."""
LENGTH, COUNT = 2_600, 10
"""Characters and number of the texts that are written to measure style."""
TEMPERATURES = 0.8, 0.95, 1.1
"""Those that are tried: near the choice, since far below it repetition grows faster than a line predicts."""
COOLEST, HOTTEST = 0.6, 1.1
"""The lowest and highest that can be chosen."""
TEMPERATURE_TEXTS, TEMPERATURE_TOKENS = 4, 256
"""Texts, and tokens of each, that are written at each of them. Ten times as many hardly choose better (findings)."""
LEAST_REPEATED = 1 / WINDOW_UNITS
"""One passage in a window recurs by chance, even where none of the author's few windows has one."""
FEWEST_CHARACTERS = 6_000
"""Held-out text needed to know the author's own range."""

# -- samples


class SampleWriter:
    """Writes `settings.samples` samples for each prompt, or without a prompt, from random numbers of its own.

    They end, and keep to known words, as what `epigone write` writes with the model of the run.
    """

    def __init__(
        self,
        tokenizer: BPETokenizer,
        settings: TrainSettings,
        defaults: WriteDefaults,
        training: TokenSplit | None = None,
        base: str = "none",
    ) -> None:
        """`training`: the tokens of the training text, whose words are known, as are those of a bundled `base`."""
        self.tokenizer, self.defaults, self.base = tokenizer, defaults, base
        self.prompts = settings.sample_prompt or ("",)
        self.count, self.length, self.seed = settings.samples, settings.sample_length, settings.seed
        self._training = training

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
        generator = self.make_generator(model)
        settings = WriteSettings(length=length, count=self.count, seed=self.seed)
        return tuple(
            Sample(prompt=prompt, text=text, seed=self.seed + number)
            for prompt in self.prompts
            for number, text in enumerate(generator.write(prompt, settings))
        )

    def make_generator(self, model: GPT2LMHeadModel) -> TextGenerator:
        """A generator with the model's weights as they are now."""
        documents = None if self._training is None else lambda: self._documents
        words = None if self._training is None else lambda: self._words
        return TextGenerator(
            make_decoder(model), self.tokenizer, self.defaults, read_documents=documents, read_words=words
        )

    @cached_property
    def _documents(self) -> list[Text]:
        """The training text, or a sample of it if it is very long."""
        return [] if self._training is None else [*decode_sample(self._training, self.tokenizer, MOST_OWN_TOKENS)]

    @cached_property
    def _words(self) -> KnownWords:
        return gather_words(map(str, self._documents), self.base)


class SampleChecker:
    """Writes the samples of an evaluation and checks them for copying, repetition and, if there is time, style."""

    def __init__(
        self,
        sampler: SampleWriter,
        tokens: TokenDataset,
        n_tokens_between: float = 0.0,
        read_before: Callable[[Sequence[Text]], Sequence[Text]] | None = None,
    ) -> None:
        """`n_tokens_between` two evaluations decide whether there is time to write enough text to measure style.
        `read_before` gives the texts that the model has read before, without those of this run: it could copy them."""
        self.sampler, self.tokens, self.tokenizer = sampler, tokens, sampler.tokenizer
        self._read_before = read_before
        n_written = LENGTH * COUNT * tokens.train.n_tokens / max(1, tokens.train.n_characters)
        self.measures_style = n_tokens_between >= TOKENS_BETWEEN * n_written

    def __call__(self, model: GPT2LMHeadModel) -> tuple[tuple[Sample, ...], SampleStats | None]:
        """The samples of one evaluation, and statistics of them and, if there is time, of more text."""
        samples = self.sampler(model)
        return samples, self._measure_samples(model, samples) if samples else None

    def _measure_samples(self, model: GPT2LMHeadModel, samples: tuple[Sample, ...]) -> SampleStats:
        more = self._write(model) if self.measures_style and self._style_scales else ""
        text = COPY_BARRIER.join(filter(None, [*(sample.text for sample in samples), more]))
        copied = find_copied(text, self._searched)
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
    def _searched(self) -> Sequence[Text]:
        """What samples could copy: the training text, of a very long one its beginning, and what was read before."""
        train = self.tokens.train
        train = train if len(train.ids) <= MOST_COMPARED else replace(train, ids=train.ids[:MOST_COMPARED])
        if self._read_before is None:
            return DecodedPieces(train, self.tokenizer)
        own = decode_documents(train, self.tokenizer)
        return [*own, *self._read_before(own)]

    @cached_property
    def _usual(self) -> AuthorRange:
        return measure_range(TEXT_SEPARATOR.join(decode_sample(self.tokens.validation, self.tokenizer)))

    @cached_property
    def _style_scales(self) -> StyleScales | None:
        train = decode_sample(self.tokens.train, self.tokenizer, MOST_OWN_TOKENS)
        held_out = decode_sample(self.tokens.validation, self.tokenizer)
        folds = divide_own_text(train, TEXT_SEPARATOR.join(held_out))
        if any(len(part) < LEAST for fold in folds for part in fold):
            return None
        return make_author_scales(folds, LEAST, seed=self.sampler.seed)

    def _write(self, model: GPT2LMHeadModel) -> str:
        settings = WriteSettings(length=LENGTH, unit="characters", count=COUNT, seed=self.sampler.seed)
        return TEXT_SEPARATOR.join(self.sampler.make_generator(model).write("", settings))

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


def choose_temperature(generator: TextGenerator, held_out: Sequence[str], seed: int) -> TemperatureChoice | None:
    """The lowest temperature at which what the model writes is no more repetitive than the author's held-out text.

    `generator` writes as it will for its readers, so it should know the training text.

    Its pages compress no better than 95 in 100 of the author's, which is a measure of entropy that needs no model, and
    no more of its four-word passages recur. Both are read off lines through what was measured at a few temperatures.
    None if too little text is held out.
    """
    if sum(map(len, held_out)) < FEWEST_CHARACTERS:
        return None
    texts, own = _write_at_temperatures(generator, seed), "\n".join(held_out)
    unit = choose_unit(own)
    usual = measure_range(own, unit, **choose_sizes(min(texts, key=len), own, unit))
    most_repeated = max(usual.repeated[1], LEAST_REPEATED)
    found = [check_repetition(text, usual)[0] for text in texts]
    trials = [
        TemperatureTrial(temperature=temperature, compression=one.mean_compression, repeated=one.mean_repeated)
        for temperature, one in zip(TEMPERATURES, found, strict=True)
    ]
    lowest = max(
        _find_fall([trial.compression for trial in trials], usual.compression[1]),
        _find_fall([trial.repeated + LEAST_REPEATED for trial in trials], most_repeated + LEAST_REPEATED),
    )
    return TemperatureChoice(
        temperature=round(lowest, 2),
        most_compression=usual.compression[1],
        most_repeated=most_repeated,
        trials=tuple(trials),
    )


def _write_at_temperatures(generator: TextGenerator, seed: int) -> list[str]:
    """What the model writes at each of the temperatures, all at once."""
    batch = GenerationBatch(generator.decoder)
    settings = WriteSettings(length=TEMPERATURE_TOKENS, count=TEMPERATURE_TEXTS, seed=seed, stop_at="anywhere")
    texts = []
    for temperature in TEMPERATURES:
        generation = generator.begin("", settings.model_copy(update={"temperature": temperature}))
        batch.add(generation)
        texts.append((generation, [""] * TEMPERATURE_TEXTS))
    while not all(generation.is_done for generation, _ in texts):
        batch.step()
        for generation, several in texts:
            for piece in generation.pieces:
                several[piece.sequence] += piece.text
    return ["\n".join(several) for _, several in texts]


def _find_fall(values: Sequence[float], most: float) -> float:
    """The temperature from which on positive values, one for each of TEMPERATURES, are `most` or less.

    Their logarithms fall nearly as the inverse square of the temperature. A line through all of them varies less
    from seed to seed than one between the nearest two (findings).
    """
    slope, end = linear_regression([temperature**-2 for temperature in TEMPERATURES], [math.log(one) for one in values])
    if slope <= 0:
        return COOLEST if max(values) <= most else HOTTEST
    if math.log(most) <= end:
        return HOTTEST
    return min(max(math.sqrt(slope / (math.log(most) - end)), COOLEST), HOTTEST)
