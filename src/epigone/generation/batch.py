"""Continuous batching: texts of several calls decoded together, each call joining or leaving between two tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch

from epigone.generation.sampling import Guard, TokenSampler, pick_tokens
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
        guards = sampler.guards or [()] * len(numbers)
        self.detectors = [StopDetector(sampler.settings, partial(_may_end, several)) for several in guards]
        self.n_most = count_most_tokens(sampler.settings)
        """Tokens after which every text has ended."""
        self._token_bytes, self._end_of_text = token_bytes, end_of_text
        self._n_prompt = self._end = len(prompt_ids)
        self._ids = prompt_ids.new_empty(len(numbers), self._end + self.n_most)
        self._ids[:, : self._end] = prompt_ids
        self._n_likeliest = n_likeliest
        self._known: torch.Tensor | None = None
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
        self._known = None if self._n_likeliest is None else logits.log_softmax(-1)
        if self.sampler.settings.stop_at != "document":
            logits[:, self._end_of_text].fill_(-torch.inf)  # a text has the length that was asked for
        return self.sampler.process(logits, self._ids[:, : self._end])

    def take(self, drawn: torch.Tensor, scores: torch.Tensor) -> None:
        """The second half: what was drawn from these scores, int64 [count]."""
        self.next_ids = self.sampler.take(drawn, scores)
        self._ids[:, self._end].copy_(self.next_ids)
        self._end += 1
        self.tokens = self.next_ids.tolist()
        self.drawn = list(self._describe_tokens(self._known))
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


def _may_end(guards: Sequence[Guard]) -> bool:
    return all(guard.may_end() for guard in guards)


class GenerationBatch:
    """Generations of one decoder that are decoded together, a token for each of their rows at every step.

    A server adds a request when it comes and removes it when its client leaves; both take effect at the next step. One
    thread steps a batch. The rows of one generation end together: those that have stopped before the others are
    decoded until the last of them has.
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
            del going[generation]
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
        if len(states) == 1:
            ((generation, state),) = states.items()
            generation.advance(state.step(generation.next_ids))
            return
        ids = torch.cat([generation.next_ids for generation in states])
        logits = self._decoder.step_together(list(states.values()), ids)
        counts = [generation.count for generation in states]
        scores = [
            generation.process(rows) for generation, rows in zip(states, torch.split(logits, counts), strict=True)
        ]
        tokens = pick_tokens(torch.cat(scores), [row for generation in states for row in generation.sampler.rows])
        for generation, own, drawn in zip(states, scores, torch.split(tokens, counts), strict=True):
            generation.take(drawn, own)
