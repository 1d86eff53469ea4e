"""Completions: from a request to texts in the model threads, and from these to OpenAI's choices, whole or streamed."""

from __future__ import annotations

import asyncio
import codecs
import math
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Literal, NamedTuple

import torch

from epigone.errors import EpigoneError
from epigone.generation.batch import DrawnToken, Generation, list_likeliest
from epigone.generation.records import GeneratedText
from epigone.generation.sampling import CountPenalty, LogitBias, LogitsProcessor
from epigone.generation.scoring import list_windows
from epigone.model.decoder import Decoder
from epigone.run import open_run
from epigone.serving.answers import ApiError, clip, encode_event, encode_json, translate
from epigone.serving.engine import Engine, Task, TextStep
from epigone.serving.library import LoadedModel, make_seed
from epigone.serving.schemas import ANY_SEED, CompletionQuery
from epigone.tokens.tokenizer import encode

LONGEST_NGRAM_PROMPT = 4_096
"""Tokens of a prompt in which repeated sequences are looked for; that takes time at each step."""
FinishReason = Literal["stop", "length"]


class TokenInfo(NamedTuple):
    """A token of an answer with its log-probability, None for the first of a prompt, and the likeliest at its place."""

    token: int
    log_probability: float | None
    likeliest: tuple[tuple[int, float], ...] = ()
    n_taken: int = 0
    """Characters at its beginning, and that of the likeliest ones, that the prompt had already (token healing)."""


# -- from tokens to pieces of the answer


class Piece(NamedTuple):
    """More text of a choice, and the tokens that it consists of, with their places in the choice's text."""

    text: str
    tokens: tuple[tuple[TokenInfo, int], ...] = ()


class ChoiceText:
    """Follows one text: gives what is certain of it, divided between its tokens where these are wanted.

    Text that may turn out to begin a stop string is held back by the stop detector, so tokens are held back here until
    all their text is certain. What a client gets is therefore never taken back, and text and tokens always agree.
    """

    def __init__(self, token_bytes: Sequence[bytes], start: int, *, by_token: bool, n_taken: int = 0) -> None:
        """`start`: characters of the choice's text before it; `n_taken`: of its first token that the prompt had."""
        self._token_bytes, self._by_token, self._n_taken = token_bytes, by_token, n_taken
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._start = start
        self._n_decoded = self._n_certain = self._n_given = 0
        self._certain = ""
        self._held: list[tuple[TokenInfo, int]] = []
        """Tokens that have not been given, and the characters up to their ends."""
        self.n_tokens = 0
        self.sum = 0.0
        """Of the tokens' log-probabilities."""

    def take(self, drawn: Sequence[DrawnToken], text: str) -> Iterator[Piece]:
        """What is certain after more tokens and the text that became certain with them."""
        self.n_tokens += len(drawn)
        self.sum += sum(one.log_probability for one in drawn)
        if not self._by_token:
            if text:
                yield Piece(text)
            return
        self._certain += text
        self._n_certain += len(text)
        for one in drawn:
            n_taken, self._n_taken = self._n_taken, 0
            self._n_decoded += len(self._decoder.decode(self._token_bytes[one.token][n_taken:]))
            self._held.append((TokenInfo(one.token, one.log_probability, one.likeliest, n_taken), self._n_decoded))
        while self._held and self._held[0][1] <= self._n_certain:
            yield self._give(*self._held.pop(0))

    def finish(self, *, cut: bool) -> Iterator[Piece]:
        """The tokens that were held back, at the end of the text. `cut`: a stop string ends it, within some token."""
        for info, end in self._held:
            if not cut or self._n_given < self._n_certain:
                yield self._give(info, end)
        self._held = []

    def _give(self, info: TokenInfo, end: int) -> Piece:
        end = min(end, self._n_certain)
        n_new = max(0, end - self._n_given)
        text, self._certain = self._certain[:n_new], self._certain[n_new:]
        place = self._start + self._n_given
        self._n_given += n_new
        return Piece(text, ((info, place),))


