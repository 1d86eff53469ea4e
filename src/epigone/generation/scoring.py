"""Log-likelihood and perplexity of a text under a model: in all, by line and by token."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict

from epigone.errors import TextTooShort, TextUnreadable
from epigone.tokens.tokenizer import BPETokenizer, encode, list_token_bytes
from epigone.training.evaluate import Evaluation

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


TOKENS_AT_ONCE = 1024
"""Computed in one batch: the logits of so many are 0.2 GB with GPT-2's vocabulary."""


class ScoredToken(NamedTuple):
    """A token of the text. A character that takes several tokens stands with the last of them."""

    text: str
    log_probability: float
    """Natural logarithm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredLine:
    """The tokens that begin in one line; the token that ends the line is one of them."""

    number: int
    """Counted from 1."""
    text: str
    nats: float

    @property
    def bits_per_byte(self) -> float:
        """As in `Evaluation`."""
        return self.nats / math.log(2) / max(1, len(self.text.encode()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Score(Evaluation):
    """How well a model predicts a text, and each token of it."""

    n_characters: int
    tokens: tuple[ScoredToken, ...]

    @property
    def nats(self) -> float:
        """Negative log-likelihood of the whole text: minus the sum of the tokens' log-probabilities."""
        return -math.fsum(token.log_probability for token in self.tokens)

    @property
    def lines(self) -> tuple[ScoredLine, ...]:
        """Every line in which a token begins, in order."""
        lines: dict[int, list[ScoredToken]] = {}
        number = 1
        for token in self.tokens:
            lines.setdefault(number, []).append(token)
            number += token.text.count("\n")
        return tuple(
            ScoredLine(
                number=number,
                text="".join(token.text for token in tokens),
                nats=-math.fsum(token.log_probability for token in tokens),
            )
            for number, tokens in lines.items()
        )


class TokenRecord(BaseModel):
    """A `ScoredToken` for JSON."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    text: str
    log_probability: float


class LineRecord(BaseModel):
    """A `ScoredLine` for JSON."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    number: int
    text: str
    nats: float
    bits_per_byte: float


class ScoreRecord(BaseModel):
    """A `Score` for JSON: `ScoreRecord.model_validate(score)`."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    nats: float
    loss: float
    perplexity: float
    bits_per_byte: float
    accuracy: float
    n_tokens: int
    n_bytes: int
    n_characters: int
    lines: tuple[LineRecord, ...]
    tokens: tuple[TokenRecord, ...]


class Window(NamedTuple):
    """Where the model begins to read, and how many of its predictions, the last ones, count."""

    start: int
    n_counted: int


def score_text(model: GPT2LMHeadModel, tokenizer: BPETokenizer, text: str) -> Score:
    """The log-probability of each token of a text, by transformers' own forward in the model's number format.

    An end-of-text token is put before the text, as before each document in training, so every token of the text is
    predicted exactly once. A text that is longer than the context is read in windows that overlap: after the first
    window each token is predicted from at least half a context. Raises TextTooShort, TextUnreadable.
    """
    ids = encode(_check_text(text), tokenizer)
    stream = torch.tensor([tokenizer.end_of_text_id, *ids])
    found = torch.cat(list(_predict(model, stream)))
    logs = found[:, 0].tolist()
    return Score(
        loss=-math.fsum(logs) / len(ids),
        accuracy=found[:, 1].mean().item(),
        n_tokens=len(ids),
        n_bytes=len(text.encode()),
        n_characters=len(text),
        tokens=tuple(map(ScoredToken, decode_each_token(ids, tokenizer), logs)),
    )


def _check_text(text: str) -> str:
    if not text:
        raise TextTooShort("The text is empty.", hint="Give at least one character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextUnreadable(
            f"The text holds half a character (a surrogate) at {error.start:,}.", hint="Decode it from its bytes again."
        ) from None
    return text


def decode_each_token(ids: Sequence[int], tokenizer: BPETokenizer) -> Iterator[str]:
    """The text of each token; joined they are the text."""
    token_bytes, decoder = list_token_bytes(tokenizer), codecs.getincrementaldecoder("utf-8")("replace")
    for number in ids:
        special = "" if token_bytes[number] else str(tokenizer.backend.id_to_token(number) or "")
        yield decoder.decode(token_bytes[number] or special.encode())


def list_windows(n_tokens: int, n_positions: int) -> list[Window]:
    """Windows of `n_positions` tokens (or of one shorter text) that predict each of `n_tokens` once, in order."""
    end = min(n_tokens, n_positions)
    windows = [Window(start=0, n_counted=end)]
    while end < n_tokens:
        n_counted = min(n_positions - n_positions // 2, n_tokens - end)
        end += n_counted
        windows.append(Window(start=end - n_positions, n_counted=n_counted))
    return windows


@torch.inference_mode()
def _predict(model: GPT2LMHeadModel, stream: torch.Tensor) -> Iterator[torch.Tensor]:
    """For each token of the stream but the first its log-probability and whether it was the likeliest: fp64 [-, 2]."""
    length = min(len(stream) - 1, model.config.n_positions)
    windows = list_windows(len(stream) - 1, length)
    n_rows = max(1, TOKENS_AT_ONCE // length)
    was_training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    try:
        for first in range(0, len(windows), n_rows):
            yield _predict_batch(model, stream, windows[first : first + n_rows], length)
    finally:
        model.train(was_training)


def _predict_batch(
    model: GPT2LMHeadModel, stream: torch.Tensor, windows: Sequence[Window], length: int
) -> torch.Tensor:
    rows = torch.stack([stream[window.start : window.start + length + 1] for window in windows]).to(model.device)
    n_most = max(window.n_counted for window in windows)
    logits = model(input_ids=rows[:, :-1], use_cache=False, logits_to_keep=n_most).logits.float()
    targets = rows[:, -n_most:]
    right = logits.argmax(-1) == targets
    logs = logits.log_softmax(-1).gather(-1, targets[:, :, None])[:, :, 0]
    found = torch.stack([logs, right], dim=-1).double().cpu()
    return torch.cat([row[n_most - window.n_counted :] for row, window in zip(found, windows, strict=True)])
