"""A model that is learning and its samples in; whether they copy, repeat or sound like the author, in numbers, out."""

from __future__ import annotations

from functools import cached_property

from transformers import GPT2LMHeadModel

from epigone.judging.copying import choose_tone, find_copied
from epigone.judging.judge import COPIES_END, TEXTS_BEGIN
from epigone.judging.repetition import Range, check_repetition, measure_range
from epigone.judging.style import LEAST, Yardstick, choose_size, divide_own, make_yardstick
from epigone.settings import WritingSettings
from epigone.tokens.stream import Tokens, spell_pieces, spell_some
from epigone.training.events import Criticism, Sample
from epigone.writing.decoder import make_decoder
from epigone.writing.engine import Writer
from epigone.writing.samples import Sampler

TOKENS_BETWEEN = 100
"""Tokens learned from between two evaluations for each one that is written to hear the style: it takes 5 % at most."""
MOST_OWN_TOKENS = 1 << 22
"""Of a text that is learned from, from which the author's style is known."""
LENGTH, COUNT = 2_600, 10
"""Characters and number of the texts that are written for that."""


class Critic:
    """Looks at what a model writes while it learns."""

    def __init__(
        self,
        sampler: Sampler,
        tokens: Tokens,
        n_tokens_between: float = 0.0,
    ) -> None:
        """`n_tokens_between` two evaluations decide whether the model writes enough for its style to be heard."""
        self.sampler, self.tokens, self.vocabulary = sampler, tokens, sampler.vocabulary
        n_written = LENGTH * COUNT * tokens.train.n_tokens / max(1, tokens.train.n_characters)
        self.listens = n_tokens_between >= TOKENS_BETWEEN * n_written

    def __call__(self, model: GPT2LMHeadModel) -> tuple[tuple[Sample, ...], Criticism | None]:
        """The samples of one evaluation, and what is to be said of them and of more text where there is time for it."""
        samples = self.sampler(model)
        return samples, self._criticise(model, samples) if samples else None

    def _criticise(self, model: GPT2LMHeadModel, samples: tuple[Sample, ...]) -> Criticism:
        more = self._write(model) if self.listens and self._yardstick else ""
        text = COPIES_END.join(filter(None, [*(sample.text for sample in samples), more]))
        copied = find_copied(text, spell_pieces(self.tokens.train, self.vocabulary))
        repeated, repeating = check_repetition(text, self._usual)
        return Criticism(
            n_characters=len(text),
            copied=copied.share,
            longest_copied=copied.longest.n_characters if copied.longest else 0,
            copying=choose_tone(copied),
            repeated=repeated.mean_repeated,
            repeating=repeating,
            sounds_like=self._listen(more) if more else None,
        )

    @cached_property
    def _usual(self) -> Range:
        return measure_range(TEXTS_BEGIN.join(spell_some(self.tokens.validation, self.vocabulary)))

    @cached_property
    def _yardstick(self) -> Yardstick | None:
        train = spell_some(self.tokens.train, self.vocabulary, MOST_OWN_TOKENS)
        held_out = spell_some(self.tokens.validation, self.vocabulary)
        own, held, _ = divide_own(train, TEXTS_BEGIN.join(held_out))
        if len(own) < LEAST or len(held) < LEAST:
            return None
        return make_yardstick(own, held, choose_size(LEAST, len(held)), seed=self.sampler.seed)

    def _write(self, model: GPT2LMHeadModel) -> str:
        writer = Writer(make_decoder(model), self.vocabulary, start_text=self.sampler.start_text)
        settings = WritingSettings(length=LENGTH, unit="characters", count=COUNT, seed=self.sampler.seed)
        return TEXTS_BEGIN.join(writer.write("", settings))

    def _listen(self, text: str) -> float | None:
        if self._yardstick is None:
            return None
        readings = self._yardstick.read(text, self.sampler.seed)
        told = [readings[ruler.name].score for ruler in self._yardstick.rulers if ruler.tells]
        return min(told, default=None)