def describe_tokens(model: LoadedModel, tokens: Sequence[tuple[TokenInfo, int]], count: int) -> dict[str, Any]:
    """OpenAI's `logprobs`: four parallel lists. The chosen token is always among the likeliest ones."""
    names = model.token_names

    def list_best(info: TokenInfo) -> dict[str, float] | None:
        if info.log_probability is None:
            return None
        possible = [(token, value) for token, value in info.likeliest[:count] if value > -math.inf]
        likeliest = [*possible, (info.token, info.log_probability)]
        return {names[token][info.n_taken :]: clip(value) for token, value in likeliest}

    return {
        "tokens": [names[info.token][info.n_taken :] for info, _ in tokens],
        "token_logprobs": [None if info.log_probability is None else clip(info.log_probability) for info, _ in tokens],
        "top_logprobs": [list_best(info) for info, _ in tokens],
        "text_offset": [place for _, place in tokens],
    }


# -- the work of a request


@dataclass(slots=True)
class Choice:
    """One text of an answer, as far as it has come."""

    index: int
    seed: int
    prompt: int
    """The number of its prompt."""
    text: ChoiceText
    pieces: list[Piece] = field(default_factory=list)
    reason: FinishReason | None = None

    @property
    def mean(self) -> float:
        """Log-probability of its tokens, on average."""
        return self.text.sum / max(1, self.text.n_tokens)


