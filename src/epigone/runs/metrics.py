"""Events in, lines of metrics.jsonl out, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epigone.runs.records import take
from epigone.training.events import Criticism, Divided, Evaluated, Event, Finished, Sample, Sampled, Started, Stepped

KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Started, Stepped, Divided, Evaluated, Sampled, Finished)
}


LARGEST = 1e30
"""No number of a run is, and no curve could show it."""


def append_event(path: Path, event: Event) -> None:
    """One more line, in one write. An event that is of no use later (`CheckpointDue`) leaves none."""
    name = type(event).__name__.lower()
    if name in KINDS:
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
    return isinstance(value, float | int) and LARGEST < abs(value) < math.inf


def _read_event(line: bytes) -> Event | None:
    try:
        values: dict[str, Any] = json.loads(line.decode("utf-8", "surrogatepass"))
        kind = KINDS[values.pop("event")]
        if kind is Sampled:
            values["samples"] = tuple(Sample(**sample) for sample in values["samples"])
            values["found"] = Criticism(**values["found"]) if values.get("found") else None
        if any(_is_absurd(value) for name, value in values.items() if name != "perplexity"):
            return None
        return take(kind, values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
