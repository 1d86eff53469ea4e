"""Continuous batching: texts of several calls decoded together, each call joining or leaving between two tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from epigone.generation.sampling import TokenSampler
from epigone.generation.stopping import StopDetector, count_most_tokens
from epigone.model.decoder import Decoder, DecoderState


class StreamedText(NamedTuple):
    """More text of one of the sequences."""

    sequence: int
    text: str


class DrawnToken(NamedTuple):
    """A token that one of the sequences got in the last step."""

    sequence: int
    token: int
    log_probability: float
    """Under the model itself, whatever changed its logits, in nats; NaN where it was not asked for."""
    likeliest: tuple[tuple[int, float], ...]
    """The tokens that were likeliest under the model, with their log-probabilities; none where not asked for."""


class Generation:
    """The continuations of one prompt by one set of settings, and everything that decides their next tokens.

    It knows no model: `advance` takes the logits of its rows and gives their tokens. Its random numbers, logits
    processors, copy guards and stop conditions are its own, so what it says does not depend on what is decoded beside
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

        prompt_ids: int64 [time], one at least, on the decoder's device; `token_bytes` as from `list_token_bytes`.
        `n_likeliest`: log-probabilities are kept, and of so many of the likeliest tokens of each step.
        """
        self.numbers, self.sampler = numbers, sampler
        self.detectors = [StopDetector(sampler.settings) for _ in numbers]
        self.n_most = count_most_tokens(sampler.settings)
        """Tokens after which every text has ended."""
        self._token_bytes, self._end_of_text = token_bytes, end_of_text
        self._n_prompt = self._end = len(prompt_ids)
        self._ids = prompt_ids.new_empty(len(numbers), self._end + self.n_most)
        self._ids[:, : self._end] = prompt_ids
        self._n_likeliest = n_likeliest
        self._log_probabilities: list[list[float]] = []
        self.next_ids = self._ids[:, self._end - 1]
        """Each text's last token: int64 [count]."""
        self.tokens: list[int] = []
        """What the last step has drawn, and ..."""
        self.pieces: list[StreamedText] = []
        """... the text that is certain since then."""
        self.drawn: list[DrawnToken] = []
        """The tokens of the last step that belong to a text: one that had ended before gets none."""

    @property
    def count(self) -> int:
        """Its rows."""
        return len(self.numbers)

    @property
    def is_done(self) -> bool:
        """Whether all its texts have ended."""
        return self._end == self._ids.shape[1] or all(detector.stopped for detector in self.detectors)

    def begin(self, decoder: Decoder) -> DecoderState:
        """Let a decoder read the texts so far, or as much of their end as half its context holds where that is full."""
        half = max(1, decoder.n_positions // 2)
        start = 0 if self._end < decoder.n_positions else self._end - half
        ids = self._ids[:, start : self._end]
        alike = self._end == self._n_prompt
        return decoder.begin(ids[:1] if alike else ids, self._ids.shape[1] - start, self.count)

    def advance(self, logits: torch.Tensor) -> None:
        """Draw the next token of each text from its logits, fp32 [count, vocabulary], which may be changed."""
        known = None if self._n_likeliest is None else logits.log_softmax(-1)
        if self.sampler.settings.stop_at != "document":
            logits[:, self._end_of_text].fill_(-torch.inf)  # a text has the length that was asked for
        self.next_ids = self.sampler.sample(logits, self._ids[:, : self._end])
        self._ids[:, self._end].copy_(self.next_ids)
        self._end += 1
        self.tokens = self.next_ids.tolist()
        self.drawn = list(self._describe_tokens(known))
        self.pieces = list(self._read_tokens())

    def _describe_tokens(self, known: torch.Tensor | None) -> Iterator[DrawnToken]:
        """known: log-probabilities under the model, [count, vocabulary], where they were asked for."""
        own, best = [math.nan] * self.count, list_likeliest(self._ids, 0)
        if known is not None:
            own = known.gather(1, self.next_ids[:, None])[:, 0].tolist()
            self._log_probabilities.append(own)
            best = list_likeliest(known, self._n_likeliest or 0)
        for row, detector in enumerate(self.detectors):
            if not detector.stopped:
                yield DrawnToken(self.numbers[row], self.tokens[row], own[row], best[row])

    def _read_tokens(self) -> Iterator[StreamedText]:
        for number, detector, token in zip(self.numbers, self.detectors, self.tokens, strict=True):
            if text := detector.take(self._token_bytes[token], last=token == self._end_of_text):
                yield StreamedText(number, text)

    def finish(self) -> Iterator[StreamedText]:
        """What was held back of texts that have not ended by themselves, when nothing more is to come."""
        for number, detector in zip(self.numbers, self.detectors, strict=True):
            if text := detector.finish():
                yield StreamedText(number, text)

    def sum_log_probabilities(self) -> list[float]:
        """Of each text's tokens under the model alone, in nats, where its sampler was asked for them."""
        return [
            sum(step[row] for step in self._log_probabilities[: detector.n_tokens])
            for row, detector in enumerate(self.detectors)
        ]


def list_likeliest(log_probabilities: torch.Tensor, count: int) -> list[tuple[tuple[int, float], ...]]:
    """For each row of [rows, vocabulary] the likeliest tokens, the best first."""
    if not count:
        return [()] * len(log_probabilities)
    values, tokens = log_probabilities.topk(min(count, log_probabilities.shape[1]))
    return [tuple(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), values.tolist(), strict=True)]


