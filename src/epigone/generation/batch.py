"""Continuous batching: texts of several calls decoded together, each call joining or leaving between two tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from epigone.generation.guard import Guard
from epigone.generation.sampling import TokenSampler, pick_tokens
from epigone.generation.stopping import StopDetector, count_most_tokens
from epigone.model.decoder import Decoder, DecoderState

NONE_LIKELIEST: list[tuple[tuple[int, float], ...]] = [()]
MOST_LEFT = 0.75
"""Of the rows of a decoder's state: then the others are moved together, which takes a part of a step's time."""


class StreamedText(NamedTuple):
    """More text of one of the sequences."""

    sequence: int
    text: str


class DrawnToken(NamedTuple):
    """A token that one of the sequences got in the last step."""

    sequence: int
    token: int
    log_probability: float
    """Under the model itself, whatever changed its logits, in nats; NaN where it was not asked for. Of a first token
    that begins with what was taken back from the prompt: given that it does."""
    likeliest: tuple[tuple[int, float], ...]
    """The tokens that were likeliest under the model, with their log-probabilities; none where not asked for."""


class Healing(NamedTuple):
    """What was taken back from the end of a prompt, so that the first token begins with it (token healing)."""

    beginning: bytes
    others: torch.Tensor
    """The tokens that do not begin so: bool [vocabulary]."""


class Generation:
    """The continuations of one prompt by one set of settings, and everything that decides their next tokens.

    It knows no model: `advance` takes the logits of its rows and gives their tokens. Its random numbers, logits
    processors, guards and stop conditions are its own, so what it says does not depend on what is decoded beside
    it, but for the rounding of sums in another order.
    """

    def __init__(
        self,
        prompt_ids: torch.Tensor,
        numbers: range,
        sampler: TokenSampler,
        *,
        token_bytes: Sequence[bytes],
        end_of_text: int,
        n_likeliest: int | None = None,
    ) -> None:
        """The texts with these numbers; `sampler` has a row, and the settings, for each of them.

        prompt_ids: int64 [time], one at least; `token_bytes` as from `list_token_bytes`.
        `n_likeliest`: log-probabilities are kept, and of so many of the likeliest tokens of each step.
        """
        self.numbers, self.sampler = numbers, sampler
        guards = sampler.guards or [()] * len(numbers)
        self.detectors = [StopDetector(sampler.settings, partial(_may_end, several)) for several in guards]
        self._rows = list(range(len(numbers)))
        """The texts that are decoded, by their place among all."""
        self.n_most = count_most_tokens(sampler.settings)
        """Tokens after which every text has ended."""
        self._token_bytes, self._end_of_text = token_bytes, end_of_text
        self._n_prompt = self._end = len(prompt_ids)
        self._ids = torch.empty(len(numbers), self._end + self.n_most, dtype=torch.int64)
        self._ids[:, : self._end] = torch.as_tensor(prompt_ids)
        self._n_likeliest = n_likeliest
        self.healing: Healing | None = None
        """With what the first token of each text has to begin; it belongs to the prompt and not to the text."""
        self._known: torch.Tensor | None = None
        self._sums = [0.0] * len(numbers)
        self.next_ids: list[int] = self._ids[:, self._end - 1].tolist()
        """Each row's last token."""
        self.tokens: list[int] = []
        """What the last step has drawn for each text, the end of text for one that is decoded no more."""
        self.pieces: list[StreamedText] = []
        """The text that is certain since that step."""
        self.drawn: list[DrawnToken] = []
        """The tokens of the last step that belong to a text: one that had ended before gets none."""

    @property
    def count(self) -> int:
        """Its rows: texts that are decoded."""
        return len(self._rows)

    @property
    def _is_first(self) -> bool:
        """Whether the next token is the first one."""
        return self._end == self._n_prompt

    @property
    def is_done(self) -> bool:
        """Whether all its texts have ended."""
        return self._end == self._n_prompt + self.n_most or all(detector.stopped for detector in self.detectors)

    def drop_ended(self, most_left: float = 1.0) -> list[int] | None:
        """Decode no more the texts that have ended, where no more than this share of the rows are left.

        The rows that are left, by their places among those so far; None where nothing changes.
        """
        left = [place for place, row in enumerate(self._rows) if not self.detectors[row].stopped]
        if len(left) == self.count or len(left) > most_left * self.count or not self.sampler.keep(left):
            return None
        self._rows = [self._rows[place] for place in left]
        self._ids, self.next_ids = self._ids[left], [self.next_ids[place] for place in left]
        return left

    def begin(self, decoder: Decoder) -> DecoderState:
        """Let a decoder read the texts so far, or as much of their end as half its context holds where that is full."""
        half = max(1, decoder.n_positions // 2)
        start = 0 if self._end < decoder.n_positions else self._end - half
        ids = self._ids[:, start : self._end].to(decoder.device)
        return decoder.begin(ids[:1] if self._is_first else ids, self._ids.shape[1] - start, self.count)

    def begins_like(self, other: Generation) -> bool:
        """Whether both have read their prompts only, and these and their room are the same."""
        ends = {self._end, other._end, self._n_prompt, other._n_prompt}
        return (
            len(ends) == 1
            and self._ids.shape == other._ids.shape
            and torch.equal(self._ids[0, : self._end], other._ids[0, : self._end])
        )

    def advance(self, logits: torch.Tensor) -> None:
        """Draw the next token of each text from its logits, fp32 [count, vocabulary], which may be changed."""
        scores = self.process(logits)
        self.take(pick_tokens(scores, self.sampler.rows), scores)

    def process(self, logits: torch.Tensor) -> torch.Tensor:
        """The first half of `advance`: what to draw from."""
        if self.healing and self._is_first:
            others = self.healing.others[: logits.shape[1]]  # a model may have room for more tokens than there are
            logits[:, : len(others)].masked_fill_(others, -torch.inf)
        self._known = None if self._n_likeliest is None else logits.log_softmax(-1)
        if self.sampler.settings.stop_at != "document":
            _forbid(logits, self._end_of_text)  # a text has the length that was asked for
        return self.sampler.process(logits, self._ids[:, : self._end])

    def take(self, drawn: Sequence[int], scores: torch.Tensor) -> None:
        """The second half: what was drawn for each row from these scores."""
        beginning = self.healing.beginning if self.healing and self._is_first else b""
        self.next_ids = tokens = self.sampler.take(drawn, scores)
        self._ids.numpy()[:, self._end] = tokens  # of calls of torch each takes longer than all the rest of this
        self._end += 1
        self.tokens = [self._end_of_text] * len(self.numbers)
        for row, token in zip(self._rows, tokens, strict=True):
            self.tokens[row] = token
        self.drawn = list(self._describe_tokens(self._known, tokens))
        self.pieces = list(self._read_tokens(tokens, beginning))

    def _describe_tokens(self, known: torch.Tensor | None, tokens: Sequence[int]) -> Iterator[DrawnToken]:
        """known: log-probabilities under the model, [count, vocabulary], where they were asked for."""
        own, best = [math.nan] * self.count, NONE_LIKELIEST * self.count
        if known is not None:
            own = known[range(self.count), tokens].tolist()
            best = list_likeliest(known, self._n_likeliest or 0)
        for row, token, log_probability, likeliest in zip(self._rows, tokens, own, best, strict=True):
            if not self.detectors[row].stopped:
                self._sums[row] += log_probability
                yield DrawnToken(self.numbers[row], token, log_probability, likeliest)

    def _read_tokens(self, tokens: Sequence[int], beginning: bytes) -> Iterator[StreamedText]:
        for row, token in zip(self._rows, tokens, strict=True):
            piece = self._token_bytes[token].removeprefix(beginning)
            if text := self.detectors[row].take(piece, last=token == self._end_of_text):
                yield StreamedText(self.numbers[row], text)

    def finish(self) -> Iterator[StreamedText]:
        """What was held back of texts that have not ended by themselves, when nothing more is to come."""
        for number, detector in zip(self.numbers, self.detectors, strict=True):
            if text := detector.finish():
                yield StreamedText(number, text)

    def sum_log_probabilities(self) -> list[float]:
        """Of each text's tokens under the model alone, in nats, where `n_likeliest` was given."""
        return list(self._sums)


def list_likeliest(log_probabilities: torch.Tensor, count: int) -> list[tuple[tuple[int, float], ...]]:
    """For each row of [rows, vocabulary] the likeliest tokens, the best first."""
    if not count:
        return NONE_LIKELIEST * len(log_probabilities)
    values, tokens = log_probabilities.topk(min(count, log_probabilities.shape[1]))
    return [tuple(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), values.tolist(), strict=True)]


