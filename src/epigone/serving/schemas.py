"""What a request may contain: typed fields with their limits, and the source of the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from epigone.mixing import MOST_TOGETHER
from epigone.serving.answers import ApiError
from epigone.settings import Off, StopAt, WriteSettings, make_settings

Q = TypeVar("Q", bound="Query")
MOST_CHOICES, MOST_PROMPTS, MOST_TEXTS = 16, 32, 64
"""Of one prompt, of one request, and texts in all that a request may ask for."""
MOST_TOKENS = 8192
MOST_IDS = 100_000
MOST_STOPS, MOST_STOP_CHARACTERS = 64, 256
MOST_LIKELIEST = 20
MOST_BIASES = 1024
MOST_MIXED = 4
LEAST_TOP_P = 1e-9
ANY_SEED = -1
"""As in llama.cpp and vLLM: the same as no seed. Programs for many servers send it unless told otherwise."""
NAME_CHARACTERS = 256
TEXT_CHARACTERS = 200_000


def _as_integer(value: object) -> object:
    """JSON has no integers of its own: 3.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def _as_object(value: object) -> object:
    """Programs in languages where an empty object is an empty list write it so."""
    return {} if value == [] else value


Integer = BeforeValidator(_as_integer)
TokenId = Annotated[int, Field(ge=0, lt=2**31), Integer]
Ids = Annotated[list[TokenId], Field(max_length=MOST_IDS)]
Words = Annotated[str, Field(max_length=TEXT_CHARACTERS)]
Stop = Annotated[str, Field(max_length=MOST_STOP_CHARACTERS)]
ModelName = Annotated[str, Field(max_length=NAME_CHARACTERS)]


class Query(BaseModel):
    """The body of a request. A field that is null is as if it were left out; unknown ones are ignored, and named."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", use_attribute_docstrings=True)
    synonyms: ClassVar[Mapping[str, str]] = {}
    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Fields of other servers that are known to have no effect and are not worth naming."""

    model: ModelName = ""
    """Name of a model, as listed by /v1/models. Without it: the first one."""


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", use_attribute_docstrings=True)

    include_usage: bool = False
    """Send one chunk more before the end, with the usage and no choices."""


