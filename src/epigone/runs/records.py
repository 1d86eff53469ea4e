"""Events in, lines of metrics.jsonl out, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from epigone.corpus.corpus import FileReceipt
from epigone.model.hub import LARGEST
from epigone.planning.plan import Plan
from epigone.training.events import (
    BatchSplit,
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
LARGEST_NUMBER = 1 << 53
"""No number of steps, tokens or bytes is larger."""
MOST_TOKENS_PER_STEP, MOST_THREADS = 1 << 28, 4_096
ANY_SIZE = ("learning_rate", "matrix_learning_rate")
"""Whoever asks for too much of these is told so by the loss."""
AT_LEAST_ONE = (
    *(
        "n_parameters",
        "n_threads",
        "n_processes",
        "block_size",
        "n_blocks",
        "batch_size",
        "gradient_accumulation",
        "lora",
    ),
    *("n_steps", "patience", "evaluations_per_epoch", "evaluate_every", "report_every"),
)


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What is learned from, or what is held out."""

    n_documents: int
    n_characters: int
    n_bytes: int
    n_tokens: int
    bytes_per_token: float


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """How the text was divided."""

    how: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What receipt.json holds, as far as it is read."""

    files: list[FileReceipt]
    held_out_files: list[FileReceipt]
    skipped: list[str]
    split: SplitRecord
    train: PartRecord
    validation: PartRecord


@cache
def _adapt(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def validate(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass's value from plain ones. Raises ValueError or TypeError where they are not what it takes."""
    kind(**values)  # unlike pydantic, it refuses names that it does not know
    value: T = _adapt(cast(Any, kind)).validate_python(values)
    return value


def check_receipt(data: bytes) -> None:
    """Raises ValueError where receipt.json does not hold what is read of it."""
    _adapt(Receipt).validate_json(data, strict=True)


def validate_plan(values: Mapping[str, Any]) -> Plan:
    """The plan. Raises ValueError or TypeError where it is none that could be."""
    plan = validate(Plan, values)
    for name, value in values.items():
        if isinstance(value, int | float) and not -1 <= value <= LARGEST_NUMBER and name not in ANY_SIZE:
            raise ValueError(f"{name} cannot be {value}")
        if name in AT_LEAST_ONE and getattr(plan, name) is not None and getattr(plan, name) < 1:
            raise ValueError(f"{name} must be 1 or more, not {value}")
    sizes = {name: getattr(plan.shape, name) for name in ("n_layer", "n_head", "n_embd", "n_positions")}
    wrong = [name for name, size in sizes.items() if not 1 <= size <= LARGEST[name]]
    if wrong or not 1 <= plan.shape.vocab_size <= LARGEST["vocab_size"]:
        raise ValueError(f"there is no model of the shape {plan.shape}")
    if plan.tokens_per_step > MOST_TOKENS_PER_STEP or plan.n_threads > MOST_THREADS or plan.epochs <= 0:
        raise ValueError("its steps cannot be taken")
    return plan


EVENT_NAMES: dict[str, type[Event]] = {
    "started": Started,
    "stepped": StepReport,
    "divided": BatchSplit,
    "evaluated": Evaluated,
    "sampled": Sampled,
    "finished": Finished,
}
"""Names of events in metrics.jsonl. `CheckpointDue` is of no use later and leaves no line."""
NAME_OF_EVENT = {kind: name for name, kind in EVENT_NAMES.items()}


LARGEST_VALUE = 1e30
"""No number of a run is, and no curve could show it."""


def append_event(path: Path, event: Event) -> None:
    """One more line, in one write. An event that is of no use later (`CheckpointDue`) leaves none."""
    name = NAME_OF_EVENT.get(type(event))
    if name is not None:
        line = json.dumps({"event": name, **asdict(event)}, ensure_ascii=False)
        with path.open("a", encoding="utf-8", errors="surrogatepass") as file:
            file.write(line + "\n")


def read_events(path: Path) -> Iterator[Event]:
    """The events in a file. A last line that a crash cut short, and lines of later versions, are passed over."""
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        event = _read_event(line)
        if event is not None:
            yield event


def _is_absurd(value: object) -> bool:
    return isinstance(value, float | int) and LARGEST_VALUE < abs(value) < math.inf


def _read_event(line: bytes) -> Event | None:
    try:
        values: dict[str, Any] = json.loads(line.decode("utf-8", "surrogatepass"))
        kind = EVENT_NAMES[values.pop("event")]
        if kind is Sampled:
            values["samples"] = tuple(Sample(**sample) for sample in values["samples"])
            values["found"] = SampleStats(**values["found"]) if values.get("found") else None
        if any(_is_absurd(value) for name, value in values.items() if name != "perplexity"):
            return None
        return validate(kind, values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