def _forbid(logits: torch.Tensor, token: int) -> None:
    if logits.device.type == "cpu":  # a call of torch gives Python's lock away, and another thread may keep it for long
        logits.numpy()[:, token] = -np.inf
    else:
        logits[:, token].fill_(-torch.inf)


def _may_end(guards: Sequence[Guard]) -> bool:
    return all(guard.may_end() for guard in guards)


class GenerationBatch:
    """Generations of one decoder that are decoded together, a token for each of their rows at every step.

    A server adds a request when it comes and removes it when its client leaves; both take effect at the next step. One
    thread steps a batch. Texts of one generation that have ended leave it when they are a quarter of its rows.
    """

    def __init__(self, decoder: Decoder, reading: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        """`reading`: in this context prompts are read, and contexts that move on."""
        self._decoder, self._reading = decoder, reading
        self._states: dict[Generation, DecoderState] = {}
        """Of those that have begun, in order."""
        self._waiting: list[Generation] = []

    @property
    def generations(self) -> list[Generation]:
        """Those that are in the batch now, whether or not they are done."""
        return [*self._states, *self._waiting]

    def add(self, generation: Generation) -> None:
        """Let its texts begin with the next step."""
        self._waiting.append(generation)

    def remove(self, generation: Generation) -> None:
        """Drop a generation, whether or not it is done. Raises ValueError where it is not in the batch."""
        if self._states.pop(generation, None) is None:
            self._waiting.remove(generation)

    @torch.inference_mode()
    def step(self) -> None:
        """Generate one token of every text; generations that were done before leave the batch."""
        going = {each: state for each, state in self._states.items() if not each.is_done}
        full = [each for each, state in going.items() if not state.room_left]
        for generation in full:  # their context is read again in part
            generation.drop_ended()
            del going[generation]
        for generation, state in going.items():
            if (left := generation.drop_ended(MOST_LEFT)) is not None:
                state.keep(left)
        self._states = going
        if going:
            self._advance(going)
        begun: list[Generation] = []
        joining, self._waiting = [*full, *self._waiting], []
        for generation in joining:
            alike = next((other for other in begun if generation.begins_like(other)), None)
            with self._reading():
                state = self._states[alike].copy() if alike else generation.begin(self._decoder)
            self._states[generation] = state
            begun.append(generation)
        for generation in begun:
            generation.advance(self._states[generation].logits)

    def _advance(self, states: Mapping[Generation, DecoderState]) -> None:
        ids = [token for generation in states for token in generation.next_ids]
        last = torch.from_numpy(np.array(ids, np.int64))
        if self._decoder.device.type != "cpu":
            last = last.to(self._decoder.device)
        logits = self._decoder.step_together(list(states.values()), last)
        parts, end = list[tuple[Generation, slice, torch.Tensor]](), 0
        for generation in states:
            place = slice(end, end := end + generation.count)
            rows = logits[place]
            scores = generation.process(rows)
            if scores is not rows:
                rows.copy_(scores)
            parts.append((generation, place, rows))
        tokens = pick_tokens(logits, [row for generation in states for row in generation.sampler.rows])
        for generation, place, rows in parts:
            generation.take(tokens[place], rows)