class CompletionQuery(Query):
    """A request for completions: OpenAI's fields, those of other servers that mean the same, and our own."""

    synonyms: ClassVar[Mapping[str, str]] = {
        **WriteSettings.synonyms,
        "max_new_tokens": "max_tokens",
        "n_predict": "max_tokens",
        "max_completion_tokens": "max_tokens",
        "num_return_sequences": "n",
        "num_samples": "n",
        "n_probs": "logprobs",
        "stop_strings": "stop",
        "stopping_strings": "stop",
        "ban_eos_token": "ignore_eos",
    }
    no_effect: ClassVar[frozenset[str]] = frozenset({"user"})

    prompt: str | list[str] | list[TokenId] | list[Ids] = ""
    """Text to continue, or its token ids, or a list of either. Empty or absent: the model begins by itself."""
    max_tokens: Annotated[int, Field(ge=-1, le=MOST_TOKENS), Integer] = 16
    """Length of each text; -1 for as much as possible. With `stop_at` sentence, line, paragraph or speech it goes on to
    the next end."""
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES), Integer] = 1
    """Texts for each prompt. Text number i is drawn with seed + i."""
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES), Integer] | None = None
    """Generate this many texts for each prompt and keep the best `n`. Not with `stream`."""
    best_by: Literal["likelihood", "style"] = "likelihood"
    """What is best: the highest mean log-probability, or what --best-of keeps (needs a run). Own field."""
    stream: bool = False
    """Send text as server-sent events as it is generated."""
    stream_options: StreamOptions = StreamOptions()
    echo: bool = False
    """Put the prompt before each text, and its log-probabilities before theirs."""
    logprobs: Annotated[int, Field(ge=0, le=MOST_LIKELIEST), Integer] | None = None
    """Return the log-probability of each token under the model itself, and of so many of the likeliest ones."""
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS)] = Field(default_factory=list)
    """End a text before this string, or before any of these."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64), Integer] | None = None
    """Seed of all random numbers, modulo 2^32; the same seed gives the same text. Chosen at random if absent or -1."""
    suffix: Annotated[str, Field(max_length=0)] = ""
    """These models cannot fill in."""
    messages: Annotated[list[Any], Field(max_length=0)] = Field(default_factory=list)
    """These models hold no conversation."""

    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    """0 always takes the likeliest token. Without it: the value tuned for the model."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Choose among the likeliest tokens that together have this probability. Default: 0.95."""
    top_k: Annotated[int, Field(ge=-1, lt=2**31), Integer] = 0
    """Choose among this many likeliest tokens; 0 or -1 for all."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Choose among tokens that are at least this likely, as a share of the likeliest one's probability."""
    presence_penalty: Annotated[float, Field(ge=-10, le=10)] = 0.0
    """Subtracted from the logit of each token that the text already has."""
    frequency_penalty: Annotated[float, Field(ge=-10, le=10)] = 0.0
    """Subtracted from a token's logit for each time that the text already has it."""
    logit_bias: Annotated[
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
        Field(max_length=MOST_BIASES),
        BeforeValidator(_as_object),
    ] = Field(default_factory=dict)
    """Added to the logits of tokens, by id."""
    repetition_penalty: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Above 1 makes tokens that stand in the prompt or the text less likely."""
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=1000), Integer] = 0
    """Never write the same sequence of this many tokens twice; 0 turns this off."""
    ignore_eos: bool = False
    """Never let the model end the text by itself."""
    return_token_ids: bool = False
    """Return the ids of prompt and text as `prompt_token_ids` and `token_ids`."""

    max_copy: Annotated[int, Field(ge=1, le=100_000), Integer] | Off = "none"
    """Copy no passage longer than this many characters from the training text. Own field."""
    guidance: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Strength of the learned style: above 1 exaggerates it, 0 is the base model. Own field."""
    mix: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)], Annotated[float, Field(ge=0, le=1)]],
        Field(max_length=MOST_MIXED),
    ] = Field(default_factory=dict)
    """Models whose voices are mixed in, with their shares: {"poe": 0.4}. The rest is the model's own. Own field."""
    stop_at: StopAt = "document"
    """Where a text ends. "document": where the model ends it, at most at `max_tokens`. Own field; as --stop-at."""
    unit: Literal["tokens", "words", "characters"] = "tokens"
    """Unit of `max_tokens`. Own field."""
    words: Literal["auto", "known", "any"] = "auto"
    """Write only words that are known, or any. Own field; as --words."""
    loop_guard: Literal["on", "off"] | None = None
    """Leave loops. Own field; as --loop-guard."""
    bad_words: Annotated[list[Stop], Field(max_length=MOST_STOPS)] = Field(default_factory=list)
    """Never write these."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError("best_of: must be at least n")
        if self.stream and self.n_candidates > self.n:
            raise ValueError("best_of: the best of several texts is known at the end only; leave stream out")
        if sum(self.mix.values()) > MOST_TOGETHER:
            raise ValueError("mix: the shares must not add up to more than 1")
        if len(self.prompts) > MOST_PROMPTS:
            raise ValueError(f"prompt: at most {MOST_PROMPTS} prompts in one request")
        if len(self.prompts) * self.n_candidates > MOST_TEXTS:
            raise ValueError(f"n: at most {MOST_TEXTS} texts in one request")
        if sum(map(len, self.prompts)) > TEXT_CHARACTERS:
            raise ValueError(f"prompt: at most {TEXT_CHARACTERS:,} characters or ids in one request")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or more."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt or isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [one for one in self.prompt if not isinstance(one, int)]

    @property
    def n_candidates(self) -> int:
        """Texts that are generated for each prompt."""
        return max(self.n, self.best_of or 1)

    def make_settings(self, seed: int, *, plain: bool = False) -> WriteSettings:
        """The same as settings of `epigone write`. `plain`: what is absent leaves the distribution as it is."""
        absent: dict[str, Any] = (
            {"temperature": 1.0, "top_p": 1.0, "loop_guard": "off", "words": "any"} if plain else {}
        )
        own: dict[str, Any] = {
            "length": MOST_TOKENS if self.max_tokens < 0 else max(1, self.max_tokens),
            "unit": self.unit,
            "stop_at": "anywhere" if self.ignore_eos and self.stop_at == "document" else self.stop_at,
            "count": self.n_candidates,
            "top_k": max(0, self.top_k),
            "stop": (self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            "bad_words": tuple(filter(None, self.bad_words)),
            "seed": seed,
        }
        if self.top_p is not None:
            own["top_p"] = max(self.top_p, LEAST_TOP_P)
        same = ("min_p", "guidance", "repetition_penalty", "no_repeat_ngram_size", "max_copy")
        given = {name: getattr(self, name) for name in ("temperature", "loop_guard") if getattr(self, name) is not None}
        words = {"words": self.words} if self.words != "auto" else {}
        values = absent | own | given | words | {name: getattr(self, name) for name in same}
        return make_settings(WriteSettings, values, source="the request")


class ScoreQuery(Query):
    """A request for the log-probability of each token of a text."""

    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS)]
    """Read after an end-of-text token, as each document is in training."""
    logprobs: Annotated[int, Field(ge=0, le=MOST_LIKELIEST), Integer] = 0
    """Return so many of the likeliest tokens at each place."""


class TokenizeQuery(Query):
    """A request for the tokens of a text."""

    synonyms: ClassVar[Mapping[str, str]] = {"prompt": "content", "text": "content"}
    no_effect: ClassVar[frozenset[str]] = frozenset({"add_special"})

    content: Words
    """The text."""
    with_pieces: bool = False
    """Return objects with `id` and `piece` (bytes as a list where they are not text), as llama.cpp does."""


class DetokenizeQuery(Query):
    """A request for the text of tokens."""

    tokens: Ids
    """Token ids."""


class CopiesQuery(Query):
    """A request for passages of a text that stand in a model's training text."""

    text: Annotated[str, Field(max_length=50_000)]
    """The text."""
    min_characters: Annotated[int, Field(ge=10, le=1000), Integer] = 25
    """Length from which a passage counts, without differences in case and white space."""


