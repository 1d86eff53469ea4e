"""Token samplers and logits processors: temperature, top-k, top-p, min-p, penalties, and guards.

Each text of a batch has its own random numbers, so that what it gets does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import CDLL
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from epigone.generation.guard import Guard
from epigone.generation.known_words import WordGuard
from epigone.model.kernel import draw_tokens, load_kernel
from epigone.model.weights import TEMPERATURE
from epigone.settings import WriteSettings

TRIES = 8
"""Draws from all tokens before the allowed ones are sorted; each fails with a probability of 1 - top_p at most."""
DRAWS = 256
"""Forbidden tokens that are drawn for a text before all of them are found at once, which takes as long. Not sooner: the
allowed tokens that are left then are the unlikely ones too, and after 4 draws a text was 15 % worse (findings)."""
Row = NDArray[np.float32]
"""What belongs to each token, [vocabulary]."""
LogitsProcessor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Ids so far, int64 [count, time] on the processor, and logits, fp32 [count, vocabulary], to logits.

That is transformers' own interface, but for where the ids are.
"""
DRAWN_AT_ONCE = 64
LARGEST_DRAWN = 1 - 2**-22
LONGEST_LOOP, SHORTEST_LOOP, ROUNDS = 64, 6, 3
"""In words (`LoopGuard`); what is shorter has to go on for as long as the shortest."""


def make_processors(
    settings: WriteSettings, bad_words: list[list[int]], token_bytes: Sequence[bytes]
) -> list[LogitsProcessor]:
    """transformers' own processors for penalties and forbidden words, and the loop guard.

    `token_bytes` as of `list_token_bytes`.
    """
    processors: list[LogitsProcessor] = []
    if settings.repetition_penalty != 1 or settings.no_repeat_ngram_size or bad_words:
        processors += map(StatelessProcessor, _borrow_processors(settings, bad_words))
    if settings.loop_guard == "on":
        processors.append(LoopGuard(token_bytes))
    return processors


def _borrow_processors(settings: WriteSettings, bad_words: list[list[int]]) -> Iterator[LogitsProcessor]:
    from transformers import (  # they take seconds to load
        NoBadWordsLogitsProcessor,
        NoRepeatNGramLogitsProcessor,
        RepetitionPenaltyLogitsProcessor,
    )

    if settings.repetition_penalty != 1:
        yield RepetitionPenaltyLogitsProcessor(settings.repetition_penalty)
    if settings.no_repeat_ngram_size:
        yield NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size)
    if bad_words:
        yield NoBadWordsLogitsProcessor(bad_words)


@runtime_checkable
class RowProcessor(Protocol):
    """A logits processor that can go on with some of its texts only."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows."""


class StatelessProcessor:
    """A logits processor that remembers nothing of a row."""

    def __init__(self, processor: LogitsProcessor) -> None:
        self._processor = processor

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """What the processor makes of the scores."""
        return self._processor(input_ids.to(scores.device), scores)

    def keep(self, rows: Sequence[int]) -> None:
        """Nothing is remembered of the others."""


