"""Files of a run as typed records: manifest, receipt, lines of metrics.jsonl and the chosen temperature."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from epigone import __version__
from epigone.corpus.corpus import FileReceipt
from epigone.corpus.split import Span
from epigone.errors import RunIncompatible
from epigone.files import open_to_append
from epigone.model.hub import LARGEST
from epigone.planning.plan import Plan
from epigone.tokens.dataset import TokenSplit
from epigone.training.events import (
    BatchSplit,
    Estimate,
    Evaluated,
    Event,
    Finished,
    Sample,
    Sampled,
    SampleStats,
    Started,
    StepReport,
)

T = TypeVar("T")
R = TypeVar("R", bound="Record")
FORMAT = 2
"""Of all files of a run. Format 1 had plan.json in place of run.json and is no longer read."""
MOST_TOKENS_PER_STEP = 1 << 28
TokensName = Annotated[str, Field(pattern=r"^\w*$")]


class Record(BaseModel):
    """A file of a run: frozen, with the number of its format; unknown names and wrong types are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", revalidate_instances="always")

    format: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return self.model_dump()

    def encode(self) -> bytes:
        """The content of the file: indented JSON in UTF-8. Names of files may hold lone surrogates, which are kept."""
        return (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextLocations:
    """Where the texts are: paths relative to the run's folder; addresses and "sample:NAME" as they were given."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    """A separate text to validate on, if one was given."""


class Manifest(Record):
    """run.json: how the run is made, what was measured for it, and what it is made from."""

    plan: Plan
    estimate: Estimate
    tokens: TokensName
    """Name of the folder of token files."""
    tokens_sha256: str
    """Of the file in it that has the hashes of the others."""
    texts: TextLocations
    versions: dict[str, str]
    """Of epigone, Python and the libraries, when the run was made."""

    @field_validator("plan")
    @classmethod
    def _plan_is_possible(cls, plan: Plan) -> Plan:
        if not all(1 <= getattr(plan.model.shape, name) <= largest for name, largest in LARGEST.items()):
            raise ValueError(f"there is no model of the shape {plan.model.shape}")
        if plan.batch.tokens_per_step > MOST_TOKENS_PER_STEP:
            raise ValueError(f"a step cannot have {plan.batch.tokens_per_step:,} tokens")
        return plan


@dataclass(frozen=True, kw_only=True, slots=True)
class PartReceipt:
    """Size of the training or of the validation part."""

    n_documents: int
    n_characters: int
    n_bytes: int
    n_tokens: int
    bytes_per_token: float

    @classmethod
    def count(cls, part: TokenSplit) -> PartReceipt:
        """The sizes of a part of the tokens."""
        return cls(
            n_documents=part.n_documents,
            n_characters=part.n_characters,
            n_bytes=part.n_bytes,
            n_tokens=part.n_tokens,
            bytes_per_token=round(part.bytes_per_token, 4),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitReceipt:
    """How the text was divided into training and validation."""

    how: str
    reason: str
    held_out: tuple[Span, ...]


class Receipt(Record):
    """receipt.json: what was read, every change made to it, and what is trained and validated on."""

    files: tuple[FileReceipt, ...]
    held_out_files: tuple[FileReceipt, ...]
    skipped: tuple[str, ...]
    """A line about each file that was not read."""
    fingerprint: str
    n_characters: int
    n_bytes: int
    split: SplitReceipt
    train: PartReceipt
    validation: PartReceipt

    @property
    def all_files(self) -> tuple[FileReceipt, ...]:
        """Those to train on, then those to validate on."""
        return self.files + self.held_out_files


@dataclass(frozen=True, kw_only=True, slots=True)
class TemperatureRecord:
    """What the model wrote at a temperature: its compression and its repetition."""

    temperature: float
    compression: float
    repeated: float


class SamplingRecord(Record):
    """sampling.json: the temperature that was chosen, the author's own upper ends, and what was tried."""

    temperature: float
    most_compression: float
    most_repeated: float
    trials: tuple[TemperatureRecord, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownQuestion:
    """A passage of the quiz on the page, and the answer."""

    text: str
    genuine: bool
    """Whether the author wrote it."""


class ShowcaseRecord(Record):
    """showcase.json: what the page shows of the best model, chosen from several texts that it wrote."""

    model_sha256: str
    """Of the weights that wrote it: another model needs another showcase."""
    text: str
    seed: int
    n_candidates: int
    """Of which the text is the best."""
    why: str
    """Why it is: its scores and those of the others, in a sentence."""
    sentences: tuple[str, ...]
    """The best ones, of all candidates."""
    questions: tuple[ShownQuestion, ...]
    language: str = ""
    """Code of the text's language, where it is known: "en"."""


def read_record(kind: type[R], data: bytes) -> R:
    """A record from the content of its file. Raises ValueError that names the first wrong value."""
    try:
        return kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None


class ModelFacts(BaseModel):
    """What is needed of a manifest to write with a model and to judge it, also where the rest of it does not fit."""

    model_config = ConfigDict(frozen=True, strict=True)

    base: str = "none"
    start_text: str = ""
    stop_at: Literal["sentence", "line"] = "sentence"
    block_size: Annotated[int | None, Field(ge=1)] = None
    precision: str = "fp32"
    tokens: TokensName = ""


PLACES: dict[str, tuple[str, ...]] = {
    "base": ("plan", "model", "base"),
    "start_text": ("plan", "start_text"),
    "stop_at": ("plan", "stop_at"),
    "block_size": ("plan", "batch", "block_size"),
    "precision": ("plan", "compute", "precision"),
    "tokens": ("tokens",),
}
"""Where in run.json the facts are."""


def read_model_facts(data: bytes) -> ModelFacts:
    """The facts in a manifest. Those that are missing or do not fit, as in a later format, are as they usually are."""
    facts = ModelFacts()
    for name, place in PLACES.items():
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            value = json.loads(data)
            for key in place:
                value = value[key]
            facts = ModelFacts.model_validate({**facts.model_dump(), name: value})
    return facts


def read_format(data: bytes) -> tuple[int, str] | None:
    """The number of the format and the version of epigone that wrote a manifest; None where it does not say."""
    try:
        values = json.loads(data)
        number = values["format"]
        return (number, str(values.get("versions", {}).get("epigone", "?"))) if type(number) is int else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def newer_format(path: Path, number: int, version: str = "") -> RunIncompatible:
    """The error for a run or a file in the format of a later version of epigone, which is named if it is known."""
    maker = f"epigone {version}" if version else "a later epigone"
    return RunIncompatible(
        f"{path} was made by {maker} in format {number}; this is epigone {__version__}, which reads format {FORMAT}.",
        hint=f"It needs {maker + ' or newer' if version else maker}: pip install --upgrade epigone. "
        "Its model still works with epigone write and score.",
    )


def other_version(path: Path, version: str, fault: str) -> RunIncompatible | None:
    """The error for a file that does not fit because another version of epigone wrote it; None if none did."""
    made, here = ([int(part) for part in re.findall(r"\d+", text)] for text in (version, __version__))
    if not made or made == here:
        return None
    upgrade = "pip install --upgrade epigone" if made > here else f"pip install epigone=={version}"
    return RunIncompatible(
        f"{path} was made by epigone {version} and does not fit epigone {__version__}: {fault}.",
        hint=f"It needs epigone {version}: {upgrade}. Its model still works with epigone write and score.",
    )


@cache
def _adapt(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def validate(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from plain values. Raises ValueError or TypeError where they do not fit."""
    kind(**values)  # unlike pydantic, it refuses names that it does not know
    value: T = _adapt(cast(Any, kind)).validate_python(values)
    return value


EVENT_NAMES: dict[str, type[Event]] = {
    "started": Started,
    "stepped": StepReport,
    "divided": BatchSplit,
    "evaluated": Evaluated,
    "sampled": Sampled,
    "finished": Finished,
}
"""Names of events in metrics.jsonl. `CheckpointSaved` is of no use later and leaves no line."""
NAME_OF_EVENT = {kind: name for name, kind in EVENT_NAMES.items()}


LARGEST_VALUE = 1e30
"""No number of a run is, and no curve could show it."""


def append_event(path: Path, event: Event) -> None:
    """One more line, in one write. An event that is of no use later (`CheckpointSaved`) leaves none.

    The first line, and the first after each resume, has the number of the format.
    """
    name = NAME_OF_EVENT.get(type(event))
    if name is not None:
        number = {"format": FORMAT} if isinstance(event, Started) else {}
        line = json.dumps({"event": name, **number, **asdict(event)}, ensure_ascii=False)
        with open_to_append(path) as file:
            file.write((line + "\n").encode("utf-8", "surrogatepass"))


def read_events(path: Path) -> Iterator[Event]:
    """The events in a file. A last line that a crash cut short, and lines that hold no event, are passed over.

    Raises RunIncompatible if a later version of epigone wrote in its own format.
    """
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        event = decode_event(path, line)
        if event is not None:
            yield event


def _is_absurd(value: object) -> bool:
    return isinstance(value, float | int) and LARGEST_VALUE < abs(value) < math.inf


def decode_event(path: Path, line: bytes) -> Event | None:
    """The event in a line of metrics.jsonl, if it holds one. Raises RunIncompatible as `read_events` does."""
    try:
        values: dict[str, Any] = json.loads(line.decode("utf-8", "surrogatepass"))
        kind = EVENT_NAMES[values.pop("event")]
        if kind is Started and (number := values.pop("format")) > FORMAT:
            raise newer_format(path, number)
        if kind is Sampled:
            values["samples"] = tuple(Sample(**sample) for sample in values["samples"])
            values["found"] = SampleStats(**values["found"]) if values.get("found") else None
        if any(_is_absurd(value) for name, value in values.items() if name != "perplexity"):
            return None
        return validate(kind, values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