class QuizQuery(Query):
    """A request for a quiz: passages half by the author and half by the model."""

    count: Annotated[int, Field(ge=2, le=20), Integer] = 8
    """Passages."""
    length: Annotated[int, Field(ge=5, le=200), Integer] = 40
    """Words in each, roughly."""
    seed: Annotated[int, Field(ge=0, lt=2**32), Integer] = 0
    """The same seed makes the same quiz."""


def parse(kind: type[Q], body: bytes) -> tuple[Q, list[str]]:
    """A request from its JSON, and the names of fields that are ignored. Raises ApiError."""
    values = _read_object(body)
    for other, name in kind.synonyms.items():
        if other in values and other not in kind.model_fields:
            values.setdefault(name, values[other])
            del values[other]
    given = {name: value for name, value in values.items() if value is not None}
    ignored = [name for name in given if name not in kind.model_fields and name not in kind.no_effect]
    try:
        return kind.model_validate(given), ignored
    except ValidationError as error:
        raise _explain(error) from None


def _read_object(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise ApiError(400, "The body is empty: send a JSON object.")
    try:
        values = json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise ApiError(400, f"The body is not valid JSON ({place}).") from None
    except UnicodeDecodeError:
        raise ApiError(400, "The body is not valid JSON (it is not in UTF-8).") from None
    except (ValueError, RecursionError) as error:
        name = f" ({error})" if str(error) in NO_NUMBERS else ""
        raise ApiError(400, f"The body is not valid JSON{name}.") from None
    if not isinstance(values, dict):
        raise ApiError(400, "The body is not a JSON object.")
    return values


NO_NUMBERS = {"NaN", "Infinity", "-Infinity"}
"""Which Python writes and reads, and JSON does not have."""


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


IMPOSSIBLE = {
    "suffix": "these models cannot fill in",
    "messages": "these models continue a text and hold no conversation; send a prompt",
}


def _explain(error: ValidationError) -> ApiError:
    """pydantic's first error as one of ours; the same field may have one error for each of its types."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        name, _, message = message.partition(": ")
        return ApiError(400, f"{name} {message}.", param=name)
    name = str(first["loc"][0])
    if name in IMPOSSIBLE:
        message = f"is not possible: {IMPOSSIBLE[name]}"
    elif first["type"] == "missing":
        message = "is missing"
    else:
        message = f"{message[:1].lower()}{message[1:]}"
    return ApiError(400, f"{name}: {message}.", param=name)