class LoopGuard:
    """A logits processor that forbids the word that would begin a loop's next round, wherever its lines break.

    It has state: one is made for each call, and has to see every token of its texts.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        """`token_bytes` as of `list_token_bytes`."""
        self._token_bytes = token_bytes
        self._recent: list[list[bytes | None]] = []
        """Each text's last words: its tokens, but for the first one of white space that follows another."""
        self._runs: list[dict[int, int]] = []
        """For each text, by distance, how many words in a row have been equal to the one so far before them."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores with loops forbidden. input_ids: int64 [count, time]; scores: fp32 [count, vocabulary]."""
        if not self._recent:
            self._begin(input_ids[:, -LONGEST_LOOP - 1 : -1].tolist())
        struck = []
        for row, (*before, token) in enumerate(input_ids.numpy()[:, -2:].tolist()):
            recent = self._recent[row]
            if self._is_word(before, token):
                self._take(row, self._find_word(token))
            struck += [(row, recent[-distance]) for distance, run in self._runs[row].items() if _is_loop(distance, run)]
        if not struck:
            return scores
        scores = scores.clone()
        for row, word in struck:
            same = [token for token in range(len(self._token_bytes)) if self._find_word(token) == word]
            scores[row, same] = -torch.inf
        return scores

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these texts only."""
        self._recent = [self._recent[row] for row in rows]
        self._runs = [self._runs[row] for row in rows]

    def _begin(self, prompts: list[list[int]]) -> None:
        self._runs = [{} for _ in prompts]
        self._recent = [
            [self._find_word(token) for place, token in enumerate(ids) if self._is_word(ids[:place], token)]
            for ids in prompts
        ]

    def _is_word(self, before: list[int], token: int) -> bool:
        return bool(self._find_word(token)) or not before or not self._find_word(before[-1])

    def _find_word(self, token: int) -> bytes | None:
        """A token's word, empty for white space; None for a special token."""
        piece = self._token_bytes[token]
        return piece.strip() if piece else None

    def _take(self, row: int, word: bytes | None) -> None:
        recent, runs = self._recent[row], self._runs[row]
        self._runs[row] = {distance: runs.get(distance, 0) + 1 for distance in _find_distances(recent, word)}
        recent.append(word)
        del recent[:-LONGEST_LOOP]


def _find_distances(recent: list[bytes | None], word: bytes | None) -> list[int]:
    """How far before the word that follows the same one stands, each time."""
    found, place = list[int](), -1
    for _ in range(recent.count(word)):
        place = recent.index(word, place + 1)
        found.append(len(recent) - place)
    return found


def _is_loop(distance: int, run: int) -> bool:
    return run >= (ROUNDS - 1) * max(distance, SHORTEST_LOOP)


class RowRandom:
    """Uniform random numbers of one text, the same whatever else is written with it."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._numbers = np.empty(0)
        self._start = self._place = 0
        """Where they lie in memory, and how many of them were taken."""

    def draw(self) -> float:
        """The next number, at least 0 and so far below 1 that in fp32 no product with it is rounded up to the whole."""
        self.find(1)
        self._place += 1
        return float(self._numbers[self._place - 1])

    def find(self, count: int) -> int:
        """Where in memory the next `count` numbers are, fp64; they are valid until more are asked for."""
        if self._place + count > len(self._numbers):
            more = torch.rand(DRAWN_AT_ONCE, generator=self._generator, dtype=torch.float64)
            more.clamp_(max=LARGEST_DRAWN)
            self._numbers = np.concatenate((self._numbers[self._place :], more.numpy()))
            self._start, self._place = self._numbers.ctypes.data, 0
        return self._start + 8 * self._place

    def skip(self, count: int) -> None:
        """So many of those that were found are taken."""
        self._place += count


class CountPenalty:
    """A logits processor: tokens get less likely the more often the text, without its prompt, has them.

    Both penalties are subtracted from logits, as OpenAI defines them. Made for one call; it sees every token.
    """

    def __init__(self, presence: float, frequency: float) -> None:
        """`presence` is subtracted once for each token that the text has, `frequency` for every time it has it."""
        self._presence, self._frequency = presence, frequency
        self._counts: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores with the penalties. input_ids: int64 [count, time]; scores: fp32 [count, vocabulary]."""
        if self._counts is None:
            self._counts = torch.zeros_like(scores)
        else:
            self._counts[torch.arange(len(scores)), input_ids[:, -1]] += 1
        return scores - self._frequency * self._counts - self._presence * (self._counts > 0)


class LogitBias:
    """A logits processor that adds to the logits of single tokens."""

    def __init__(self, biases: Mapping[int, float]) -> None:
        """`biases`: what is added, by token."""
        self._tokens, self._biases = list(biases), torch.tensor(list(biases.values()))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores with the biases added. scores: fp32 [count, vocabulary]."""
        scores = scores.clone()
        scores[:, self._tokens] += self._biases.to(scores)
        return scores


@dataclass(frozen=True, slots=True)
class RowSampler:
    """How the tokens of one text are drawn, and its random numbers."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    random: RowRandom

    @property
    def kind(self) -> Literal["greedy", "sorted", "unsorted"]:
        """How: the likeliest token, from the likeliest ones in order, or from all of them."""
        return "greedy" if self.temperature == 0 else "sorted" if self.top_k else "unsorted"