class GenerationBatch:
    """Generations of one decoder that are decoded together, a token for each of their rows at every step.

    A server adds a request when it comes and removes it when its client leaves; both take effect at the next step. One
    thread steps a batch. The rows of one generation end together: those that have stopped before the others are
    decoded until the last of them has.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._state: DecoderState | None = None
        self._decoded: list[Generation] = []
        """Whose rows the state has, in order."""
        self._waiting: list[Generation] = []

    @property
    def generations(self) -> list[Generation]:
        """Those that are in the batch now, whether or not they are done."""
        return [*self._decoded, *self._waiting]

    def add(self, generation: Generation) -> None:
        """Let its texts begin with the next step."""
        self._waiting.append(generation)

    @torch.inference_mode()
    def remove(self, generation: Generation) -> None:
        """Drop a generation, whether or not it is done. Raises ValueError where it is not in the batch."""
        if generation in self._decoded:
            self._keep([other for other in self._decoded if other is not generation])
        else:
            self._waiting.remove(generation)

    @torch.inference_mode()
    def step(self) -> None:
        """Generate one token of every text; generations that were done before leave the batch."""
        going, full = self._list_going()
        self._keep(going)
        if self._state is not None:
            self._advance_all(self._state)
        for generation in [*full, *self._waiting]:
            self._begin(generation)
        self._waiting = []

    def _list_going(self) -> tuple[list[Generation], list[Generation]]:
        """Those that are not done: with room in their context, and with a full one, which is read again in part."""
        going: list[Generation] = []
        full: list[Generation] = []
        row = 0
        for generation in self._decoded:
            if not generation.is_done and self._state is not None:
                (going if self._state.room_left(row) else full).append(generation)
            row += generation.count
        return going, full

    def _advance_all(self, state: DecoderState) -> None:
        if len(self._decoded) == 1:
            self._decoded[0].advance(state.step(self._decoded[0].next_ids))
            return
        logits = state.step(torch.cat([generation.next_ids for generation in self._decoded]))
        parts = torch.split(logits, [generation.count for generation in self._decoded])
        for generation, rows in zip(self._decoded, parts, strict=True):
            generation.advance(rows)

    def _begin(self, generation: Generation) -> None:
        started = generation.begin(self._decoder)
        generation.advance(started.logits)
        if self._state is None:
            self._state = started
        else:
            self._state.join(started)
        self._decoded.append(generation)

    def _keep(self, generations: list[Generation]) -> None:
        """Drop the rows of all others."""
        if len(generations) == len(self._decoded):
            return
        rows: list[int] = []
        start = 0
        for generation in self._decoded:
            if generation in generations:
                rows += range(start, start + generation.count)
            start += generation.count
        self._decoded = generations
        if self._state is not None and rows:
            self._state.keep(rows)
        else:
            self._state = None
