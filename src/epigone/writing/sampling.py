"""Logits in, one token for each text out, each text with its own random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from epigone.settings import WritingSettings
from epigone.writing.copying import CopyGuard

TRIES = 8
"""Draws from all tokens before the allowed ones are sorted out; each fails with a probability of 1 - top_p at most."""
DRAWN_AT_ONCE = 64
LONGEST_LOOP, SHORTEST_LOOP, ROUNDS = 64, 6, 3
"""In tokens; what is shorter has to go on for as long as the shortest."""


def make_processors(settings: WritingSettings, bad_words: list[list[int]]) -> LogitsProcessorList:
    """transformers' own processors for what is not a matter of drawing."""
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.no_repeat_ngram:
        processors.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram))
    if bad_words:
        processors.append(NoBadWordsLogitsProcessor(bad_words))
    if settings.loop_guard == "on":
        processors.append(LoopGuard())
    return processors


class LoopGuard(LogitsProcessor):
    """Strikes out the token that would begin a loop's next round. It has to see every token of its texts."""

    def __init__(self) -> None:
        distances = torch.arange(1, LONGEST_LOOP + 1)
        self._enough = (ROUNDS - 1) * distances.clamp(min=SHORTEST_LOOP)
        self._n_equal: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores with loops struck out. input_ids: int64 [count, time]; scores: fp32 [count, vocabulary]."""
        earlier = input_ids[:, :-1][:, -LONGEST_LOOP:].flip(1)  # at distances 1, 2, and so on
        equal = earlier == input_ids[:, -1:]
        if self._n_equal is None:
            self._n_equal = torch.zeros(len(scores), LONGEST_LOOP, dtype=torch.int64, device=scores.device)
            self._enough = self._enough.to(scores.device)
        counts = self._n_equal[:, : equal.shape[1]]
        counts += 1
        counts *= equal
        loops = counts >= self._enough[: equal.shape[1]]
        if not bool(loops.any()):
            return scores
        scores = scores.clone()
        for row, place in loops.nonzero().tolist():
            scores[row, input_ids[row, -1 - place]] = -torch.inf
        return scores


class Noise:
    """Uniform random numbers of one text, the same whatever else is written with it."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn: list[float] = []

    def draw(self) -> float:
        """The next number, at least 0 and below 1."""
        if not self._drawn:
            self._drawn = torch.rand(DRAWN_AT_ONCE, generator=self._generator, dtype=torch.float64).tolist()[::-1]
        return self._drawn.pop()


class Chooser:
    """Chooses tokens for a batch. What one text gets does not depend on the others."""

    def __init__(
        self,
        settings: WritingSettings,
        seeds: list[int],
        processors: LogitsProcessorList,
        guards: Sequence[CopyGuard] = (),
    ) -> None:
        """`guards`, one for each text, forbid tokens that would complete a copied passage."""
        self.settings, self.processors, self.guards = settings, processors, guards
        self.noise = [Noise(seed) for seed in seeds]
        self.log_probabilities: list[list[float]] | None = None
        """For each step those of the texts' tokens under the model itself, if a list is put here."""

    def choose(self, logits: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """The next token of each text: int64 [count].

        logits: fp32 [count, vocabulary]; written: int64 [count, time].
        """
        scores = logits
        for processor in self.processors:  # the list's own call looks at each one's signature, at every token
            scores = processor(written, scores)
        tokens = self._pick(scores, range(len(scores)))
        for row, guard in enumerate(self.guards):
            token = int(tokens[row])
            if guard.forbids(token):
                tokens[row] = token = self._avoid(scores[row : row + 1].clone(), token, row)
            guard.take(token)
        if self.log_probabilities is not None:
            self.log_probabilities.append(logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist())
        return tokens

    def _avoid(self, scores: torch.Tensor, token: int, row: int) -> int:
        """A token instead of a forbidden one; that one where the text's guard forbids all. scores: [1, vocabulary]."""
        while self.guards[row].forbids(token):
            scores[0, token] = -torch.inf
            if not bool(scores.isfinite().any()):
                break
            token = int(self._pick(scores, [row]))
        return token

    def _pick(self, scores: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """A token for each of the rows, whose scores are given, in order."""
        if self.settings.temperature == 0:
            return scores.argmax(-1)
        chances = (scores / self.settings.temperature).softmax(-1)
        return self._pick_sorted(chances, rows) if self.settings.top_k else self._pick_unsorted(chances, rows)

    def _pick_unsorted(self, chances: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Draw from all tokens, and again where the token is not among the allowed.

        What comes is distributed as if the others had been struck out before, and nothing needs sorting.
        """
        sums = chances.cumsum(-1)
        tokens = self._draw(sums, rows)
        allowed = self._allow(chances, tokens)
        for number in range(TRIES + 1):
            left = (~allowed).nonzero()[:, 0].tolist()
            if not left:
                break
            rest, their_rows = chances[left], [rows[place] for place in left]
            last = number == TRIES
            tokens[left] = self._pick_sorted(rest, their_rows) if last else self._draw(sums[left], their_rows)
            allowed[left] = self._allow(rest, tokens[left])
        return tokens

    def _draw(self, sums: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """A token each by its chance. sums: cumulated chances [rows, vocabulary]."""
        drawn = torch.tensor([[self.noise[row].draw()] for row in rows], dtype=torch.float32, device=sums.device)
        found = torch.searchsorted(sums, drawn * sums[:, -1:], right=True)
        return found.clamp_(max=sums.shape[1] - 1)[:, 0]

    def _allow(self, chances: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Whether all likelier tokens together have less than top_p, and the token itself enough."""
        own = chances.gather(1, tokens[:, None])
        allowed = own[:, 0] > 0
        if self.settings.top_p < 1:
            allowed &= (chances * (chances > own)).sum(-1) < self.settings.top_p
        if self.settings.min_p:
            allowed &= own[:, 0] >= self.settings.min_p * chances.amax(-1)
        return allowed

    def _pick_sorted(self, chances: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The same over the likeliest tokens in order, which top_k needs."""
        best, tokens = chances.topk(min(self.settings.top_k or chances.shape[1], chances.shape[1]))
        best = best / best.sum(-1, keepdim=True)
        struck = best.cumsum(-1) - best >= self.settings.top_p
        struck |= best < self.settings.min_p * best[:, :1]
        best = best.masked_fill(struck, 0.0)
        return tokens.gather(1, self._draw(best.cumsum(-1), rows)[:, None])[:, 0]