class TokenSampler:
    """Draws the next token of each text of a batch. What one text gets does not depend on the others."""

    def __init__(
        self,
        settings: WriteSettings,
        seeds: list[int],
        processors: Sequence[LogitsProcessor],
        guards: Sequence[Sequence[Guard]] = (),
    ) -> None:
        """`guards`: for each text those that may forbid a token that was drawn, the least important first."""
        self.settings, self.processors, self.guards = settings, processors, guards
        temperature = TEMPERATURE if settings.temperature == "auto" else settings.temperature
        how = temperature, settings.top_k, settings.top_p, settings.min_p
        self.rows = [RowSampler(*how, RowRandom(seed)) for seed in seeds]

    def keep(self, rows: Sequence[int]) -> bool:
        """Go on with these rows only; False, and nothing changes, where a processor cannot."""
        if not all(isinstance(processor, RowProcessor) for processor in self.processors):
            return False
        for processor in self.processors:
            if isinstance(processor, RowProcessor):
                processor.keep(rows)
        self.rows = [self.rows[row] for row in rows]
        self.guards = [self.guards[row] for row in rows] if self.guards else ()
        return True

    def sample(self, logits: torch.Tensor, written: torch.Tensor) -> list[int]:
        """The next token of each text.

        logits: fp32 [count, vocabulary]; written: int64 [count, time].
        """
        scores = self.process(logits, written)
        return self.take(pick_tokens(scores, self.rows), scores)

    def process(self, logits: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """The logits after all processors."""
        for processor in self.processors:
            logits = processor(written, logits)
        return logits

    def take(self, drawn: Sequence[int], scores: torch.Tensor) -> list[int]:
        """The tokens that were drawn for each text, with others in place of forbidden ones."""
        tokens = list(drawn)
        for row, (guards, token) in enumerate(zip(self.guards, drawn, strict=False)):
            if _is_forbidden(token, guards):
                tokens[row] = token = self._avoid(scores[row : row + 1], token, row)
            for guard in guards:
                guard.advance(token)
        return tokens

    def _avoid(self, scores: torch.Tensor, token: int, row: int) -> int:
        """A token instead of a forbidden one. scores: [1, vocabulary].

        Where all are forbidden, the guards that matter least no longer count; where the last one alone forbids all,
        the token stays.
        """
        guards = self.guards[row]
        for first in range(len(guards)):
            found = _draw_allowed(_Redraw(scores, self.rows[row]), token, guards[first:])
            if found is not None:
                return found
        return token


def _is_forbidden(token: int, guards: Sequence[Guard]) -> bool:
    return any(guard.forbids(token) for guard in guards)


def _draw_allowed(redraw: _Redraw, token: int, guards: Sequence[Guard]) -> int | None:
    """`token` or, while these guards forbid it, another one; None where all are forbidden."""
    for number in range(DRAWS + 1):
        if not _is_forbidden(token, guards):
            return token
        for guard in guards:
            guard.refuse(token)
        redraw.remove(token)
        if number == DRAWS:
            redraw.keep(guards)
        if not redraw.n_left:
            return None
        token = redraw.draw()
    return token


class _Redraw:
    """Draws for one text from the tokens that are left, as `pick_tokens` does."""

    def __init__(self, scores: torch.Tensor, row: RowSampler) -> None:
        """scores: fp32 [1, vocabulary]."""
        self._row, copied = row, scores.detach().cpu().numpy().copy()
        self._scores, self._values = torch.from_numpy(copied), copied[0]
        self.n_left = int(np.count_nonzero(self._values > -np.inf))
        """Tokens with a score above -inf."""

    def remove(self, token: int) -> None:
        """Let a token not be drawn again."""
        self.n_left -= bool(self._values[token] > -np.inf)
        self._values[token] = -np.inf

    def keep(self, guards: Sequence[Guard]) -> None:
        """Leave only the tokens that these guards allow."""
        allowed = np.flatnonzero(self._values > -np.inf)
        for guard in sorted(guards, key=lambda guard: not isinstance(guard, WordGuard)):  # it leaves the fewest
            allowed = guard.select(allowed)
        values = self._values[allowed]
        self._values.fill(-np.inf)
        self._values[allowed] = values
        self.n_left = len(allowed)

    def draw(self) -> int:
        """A token that is left."""
        [token] = pick_tokens(self._scores, [self._row])
        if not self._values[token] > -np.inf:  # of a damaged model: infinite scores or NaN have no share
            token = int(np.nan_to_num(self._values, nan=-np.inf, posinf=np.inf, neginf=-np.inf).argmax())
        return token


def pick_tokens(scores: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """A token for each row from scores, fp32 [rows, vocabulary]. They may be of several samplers."""
    kinds = [row.kind for row in rows]
    if len(set(kinds)) == 1:
        return PICK[kinds[0]](scores, rows)
    tokens = [0] * len(rows)
    for kind in set(kinds):
        places = [place for place, other in enumerate(kinds) if other == kind]
        for place, token in zip(places, PICK[kind](scores[places], [rows[place] for place in places]), strict=True):
            tokens[place] = token
    return tokens


def _pick_likeliest(scores: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    tokens: list[int] = scores.argmax(-1).tolist()
    return tokens


def _pick_unsorted(scores: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """Rejection sampling: draw from all tokens, and again where the token is not among the allowed ones.

    The distribution is that of top-p and min-p sampling, and nothing needs sorting.
    """
    if scores.device.type != "cpu":
        return _pick_together(_find_probabilities(scores, rows), rows)
    library = load_kernel()
    if library is None:
        return _pick_one_by_one(_find_probabilities(scores, rows), rows)
    return _pick_by_kernel(library, scores, rows)


def _pick_by_kernel(library: CDLL, scores: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """In one call for all rows. The tokens are those of the other ways, but for the rounding of sums."""
    how = [(row.temperature, row.top_p, row.min_p) for row in rows]
    tokens, used = draw_tokens(library, scores, how, [row.random.find(TRIES + 1) for row in rows], TRIES + 1)
    for place, (row, n_used) in enumerate(zip(rows, used, strict=True)):
        row.random.skip(n_used)
        if tokens[place] < 0:
            probabilities = _find_probabilities(scores[place : place + 1], [row])
            pick = _pick_among_best if n_used else _pick_one_by_one
            tokens[place] = int(pick(probabilities, [row])[0])
    return tokens


def _pick_together(probabilities: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """On a GPU, where each call takes long, however many rows it is for."""
    sums = probabilities.cumsum(-1)
    tokens = _draw(sums, rows)
    left = _find_refused(probabilities, tokens, rows)
    for number in range(TRIES + 1):
        if not left:
            break
        rest, their_rows = probabilities[left], [rows[place] for place in left]
        last = number == TRIES
        tokens[left] = _pick_among_best(rest, their_rows) if last else _draw(sums[left], their_rows)
        left = [left[place] for place in _find_refused(rest, tokens[left], their_rows)]
    found: list[int] = tokens.tolist()
    return found


def _pick_one_by_one(probabilities: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """On the processor, where calls of torch take longer than what they do. The tokens are the same."""
    values, sums = probabilities.numpy(), probabilities.cumsum(-1).numpy()
    tokens = []
    for place, row in enumerate(rows):
        token = _pick_one(values[place], sums[place], row)
        tokens.append(int(_pick_among_best(probabilities[place : place + 1], [row])) if token is None else token)
    return tokens


def _pick_one(probabilities: Row, sums: Row, row: RowSampler) -> int | None:
    """A token by its probability; None where none was allowed in so many tries."""
    for _ in range(TRIES + 1):
        token = min(int(sums.searchsorted(np.float32(row.random.draw()) * sums[-1], "right")), len(sums) - 1)
        if not _is_refused(probabilities, token, row):
            return token
    return None


def _is_refused(probabilities: Row, token: int, row: RowSampler) -> bool:
    """What `_find_refused` says of a single row."""
    own = probabilities[token]
    if not row.min_p and (row.top_p == 1 or own.item() > 1 - row.top_p):
        return False
    if probabilities[probabilities > own].sum() >= np.float32(row.top_p):
        return True
    return bool(own < np.float32(row.min_p) * probabilities.max())


def _pick_sorted(scores: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """The same from the tokens sorted by probability, which top_k needs."""
    probabilities = _find_probabilities(scores, rows)
    tokens = [0] * len(rows)
    for top_k in {row.top_k for row in rows}:  # so that no row depends on the others
        places = [place for place, row in enumerate(rows) if row.top_k == top_k]
        found = _pick_among_best(probabilities[places], [rows[place] for place in places]).tolist()
        for place, token in zip(places, found, strict=True):
            tokens[place] = token
    return tokens


def _find_probabilities(scores: torch.Tensor, rows: Sequence[RowSampler]) -> torch.Tensor:
    return (scores / _list_values([row.temperature for row in rows], scores)).softmax(-1)


def _list_values(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """A value for each row: fp32 [rows, 1], or [1, 1] where all are equal."""
    return torch.tensor([[value] for value in (values if len(set(values)) > 1 else values[:1])], device=like.device)


def _draw(sums: torch.Tensor, rows: Sequence[RowSampler]) -> torch.Tensor:
    """A token each by its probability, never one of probability 0. sums: of probabilities, [rows, vocabulary]."""
    drawn = torch.tensor([[row.random.draw()] for row in rows], dtype=torch.float32, device=sums.device)
    found = torch.searchsorted(sums, drawn * sums[:, -1:], right=True)[:, 0]
    return found.clamp_(max=sums.shape[1] - 1)  # where all probabilities are 0


def _find_refused(probabilities: torch.Tensor, tokens: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """The rows whose token is not allowed: likelier ones together have top_p, or it is below min_p."""
    if all(row.top_p == 1 and not row.min_p for row in rows):
        return []
    own = probabilities.gather(1, tokens[:, None])
    # where a token has more than 1 - top_p, the likelier ones have less than top_p
    doubted = [
        place
        for place, (row, [value]) in enumerate(zip(rows, own.tolist(), strict=True))
        if row.min_p or not value > 1 - row.top_p
    ]
    if not doubted:
        return []
    theirs, own, rows = probabilities[doubted], own[doubted], [rows[place] for place in doubted]
    refused = (theirs * (theirs > own)).sum(-1, keepdim=True) >= _list_values([row.top_p for row in rows], own)
    if any(row.min_p for row in rows):
        refused |= own < _list_values([row.min_p for row in rows], own) * theirs.amax(-1, keepdim=True)
    return [place for place, no in zip(doubted, refused[:, 0].tolist(), strict=True) if no]


def _pick_among_best(probabilities: torch.Tensor, rows: Sequence[RowSampler]) -> torch.Tensor:
    """A token from those that are sorted by probability; all rows have one top_k, or none."""
    n_tokens = probabilities.shape[1]
    best, tokens = probabilities.topk(min(rows[0].top_k or n_tokens, n_tokens))
    best = best / best.sum(-1, keepdim=True)
    struck = best.cumsum(-1) - best >= _list_values([row.top_p for row in rows], best)
    struck |= best < _list_values([row.min_p for row in rows], best) * best[:, :1]
    best = best.masked_fill(struck, 0.0)
    return tokens.gather(1, _draw(best.cumsum(-1), rows)[:, None])[:, 0]


PICK = {"greedy": _pick_likeliest, "sorted": _pick_sorted, "unsorted": _pick_unsorted}
"""By the kind of a row's sampler."""
