"""Text generation: a prompt to one or many continuations of any length, whole or streamed.

`TextGenerator` has the model, its tokenizer and what it was trained on, all of them shared and read only. What changes
from token to token is in the `Generation` of one call (`batch.py`), so threads may share a generator: each call has its
own random numbers, stop conditions, progress and KV cache, and writes what it would write alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from threading import RLock
from typing import Literal, TypeVar

import torch

from epigone.corpus.large_text import Text, read_some
from epigone.errors import SettingsError
from epigone.generation.batch import Generation, GenerationBatch, Healing, StreamedText
from epigone.generation.doubled_words import DoubledWordGuard, Doubling, find_doubling
from epigone.generation.guard import Guard
from epigone.generation.known_words import KnownWords, WordGuard, WordStates
from epigone.generation.lone_numbers import LoneNumberGuard, Numbering, find_numbering
from epigone.generation.paired_marks import MarkGuard, MarkUse, find_mark_use
from epigone.generation.records import GeneratedText
from epigone.generation.repeated_phrases import UNKNOWN, RepeatedPhraseGuard, Repetition, find_repetition
from epigone.generation.sampling import LogitsProcessor, TokenSampler, make_processors
from epigone.generation.whole_characters import CharacterGuard, list_beginnings
from epigone.hardware import find_free_bytes, with_smaller_batches
from epigone.model.decoder import Decoder
from epigone.model.weights import TEMPERATURE
from epigone.settings import StopAt, WriteSettings
from epigone.text_reuse.copy_guard import CopyGuard, CopyIndex
from epigone.text_reuse.matches import Match, find_longest_shared
from epigone.tokens.tokenizer import BPETokenizer, encode, list_token_bytes

LARGEST_BATCH = 128
"""Texts. More at once were no faster."""
SHARE_OF_MEMORY = 0.25
"""Of what is free, for the KV caches of a batch and the probabilities of its next tokens."""
REPETITION_CHARACTERS = 200_000
"""Of the training text, that show how often its author repeats phrases."""
T = TypeVar("T")
OnProgress = Callable[[int, int], None]
"""Called after each step with the tokens that are done and the most that may be needed."""
ShouldStop = Callable[[], bool]
"""Asked before each token; once it says yes, nothing more is generated."""


def ignore_progress(n_done: int, n_all: int) -> None:
    """The `OnProgress` of a caller who does not want to know."""


def never_stop() -> bool:
    """The `ShouldStop` of a caller who waits for the end."""
    return False


@dataclass(frozen=True, kw_only=True)
class WriteDefaults:
    """How a model writes where the settings leave it open."""

    start_text: str = ""
    """Stands before a text without a prompt; if it is empty, the end-of-text token does."""
    temperature: float = TEMPERATURE
    words: Literal["known", "any"] = "any"
    stop_at: StopAt = "anywhere"


class TextGenerator:
    """Generates text with one model. Holds no state of any text, so several threads may use it at the same time."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: BPETokenizer,
        defaults: WriteDefaults = WriteDefaults(),
        *,
        read_documents: Callable[[], list[Text]] | None = None,
        read_learned: Callable[[], list[Text]] | None = None,
        read_words: Callable[[], KnownWords] | None = None,
    ) -> None:
        """`read_documents` gives the training text, `read_learned` that and, after it, what else was read before, and
        `read_words` the words of the training text and of the base's, where known."""
        self.decoder, self.defaults = decoder, defaults
        self.tokenizer = tokenizer
        self.end_of_text = tokenizer.end_of_text_id
        self.token_bytes = list_token_bytes(tokenizer)
        self.start = encode(defaults.start_text, tokenizer) or [self.end_of_text]
        self._read_documents, self._read_words = read_documents, read_words
        self._read_learned = read_learned
        self._documents: list[Text] | None = None
        self._learned: list[Text] | None = None
        self._words: KnownWords | None = None
        self._indices: dict[int, CopyIndex] = {}
        self._lock = RLock()
        """Held while the training text is read or indexed, so that this happens once."""

    def resolve_auto(self, settings: WriteSettings) -> WriteSettings:
        """The settings with what they leave to the model."""
        names = ("temperature", "words", "stop_at")
        found = {name: getattr(self.defaults, name) for name in names if getattr(settings, name) == "auto"}
        return settings.model_copy(update=found) if found else settings

    # -- texts

    def write(
        self,
        prompt: str,
        settings: WriteSettings,
        processors: Sequence[LogitsProcessor] = (),
        *,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> list[str]:
        """`settings.count` continuations of the prompt, without it.

        Text n is drawn with seed `settings.seed` + n, however many are generated together. Where memory runs out fewer
        are generated at once. When `should_stop` says so, texts end where they are, and those that had not begun are
        left out. `processors` change the logits before a token is drawn. Raises OutOfMemory.
        """
        stop = _Stop(should_stop)

        def write_batch(numbers: range) -> list[str]:
            generation = self.begin(prompt, settings, numbers, processors)
            return _join(self._stream(generation, on_progress, stop), numbers)

        return list(self._write_what_fits(write_batch, 0, settings.count, stop))

    def stream(
        self,
        prompt: str,
        settings: WriteSettings,
        processors: Sequence[LogitsProcessor] = (),
        *,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Iterator[StreamedText]:
        """The same texts, piece by piece as they are generated. No piece ends within a character."""
        stop = _Stop(should_stop)
        for numbers in _list_batches(0, settings.count, self._count_at_once()):
            if not stop():
                yield from self._stream(self.begin(prompt, settings, numbers, processors), on_progress, stop)

    def write_records(
        self,
        prompt: str,
        settings: WriteSettings,
        first: int = 0,
        *,
        find_sources: bool = True,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Iterator[GeneratedText]:
        """The texts from number `first` on, with what is known of each, as soon as their batch is done. As `write`.

        Without `find_sources` the training text is not searched for what they share with it. Texts that `should_stop`
        has cut short are not among them.
        """
        stop = _Stop(should_stop)

        def write_batch(numbers: range) -> list[GeneratedText]:
            generation = self.begin(prompt, settings, numbers, n_likeliest=0)
            texts = _join(self._stream(generation, on_progress, stop), numbers)
            return [] if stop.requested else list(self._describe(prompt, generation, texts, find_sources))

        return self._write_what_fits(write_batch, first, settings.count, stop)

    def stream_tokens(
        self, prompt_ids: Sequence[int], settings: WriteSettings, *, should_stop: ShouldStop = never_stop
    ) -> Iterator[list[int]]:
        """The ids that `settings.count` texts get at each step, [count], until all have ended or have their length."""
        generation = self.begin_from_ids(prompt_ids, settings, range(settings.count))
        return (step.tokens for step in _run(self.decoder, generation, _Stop(should_stop)))

    # -- one call

    def begin(
        self,
        prompt: str,
        settings: WriteSettings,
        numbers: range | None = None,
        processors: Sequence[LogitsProcessor] = (),
        *,
        n_likeliest: int | None = None,
    ) -> Generation:
        """The texts with these numbers, all `settings.count` if None, before their first token.

        They are generated in a `GenerationBatch` of the same decoder, beside others or alone. `n_likeliest` as in
        `Generation`. A space at the end of the prompt is read as the beginning of the first word, as in the training
        text, where words begin with their space.
        """
        return self.begin_from_ids(
            encode(prompt, self.tokenizer) or self.start,
            settings,
            range(settings.count) if numbers is None else numbers,
            processors,
            n_likeliest=n_likeliest,
            heal=prompt.endswith(" "),
        )

    def begin_from_ids(
        self,
        prompt_ids: Sequence[int],
        settings: WriteSettings,
        numbers: range,
        processors: Sequence[LogitsProcessor] = (),
        *,
        n_likeliest: int | None = None,
        heal: bool = False,
    ) -> Generation:
        """The same from the prompt's tokens, one at least; `heal`: a space at their end begins the first word."""
        prompt_ids, healing = self._take_space_back(prompt_ids) if heal else (prompt_ids, None)
        settings, prompt = self.resolve_auto(settings), self._decode(prompt_ids)
        bad_words = [ids for word in settings.bad_words if (ids := encode(word, self.tokenizer))]
        sampler = TokenSampler(
            settings,
            [settings.seed + number for number in numbers],
            [*make_processors(settings, bad_words, self.token_bytes), *processors],
            self._make_guards(settings, prompt, len(numbers)),
        )
        generation = Generation(
            torch.tensor(prompt_ids, device=self.decoder.device),
            numbers,
            sampler,
            token_bytes=self.token_bytes,
            end_of_text=self.end_of_text,
            n_likeliest=n_likeliest,
        )
        generation.healing = healing
        return generation

    def _take_space_back(self, prompt_ids: Sequence[int]) -> tuple[Sequence[int], Healing | None]:
        """The tokens without a space at their end, and how the first token that is drawn gives it back."""
        spaces = self.token_bytes[prompt_ids[-1]]
        if not spaces or spaces.strip(b" ") or bool(self._unspaced.all()):
            return prompt_ids, None
        left = [*prompt_ids[:-1], *encode(spaces[1:].decode(), self.tokenizer)]
        return left or self.start, Healing(b" ", self._unspaced)

    @cached_property
    def _unspaced(self) -> torch.Tensor:
        """Of each token whether it does not begin with a space."""
        unspaced = [not piece.startswith(b" ") for piece in self.token_bytes]
        return torch.tensor(unspaced, device=self.decoder.device)

    def _decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.token_bytes[token] for token in ids).decode("utf-8", "replace")

    def _stream(self, generation: Generation, on_progress: OnProgress, stop: _Stop) -> Iterator[StreamedText]:
        count, n_most = len(generation.numbers), generation.n_most
        n_before, n_all = n_most * generation.numbers.start, n_most * generation.sampler.settings.count
        for n_steps, step in enumerate(_run(self.decoder, generation, stop), 1):
            on_progress(n_before + n_steps * count, n_all)
            yield from step.pieces
        yield from generation.finish()

    def _write_what_fits(
        self, write_batch: Callable[[range], list[T]], first: int, count: int, stop: _Stop
    ) -> Iterator[T]:
        """What `write_batch` gives for the texts up to `count`, in batches that fit into memory."""
        at_once = self._count_at_once()
        while first < count and not stop():
            texts, at_once = with_smaller_batches(
                partial(_take, write_batch, range(first, count)),
                min(at_once, count - first),
                what="the writing of one text",
                hint="Ask for a shorter one, or write with --device cpu.",
            )
            yield from texts
            first += at_once

    def _count_at_once(self) -> int:
        """Texts in a batch, as far as memory allows."""
        free_bytes = int(SHARE_OF_MEMORY * find_free_bytes(self.decoder.device.type))
        return max(1, min(LARGEST_BATCH, free_bytes // self.decoder.count_bytes(self.decoder.n_positions)))

    # -- the training text

    @property
    def documents(self) -> list[Text]:
        """The training text. Raises SettingsError where that is not known."""
        if self._read_documents is None:
            raise SettingsError(
                "It is not known what this model has learned from.",
                hint="Write with a run of epigone, in its own folder.",
            )
        with self._lock:
            if self._documents is None:
                self._documents = self._read_documents()
        return self._documents

    @property
    def learned(self) -> list[Text]:
        """All that it could copy: the training text, and after it what it read before. Raises as `documents` does."""
        with self._lock:
            if self._learned is None:
                self._learned = self._read_learned() if self._read_learned else self.documents
        return self._learned

    def find_source(self, text: str) -> Match | None:
        """The longest passage that the text shares with what was learned. Raises what `documents` does."""
        return find_longest_shared(text, self.learned)

    @property
    def known_words(self) -> KnownWords:
        """The words of the training text and of the base's. Raises SettingsError where they are not known."""
        if self._read_words is None:
            raise SettingsError("It is not known which words this model has learned.", hint="Leave --words out.")
        with self._lock:
            if self._words is None:
                self._words = self._read_words()
        return self._words

    @cached_property
    def _word_states(self) -> WordStates:
        return WordStates(self.known_words, self.token_bytes)

    @cached_property
    def _beginnings(self) -> frozenset[bytes]:
        """How characters of the training text begin that are not ASCII."""
        return list_beginnings(read_some(self.documents))

    @cached_property
    def _numbering(self) -> Numbering:
        """The kinds of numbers that stand alone on lines of the training text."""
        return find_numbering(read_some(self.documents)) if self._read_documents else Numbering(False, False)

    @cached_property
    def _mark_use(self) -> MarkUse:
        """How the training text uses quotation marks and brackets."""
        return find_mark_use(read_some(self.documents)) if self._read_documents else MarkUse()

    @cached_property
    def _doubling(self) -> Doubling:
        """Which words the training text has twice in a row."""
        return find_doubling(read_some(self.documents)) if self._read_documents else Doubling()

    @cached_property
    def _repetition(self) -> Repetition:
        """How often the training text repeats phrases."""
        if not self._read_documents:
            return UNKNOWN
        return find_repetition(read_some(self.documents, REPETITION_CHARACTERS))

    def _index_passages(self, n_characters: int) -> CopyIndex:
        with self._lock:
            if n_characters not in self._indices:
                self._indices[n_characters] = CopyIndex(self.learned, n_characters)
            return self._indices[n_characters]

    def _make_guards(self, settings: WriteSettings, prompt: str, count: int) -> list[list[Guard]]:
        """Those of each text, the least important first: a copy is worse than an unknown word."""
        makers: list[Callable[[], Guard]] = []
        if settings.marks == "auto" and any(self._mark_use):
            makers.append(partial(MarkGuard, self._mark_use, self.token_bytes, prompt))
        if settings.words == "known":
            makers.append(partial(self._make_character_guard, prompt))
            if any(self._numbering):
                makers.append(partial(LoneNumberGuard, self._numbering, self.token_bytes, prompt))
            if self._doubling.is_known:
                makers.append(partial(DoubledWordGuard, self._doubling, self.token_bytes, prompt))
            makers.append(partial(WordGuard, self._word_states.add(prompt), prompt))
        if settings.loop_guard == "on" and self._repetition.most:
            makers.append(partial(RepeatedPhraseGuard, self._repetition, self.token_bytes, prompt))
        if settings.max_copy != "none":
            makers.append(partial(CopyGuard, self._index_passages(settings.max_copy), self.token_bytes))
        return [[make() for make in makers] for _ in range(count)]

    def _make_character_guard(self, prompt: str) -> CharacterGuard:
        known = self._beginnings | list_beginnings([prompt]) if self._read_documents else None
        return CharacterGuard(known, self.token_bytes)

    def _describe(
        self, prompt: str, generation: Generation, texts: list[str], find_sources: bool
    ) -> Iterator[GeneratedText]:
        sums = generation.sum_log_probabilities()
        for number, detector, text, log_probability in zip(
            generation.numbers, generation.detectors, texts, sums, strict=True
        ):
            yield GeneratedText(
                prompt=prompt,
                text=text,
                seed=generation.sampler.settings.seed + number,
                n_tokens=detector.n_tokens,
                log_probability=log_probability,
                longest_shared=self.find_source(text) if self._read_documents and find_sources else None,
            )


class _Stop:
    """Whether a caller wants no more; asked again only until the answer is yes."""

    def __init__(self, should_stop: ShouldStop) -> None:
        self._should_stop, self.requested = should_stop, False

    def __call__(self) -> bool:
        self.requested = self.requested or self._should_stop()
        return self.requested


def _run(decoder: Decoder, generation: Generation, stop: _Stop) -> Iterator[Generation]:
    """The generation after each of its steps, alone in a batch."""
    batch = GenerationBatch(decoder)
    batch.add(generation)
    while not generation.is_done and not stop():
        batch.step()
        yield generation


def _join(pieces: Iterator[StreamedText], numbers: range) -> list[str]:
    """The whole text of each of these sequences."""
    texts: list[list[str]] = [[] for _ in numbers]
    for piece in pieces:
        texts[piece.sequence - numbers.start].append(piece.text)
    return ["".join(text) for text in texts]


def _take(write_batch: Callable[[range], list[T]], numbers: range, at_once: int) -> list[T]:
    return write_batch(numbers[:at_once])


def _list_batches(first: int, count: int, largest: int) -> Iterator[range]:
    for start in range(first, count, largest):
        yield range(start, min(start + largest, count))