class Completion:
    """A request that is being answered: its prompts, its choices and what they have cost."""

    def __init__(
        self, query: CompletionQuery, model: LoadedModel, *, plain: bool = False, deadline: float = math.inf
    ) -> None:
        """Reads the prompts and prepares their texts, which may take seconds. Raises ApiError.

        `deadline`: of `time.monotonic`; texts then end where they are.
        """
        self.query, self.model, self.deadline = query, model, deadline
        self.id, self.created = f"cmpl-{token_hex(12)}", int(time.time())
        seed = make_seed() if query.seed is None or query.seed == ANY_SEED else query.seed % 2**32
        self.settings = query.make_settings(seed, plain=plain)
        try:
            self.prompts = [self._read_prompt(prompt) for prompt in query.prompts]
            self.decoder = model.choose_decoder(query.guidance)
            self.generations = list(self._begin()) if query.max_tokens else []
        except EpigoneError as error:
            raise translate(error) from None
        self.choices = list(self._list_choices())
        self._around: tuple[bytes, bytes] | None = None
        self._task: Task | None = None
        self.echoes: list[list[tuple[TokenInfo, int]]] = [[] for _ in self.prompts]
        """The tokens of each prompt, where they are returned with their log-probabilities."""

    def _read_prompt(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            return encode(prompt, self.model.generator.tokenizer)
        if wrong := next((token for token in prompt if token >= self.model.n_tokens), None):
            raise ApiError(
                400, f"prompt: there is no token {wrong}; this model has {self.model.n_tokens:,}.", param="prompt"
            )
        return prompt

    def _begin(self) -> Iterator[Generation]:
        """One for each candidate of each prompt."""
        settings, generator = self.settings, self.model.generator
        if settings.no_repeat_ngram_size and max(map(len, self.prompts)) > LONGEST_NGRAM_PROMPT:
            raise ApiError(
                400,
                f"no_repeat_ngram_size: needs a prompt of at most {LONGEST_NGRAM_PROMPT:,} tokens.",
                param="no_repeat_ngram_size",
            )
        for ids, prompt in zip(self.prompts, self.query.prompts, strict=True):
            for number in range(self.query.n_candidates):
                yield generator.begin_from_ids(
                    ids or generator.start,
                    settings,
                    range(number, number + 1),
                    self._make_processors(),
                    n_likeliest=self._count_likeliest(),
                    heal=isinstance(prompt, str) and prompt.endswith(" ") and not self._shows_prompt_tokens,
                )

    @property
    def _shows_prompt_tokens(self) -> bool:
        """Whether the answer has tokens of the prompt, of which then none can be taken back."""
        return self.query.return_token_ids or (self.query.echo and self.query.logprobs is not None)

    def _make_processors(self) -> list[LogitsProcessor]:
        query, found = self.query, list[LogitsProcessor]()
        if query.presence_penalty or query.frequency_penalty:
            found.append(CountPenalty(query.presence_penalty, query.frequency_penalty))
        if query.logit_bias:
            biases = {int(token): value for token, value in query.logit_bias.items()}
            if wrong := next((token for token in biases if token >= self.model.n_tokens), None):
                raise ApiError(400, f"logit_bias: there is no token {wrong}.", param="logit_bias")
            found.append(LogitBias(biases))
        return found

    def _count_likeliest(self) -> int | None:
        if self.query.logprobs is not None:
            return self.query.logprobs
        return 0 if self.query.n_candidates > self.query.n else None

    def _list_choices(self) -> Iterator[Choice]:
        by_token = self.query.logprobs is not None or self.query.return_token_ids
        for number, ids in enumerate(self.prompts):
            start = len(self.decode(ids)) if self.query.echo else 0
            for candidate in range(self.query.n_candidates):
                index = number * self.query.n_candidates + candidate
                healing = self.generations[index].healing if self.generations else None
                n_taken = len(healing.beginning) if healing else 0
                text = ChoiceText(self.model.generator.token_bytes, start, by_token=by_token, n_taken=n_taken)
                yield Choice(index, (self.settings.seed + candidate) % 2**32, number, text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        return b"".join(self.model.generator.token_bytes[token] for token in ids).decode("utf-8", "replace")

    # -- running it

    async def run(self, engine: Engine) -> AsyncGenerator[tuple[Choice, Piece | None]]:
        """What its choices get, in the order in which it comes; None at the end of a text.

        The prompt comes first where it is asked for. Where the caller goes away, nothing more is computed. Raises
        ApiError.
        """
        if self.query.echo:
            await self._score_prompts(engine)
            for choice in self.choices:
                tokens = self.echoes[choice.prompt]
                yield choice, Piece(self.decode(self.prompts[choice.prompt]), tuple(tokens))
        if not self.generations:
            for choice in self.choices:
                choice.reason = "length"
                yield choice, None
            return
        self._task = task = Task(self.decoder, self.generations, deadline=self.deadline)
        engine.submit(task)
        try:
            while isinstance(event := await next_event(task), TextStep):
                for each in self._take(event):
                    yield each
        finally:
            engine.cancel(task)

    @property
    def has_more(self) -> bool:
        """Whether more has come already."""
        return self._task is not None and self._task.has_more

    def _take(self, step: TextStep) -> Iterator[tuple[Choice, Piece | None]]:
        choice, generation = self.choices[step.generation], self.generations[step.generation]
        for piece in choice.text.take(step.drawn, step.text):
            yield choice, piece
        if step.done:
            detector = generation.detectors[0]
            choice.reason = "stop" if detector.stopped and not detector.reached_length else "length"
            for piece in choice.text.finish(cut=choice.reason == "stop"):
                yield choice, piece
            yield choice, None

    async def _score_prompts(self, engine: Engine) -> None:
        """The exact log-probabilities of the prompts' tokens, where they are asked for."""
        for number, ids in enumerate(self.prompts):
            infos = [TokenInfo(token, None) for token in ids]
            if self.query.logprobs is not None and len(ids) > 1:
                infos[1:] = await score(engine, self.model, ids, self.query.logprobs)
            elif self.query.logprobs is None and not self.query.return_token_ids:
                infos = []
            self.echoes[number] = list(place_tokens(infos, self.model.generator.token_bytes))

    async def collect(self, engine: Engine) -> None:
        """Let all choices be done, with what they consist of."""
        async for choice, piece in self.run(engine):
            if piece is not None:
                choice.pieces.append(piece)

    def choose_best(self) -> list[Choice]:
        """For each prompt, the best of its candidates, the best first. May take a while. Raises ApiError."""
        n, n_each = self.query.n, self.query.n_candidates
        if n == n_each:
            return self.choices
        chosen: list[Choice] = []
        for first in range(0, len(self.choices), n_each):
            candidates = self.choices[first : first + n_each]
            scores = self._rank(candidates) if self.query.best_by == "style" else [one.mean for one in candidates]
            order = sorted(range(n_each), key=lambda place, scores=scores: -scores[place])  # type: ignore[misc]
            chosen += [candidates[place] for place in order[:n]]
        for index, choice in enumerate(chosen):
            choice.index = index
        return chosen

    def _rank(self, candidates: Sequence[Choice]) -> list[float]:
        """How near to the author each of them is, as --best-of ranks them."""
        if self.query.mix:
            raise ApiError(400, "best_by: style is that of one author, and mix is of several.", param="best_by")
        if self.model.served.kind != "run":
            raise ApiError(400, "best_by: style needs a run, whose author it compares with.", param="best_by")
        records = [
            GeneratedText(
                prompt="",
                text="".join(piece.text for piece in choice.pieces[self.query.echo :]),
                seed=choice.seed,
                n_tokens=choice.text.n_tokens,
                log_probability=choice.text.sum,
                longest_shared=None,
            )
            for choice in candidates
        ]
        try:
            ranking = open_run(self.model.served.folder).make_ranking([record.text for record in records])
            scores = {each.seed: each.score for each in ranking.choose(records).candidates}
        except EpigoneError as error:
            raise translate(error) from None
        return [scores[choice.seed] for choice in candidates]

    # -- the answer

    def describe(self, choice: Choice, pieces: Sequence[Piece], *, first: bool = True) -> dict[str, Any]:
        """The choice with these pieces, as in OpenAI's answers. `first`: nothing of it was sent before."""
        tokens = [token for piece in pieces for token in piece.tokens]
        found: dict[str, Any] = {
            "index": choice.index,
            "text": "".join(piece.text for piece in pieces),
            "logprobs": None,
            "finish_reason": choice.reason,
            "seed": choice.seed,
        }
        if self.query.logprobs is not None:
            found["logprobs"] = describe_tokens(self.model, tokens, self.query.logprobs)
        if self.query.return_token_ids:
            found["token_ids"] = [info.token for info, _ in tokens]
            found["prompt_token_ids"] = self.prompts[choice.prompt] if first else None
        return found

    def encode_chunk(self, choice: dict[str, Any]) -> bytes:
        """The event of a stream with one choice; everything else in it is the same each time."""
        if not self._around:
            usage = {"usage": None} if self.query.stream_options.include_usage else {}
            before, _, after = encode_event(self.make_answer([]) | usage).partition(b'"choices":[')
            self._around = before + b'"choices":[', after
        return self._around[0] + encode_json(choice) + self._around[1]

    def make_answer(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """The object with these choices: an answer, or a chunk of one."""
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model.served.name,
            "system_fingerprint": self.model.fingerprint,
            "choices": choices,
        }

    def count_usage(self) -> dict[str, int]:
        """Tokens read and written so far, those of candidates that were not kept too."""
        n_prompt = sum(map(len, self.prompts))
        n_written = sum(choice.text.n_tokens for choice in self.choices)
        return {"prompt_tokens": n_prompt, "completion_tokens": n_written, "total_tokens": n_prompt + n_written}


async def next_event(task: Task) -> object:
    """What the model threads say next. Raises ApiError where it failed."""
    event = await task.take()
    if isinstance(event, EpigoneError):
        raise translate(event)
    if isinstance(event, TimeoutError):
        raise ApiError(503, "There was no time left for this request.", kind="server_error", retry_after=5)
    if isinstance(event, BaseException):
        raise ApiError(500, "The model could not compute this.", kind="server_error")
    return event


# -- log-probabilities of given text


async def score(engine: Engine, model: LoadedModel, ids: Sequence[int], count: int) -> list[TokenInfo]:
    """The log-probability of each token but the first under the tokens before it, in fp32, and the likeliest ones."""
    try:
        scorer = await asyncio.to_thread(lambda: model.scorer)
    except EpigoneError as error:
        raise translate(error) from None
    task = Task(slices=score_in_slices(scorer, ids, count))
    engine.submit(task)
    found: list[TokenInfo] = []
    try:
        while isinstance(event := await next_event(task), list):
            found += event
    finally:
        engine.cancel(task)
    return found


def score_in_slices(decoder: Decoder, ids: Sequence[int], count: int) -> Iterator[list[TokenInfo]]:
    """The same in windows as `score_text` reads them, a list for each."""
    stream = torch.tensor(ids, device=decoder.device)
    length = min(len(ids) - 1, decoder.n_positions)
    for window in list_windows(len(ids) - 1, length):
        row = stream[window.start : window.start + length + 1]
        logits = decoder.read_all(row[None, :-1])[-window.n_counted :].log_softmax(-1)
        targets = row[-window.n_counted :]
        own = logits.gather(1, targets[:, None])[:, 0].tolist()
        best = list_likeliest(logits, count)
        yield [TokenInfo(*each) for each in zip(targets.tolist(), own, best, strict=True)]


def place_tokens(infos: Sequence[TokenInfo], token_bytes: Sequence[bytes]) -> Iterator[tuple[TokenInfo, int]]:
    """Each token with the characters before it."""
    decoder, place = codecs.getincrementaldecoder("utf-8")("replace"), 0
    for info in infos:
        yield info, place
        place += len(decoder.decode(token_bytes[info.token]))


def sum_nats(infos: Sequence[TokenInfo]) -> float:
    """The negative log-likelihood of tokens."""
    return -math.fsum(info.log_probability for info in infos if info.log_probability is not None)
