"""The runs in a folder, the newest first: base, size, loss, verdicts and state of each, read without loading torch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from epigone.training.events import Evaluated, Event, Finished, Grade, Started, effective_history, find_best

State = Literal["learning", "finished", "stopped"]
QUIET_SECONDS = 90.0
"""A run whose metrics have not grown for so long does not learn any more. Training holds a lock, but to test that one
has to take it, and training that starts at that moment would be refused.
"""
RUNS = Path("runs")
"""Where train puts runs."""
VOICES, LEARNED = "voices", "texts/learned"
"""Folder in a run of several voices, with the run of each; and folder in that, with the text that each learned from."""
MANIFESTS = ("run.json", "plan.json")
"""The second is that of format 1."""
WEIGHTS = "model/model.safetensors"
TIED = "lm_head.weight"
"""The same as the embeddings, where it is stored at all."""
LONGEST_HEADER = 10_000_000
"""Bytes; that of a GPT-2 has some 20,000."""
KINDS: dict[str, Any] = {"started": Started, "evaluated": Evaluated, "finished": Finished}
TOPICS = ("sounds_like", "makes_sense", "copies", "repeats")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOverview:
    """What a list shows of a run. None where its files do not say."""

    path: Path
    base: str | None
    """Name of the model that it started from, "none" for random weights."""
    n_parameters: int | None
    best: Evaluated | None
    """The evaluation of the weights that were kept."""
    grades: Mapping[str, Grade]
    """Of the last judgement of these weights, by topic ("sounds_like"); empty if there is none."""
    state: State
    changed: float
    """When something of its training was last recorded, in seconds since 1970."""
    has_model: bool


def list_runs(folder: Path) -> list[RunOverview]:
    """The runs in a folder, the newest first, each followed by those of its voices."""
    return [read_overview(path) for run in list_run_folders(folder) for path in (run, *list_voice_folders(run))]


def list_voice_folders(run: Path) -> list[Path]:
    """The runs of a run's voices, by name."""
    return sorted(list_run_folders(run / VOICES))


def is_voice(run: Path) -> bool:
    """Whether a run is that of a voice."""
    whole = run.absolute()
    return whole.parent.name == VOICES and looks_like_run(whole.parent.parent)


def run_name(run: Path) -> str:
    """A run's name for commands: that of its folder, or RUN/VOICE."""
    whole = run.absolute()
    return f"{whole.parent.parent.name}/{whole.name}" if is_voice(run) else whole.name


def name_voices(run: Path) -> list[str]:
    """The voices in a run's text: its own where it is that of a voice; empty where it was not divided by voice."""
    if is_voice(run):
        return [run.absolute().name]
    with suppress(OSError):
        return sorted(place.name for place in (run / VOICES / LEARNED).iterdir())
    return []


def list_run_folders(folder: Path) -> list[Path]:
    """The folders of these runs, the newest first."""
    with suppress(OSError):
        return sorted(filter(looks_like_run, folder.iterdir()), key=find_change, reverse=True)
    return []


def looks_like_run(path: Path) -> bool:
    """Whether training was started in a folder, as far as its files' names tell."""
    with suppress(OSError):
        begun = [path / place / name for place in ("", "first") for name in MANIFESTS]
        return any(file.is_file() for file in begun) or any((path / "checkpoints").glob("step-*"))
    return False


def has_model(path: Path) -> bool:
    """Whether there are weights to write with."""
    with suppress(OSError):
        return (path / WEIGHTS).is_file()
    return False


def find_change(path: Path) -> float:
    """When something of a run's training was last recorded, in seconds since 1970; judging it does not count."""
    for file in (path / "metrics.jsonl", path / "first" / "metrics.jsonl", path / "run.json", path):
        with suppress(OSError):
            return file.stat().st_mtime
    return 0.0


def read_overview(path: Path) -> RunOverview:
    """What a list shows of a run, however damaged its files are."""
    in_first = not any((path / name).is_file() for name in MANIFESTS) and looks_like_run(path / "first")
    place = path / "first" if in_first else path
    plan = _read_object(place / "run.json").get("plan")
    model = plan.get("model") if isinstance(plan, dict) else None
    model = model if isinstance(model, dict) else {}
    base = model.get("base")
    events = effective_history(_read_events(place / "metrics.jsonl"))
    state = find_state(place / "metrics.jsonl", events)
    return RunOverview(
        path=path,
        base=PurePath(base).name if isinstance(base, str) else None,
        n_parameters=_count_parameters(place / WEIGHTS),
        best=find_best([event for event in events if isinstance(event, Evaluated)]),
        grades=_read_grades(path),
        state="stopped" if in_first and state == "finished" else state,
        changed=find_change(path),
        has_model=has_model(path),
    )


def find_state(metrics: Path, events: Sequence[Event]) -> State:
    """Whether a run is being trained now, is finished, or was stopped before its end."""
    if events and isinstance(events[-1], Finished):
        return "stopped" if events[-1].reason == "interrupted" else "finished"
    with suppress(OSError):
        if time.time() - metrics.stat().st_mtime < QUIET_SECONDS:
            return "learning"
    return "stopped"


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def _count_parameters(weights: Path) -> int | None:
    """The parameters in a safetensors file, from its header; None where it cannot be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError), weights.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(min(n_bytes, LONGEST_HEADER)))
        return int(sum(prod(one["shape"]) for name, one in tensors.items() if name not in ("__metadata__", TIED)))
    return None


def _read_events(path: Path) -> Iterator[Event]:
    """The few events that say how a run went. Others, and lines that cannot be read, are passed over."""
    with suppress(OSError), path.open("rb") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                values = json.loads(line)
                adapter = _adapt(values.pop("event"))
                values.pop("format", None)
                yield adapter.validate_python(values)


@cache
def _adapt(name: str) -> TypeAdapter[Event]:
    return TypeAdapter(KINDS[name])


def _read_grades(run: Path) -> dict[str, Grade]:
    """The grades of a run's judgement, if it is of its present weights."""
    judgement, sums = _read_object(run / "judgement.json"), _read_object(run / "sums.json")
    known = sums.get(WEIGHTS)
    if not isinstance(known, list) or not known or judgement.get("model_sha256") != known[0]:
        return {}
    found = {topic: judgement[topic] for topic in TOPICS if isinstance(judgement.get(topic), dict)}
    return {topic: one["grade"] for topic, one in found.items() if one.get("grade") in get_args(Grade)}
