"""A decoder, its vocabulary and a prompt in; texts of any length out, in batches or piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch

from epigone.corpus.large_text import Text
from epigone.errors import SettingsError
from epigone.generation.sampling import Processor, TokenSampler, make_processors
from epigone.generation.stopping import StopDetector, count_most_tokens
from epigone.hardware import find_free_bytes, with_smaller_batches
from epigone.model.decoder import AnyDecoder
from epigone.model.weights import TEMPERATURE
from epigone.settings import WriteSettings
from epigone.text_reuse.copy_guard import CopyGuard, CopyIndex
from epigone.text_reuse.matches import Match, find_longest_shared
from epigone.tokens.tokenizer import BPETokenizer, encode, list_token_bytes

LARGEST_BATCH = 128
"""Texts. More at once were no quicker."""
SHARE_OF_MEMORY = 0.25
"""Of what is free, for the keys and values of a batch and the chances of its next tokens."""
T = TypeVar("T")


class StreamedText(NamedTuple):
    """More text of one of the sequences."""

    sequence: int
    text: str


class GeneratedText(NamedTuple):
    """A text and what is known of it. `log_probability` is that of its tokens under the model alone, in nats."""

    text: str
    seed: int
    n_tokens: int
    log_probability: float
    source: Match | None
    """The longest passage that was copied; None if there is none, or where it is not known what was learned from."""


class TextGenerator:
    """Writes with a model. It holds no state between two texts."""

    def __init__(
        self,
        decoder: AnyDecoder,
        tokenizer: BPETokenizer,
        *,
        start_text: str = "",
        temperature: float = TEMPERATURE,
        read_documents: Callable[[], list[Text]] | None = None,
    ) -> None:
        """`start_text` stands before a text without a prompt; if it is empty, the end-of-text token does.

        `temperature` is taken where the settings leave it to the model.
        `read_documents` gives what was learned from, where that is known.
        """
        self.decoder, self.temperature = decoder, temperature
        self.watch: Callable[[int, int], None] = lambda n_done, n_all: None
        """Called after each step with the tokens that are done and those that may be needed at most."""
        self._read_documents = read_documents
        self._documents: list[Text] | None = None
        self._indices: dict[int, CopyIndex] = {}
        self.tokenizer = tokenizer
        self.end_of_text = tokenizer.end_of_text_id
        self.token_bytes = list_token_bytes(tokenizer)
        self.start = encode(start_text, tokenizer) or [self.end_of_text]

    def resolve_auto(self, settings: WriteSettings) -> WriteSettings:
        """The settings with what they leave to the model."""
        auto = settings.temperature == "auto"
        return settings.model_copy(update={"temperature": self.temperature}) if auto else settings

    def write(self, prompt: str, settings: WriteSettings, processors: Sequence[Processor] = ()) -> list[str]:
        """`settings.count` texts that follow the prompt, which they do not repeat.

        Where memory runs out fewer are written at once. Raises OutOfMemory.
        """

        def write_batch(numbers: range) -> list[str]:
            chooser, scribes = (
                self._make_chooser(settings, numbers, processors),
                [StopDetector(settings) for _ in numbers],
            )
            return _join(self._stream_batch(prompt, numbers, scribes, chooser), numbers)

        return list(self._write_what_fits(write_batch, 0, settings.count))

    def stream(
        self, prompt: str, settings: WriteSettings, processors: Sequence[Processor] = ()
    ) -> Iterator[StreamedText]:
        """The same texts, piece by piece as they are written. No piece ends within a character.

        Text n is drawn with seed `settings.seed` + n, however many are written together. `processors` change the
        logits before a token is drawn; they are what transformers calls logits processors.
        """
        for numbers in _list_batches(0, settings.count, self._count_at_once()):
            chooser = self._make_chooser(settings, numbers, processors)
            yield from self._stream_batch(prompt, numbers, [StopDetector(settings) for _ in numbers], chooser)

    def write_records(self, prompt: str, settings: WriteSettings, first: int = 0) -> Iterator[GeneratedText]:
        """The texts from number `first` on, with what is known of each, as their batches are done. As `write`."""

        def write_batch(numbers: range) -> list[GeneratedText]:
            chooser, scribes = self._make_chooser(settings, numbers), [StopDetector(settings) for _ in numbers]
            steps: list[list[float]] = []
            chooser.log_probabilities = steps
            texts = _join(self._stream_batch(prompt, numbers, scribes, chooser), numbers)
            return [
                GeneratedText(
                    text=text,
                    seed=settings.seed + number,
                    n_tokens=scribe.n_tokens,
                    log_probability=sum(step[place] for step in steps[: scribe.n_tokens]),
                    source=self.find_source(text) if self._read_documents else None,
                )
                for place, (number, scribe, text) in enumerate(zip(numbers, scribes, texts, strict=True))
            ]

        return self._write_what_fits(write_batch, first, settings.count)

    def _write_what_fits(self, write_batch: Callable[[range], list[T]], first: int, count: int) -> Iterator[T]:
        """What `write_batch` gives for the texts up to `count`, in batches that fit into memory."""
        at_once = self._count_at_once()
        while first < count:
            texts, at_once = with_smaller_batches(
                partial(_take, write_batch, range(first, count)),
                min(at_once, count - first),
                what="the writing of one text",
                hint="Ask for a shorter one, or write with --device cpu.",
            )
            yield from texts
            first += at_once

    def find_source(self, text: str) -> Match | None:
        """The longest passage that the text shares with what was learned from. Raises what `documents` does."""
        return find_longest_shared(text, self.documents)

    def _count_at_once(self) -> int:
        """Texts in a batch, as the memory at hand allows."""
        free_bytes = int(SHARE_OF_MEMORY * find_free_bytes(self.decoder.device.type))
        return max(1, min(LARGEST_BATCH, free_bytes // self.decoder.count_bytes(self.decoder.n_positions)))

    def _make_chooser(
        self, settings: WriteSettings, numbers: range, processors: Sequence[Processor] = ()
    ) -> TokenSampler:
        bad_words = [ids for word in settings.bad_words if (ids := encode(word, self.tokenizer))]
        settings = self.resolve_auto(settings)
        chain = make_processors(settings, bad_words, self.token_bytes)
        chain.extend(processors)
        seeds = [settings.seed + number for number in numbers]
        return TokenSampler(settings, seeds, chain, self._make_guards(settings, len(numbers)))

    def _make_guards(self, settings: WriteSettings, count: int) -> list[CopyGuard]:
        if settings.max_copy == "none":
            return []
        if settings.max_copy not in self._indices:
            self._indices[settings.max_copy] = CopyIndex(self.documents, settings.max_copy)
        return [CopyGuard(self._indices[settings.max_copy], self.token_bytes) for _ in range(count)]

    @property
    def documents(self) -> list[Text]:
        """What the model has learned from. Raises SettingsError where that is not known."""
        if self._read_documents is None:
            raise SettingsError(
                "It is not known what this model has learned from.",
                hint="Write with a run of epigone, in its own folder.",
            )
        if self._documents is None:
            self._documents = self._read_documents()
        return self._documents

    def _stream_batch(
        self, prompt: str, numbers: range, scribes: Sequence[StopDetector], chooser: TokenSampler
    ) -> Iterator[StreamedText]:
        prompt_ids, n_most = encode(prompt, self.tokenizer) or self.start, count_most_tokens(chooser.settings)
        n_all = n_most * chooser.settings.count
        for n_done, tokens in enumerate(self._write_tokens(prompt_ids, len(numbers), n_most, chooser), 1):
            self.watch(n_most * numbers.start + n_done * len(numbers), n_all)
            for number, scribe, token in zip(numbers, scribes, tokens, strict=True):
                text = scribe.take(self.token_bytes[token], last=token == self.end_of_text)
                if text:
                    yield StreamedText(number, text)
            if all(scribe.stopped for scribe in scribes):
                return
        for number, scribe in zip(numbers, scribes, strict=True):
            if text := scribe.finish():
                yield StreamedText(number, text)

    def _write_tokens(
        self, prompt_ids: list[int], count: int, length: int, chooser: TokenSampler
    ) -> Iterator[list[int]]:
        """`length` times a token for each sequence."""
        decoder, n_read = self.decoder, len(prompt_ids)
        half = max(1, decoder.n_positions // 2)
        written = torch.empty(count, n_read + length, dtype=torch.int64, device=decoder.device)
        written[:, :n_read] = torch.tensor(prompt_ids)
        tokens = written[:, n_read - 1]
        for end in range(n_read, n_read + length):
            with torch.inference_mode():
                if end == n_read:
                    start = 0 if end < decoder.n_positions else end - half
                    logits = decoder.begin(written[:1, start:end], end - start + length, count)
                elif decoder.is_full:  # the second half of the window is read again
                    logits = decoder.begin(written[:, end - half : end], written.shape[1], count)
                else:
                    logits = decoder.step(tokens)
                if chooser.settings.stop_at != "document":
                    logits[:, self.end_of_text].fill_(-torch.inf)  # a text has the length that was asked for
                tokens = chooser.choose(logits, written[:, :end])
                written[:, end].copy_(tokens)
            yield tokens.tolist()


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
