"""What the page shows of models and runs: names, sizes, losses, samples, and the events of a run that is learning."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from epigone.errors import EpigoneError
from epigone.model.base_profile import find_root
from epigone.model.gpt2 import read_shape
from epigone.model.weights import read_temperature
from epigone.runs.folder import RunFolder
from epigone.runs.listing import QUIET_SECONDS, find_state, name_voices
from epigone.runs.records import NAME_OF_EVENT, ModelFacts, Receipt, decode_event
from epigone.serving.library import ServedModel
from epigone.text_reuse.hashing import locate_characters
from epigone.text_reuse.matches import find_matches
from epigone.training.events import Evaluated, Event, Finished, Sampled, StepReport, effective_history, find_best

MOST_STEPS = 500
"""Step reports that are sent of a run; of more, evenly chosen ones."""
MOST_DIGESTS = 256
POLL_SECONDS = 0.5
BEAT_SECONDS = 15.0
"""Between comments in a stream of events in which nothing happens, so that a client that has left is noticed."""
CONTEXT_CHARACTERS = 80
MOST_WHITE_SPACE = 4
"""Times as long as without its white space a passage of the training text may be; of a longer one a part is shown."""


# -- models and runs


def describe_model(served: ServedModel) -> dict[str, Any]:
    """One model of the list; never a path of this machine."""
    found: dict[str, Any] = {
        "name": served.name,
        "kind": served.kind,
        "created": served.created,
        "bytes": served.n_bytes,
        "usable": bool(served.created),
        "state": "base",
        "title": served.name,
        "base": None,
        "best": None,
        "temperature": None,
        "stop_at": "anywhere",
        "can": {"guidance": False, "copies": False, "quiz": False, "style": False},
    }
    with suppress(EpigoneError, OSError, ValueError, LookupError, TypeError):
        shape = read_shape(json.loads((served.model_folder / "config.json").read_text("utf-8")))
        found |= {"parameters": shape.n_parameters, "context": shape.n_positions, "vocabulary": shape.vocab_size}
    with suppress(EpigoneError, OSError):
        found["temperature"] = read_temperature(served.model_folder)
    if served.kind == "run":
        found |= _describe_run(RunFolder(served.folder), usable=bool(served.created))
    return found


def _describe_run(folder: RunFolder, *, usable: bool) -> dict[str, Any]:
    digest = _read_digest(folder.path, _sign(folder))
    return {
        "state": find_state(folder.metrics, digest.last),
        "title": digest.title,
        "base": digest.base,
        "best": digest.best,
        "stop_at": digest.stop_at,
        "can": {"guidance": digest.base != "none", "copies": usable, "quiz": usable, "style": usable},
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDigest:
    """What the list shows of a run and does not change by itself."""

    last: tuple[Event, ...]
    """Its last event, if it has any."""
    title: str
    base: str
    stop_at: str
    best: dict[str, Any] | None


def _sign(folder: RunFolder) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when one of the files changes that the digest is read from."""
    found: list[tuple[int, int, int] | None] = []
    for path in (folder.metrics, folder.manifest, folder.receipt):
        try:
            stat = path.stat()
            found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


@lru_cache(maxsize=MOST_DIGESTS)
def _read_digest(path: Path, _signature: tuple[tuple[int, int, int] | None, ...]) -> RunDigest:
    """The digest of a run's files as they are now. The page asks every few seconds, and metrics may be long."""
    folder = RunFolder(path)
    events, facts = _read_history(folder), _read_facts(folder)
    best = find_best([event for event in events if isinstance(event, Evaluated)])
    return RunDigest(
        last=tuple(events[-1:]),
        title=_make_title(folder),
        base=_name_root(facts.base),
        stop_at=facts.stop_at,
        best=None if best is None else clean(asdict(best)),
    )


def _name_root(base: str) -> str:
    """The base that a run was tuned from in the end, since runs of one can be mixed; "none" for random weights."""
    root = find_root(base)
    return PurePath(base if root == "none" else root).name


def _read_facts(folder: RunFolder) -> ModelFacts:
    with suppress(EpigoneError):
        return folder.read_model_facts()
    return ModelFacts()


def _read_history(folder: RunFolder) -> list[Event]:
    with suppress(EpigoneError, OSError):
        return effective_history(folder.read_events())
    return []


def _make_title(folder: RunFolder) -> str:
    """The names of its first texts, else the name of its folder."""
    with suppress(EpigoneError, OSError):
        receipt: Receipt = folder.read_receipt()
        names = name_voices(folder.path) or [PurePath(file.name).stem for file in receipt.files]
        return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    return folder.path.name


def describe_progress(served: ServedModel) -> dict[str, Any]:
    """A run's curves and samples: everything the page draws of it."""
    folder = RunFolder(served.folder)
    events = _read_history(folder)
    steps = [event for event in events if isinstance(event, StepReport)]
    every = max(1, math.ceil(len(steps) / MOST_STEPS))
    shown = steps[::every] if not steps or steps[-1] is steps[::every][-1] else [*steps[::every], steps[-1]]
    last = next((event for event in reversed(events) if isinstance(event, StepReport | Finished)), None)
    return describe_model(served) | {
        "steps": [clean(asdict(event)) for event in shown],
        "evaluations": [clean(asdict(event)) for event in events if isinstance(event, Evaluated)],
        "samples": [clean(asdict(event)) for event in events if isinstance(event, Sampled)],
        "seconds_left": last.seconds_left if isinstance(last, StepReport) else None,
        "epochs": [],
    }


def clean(value: Any) -> Any:
    """Plain values fit for JSON: None for infinity and NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: clean(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [clean(one) for one in value]
    return value


# -- live


async def follow(served: ServedModel, *, past: bool) -> AsyncGenerator[dict[str, Any] | None]:
    """The events of a run as they are recorded, those so far too if `past`; None where nothing has happened for long.

    It ends some time after the run.
    """
    path, start = RunFolder(served.folder).metrics, 0
    if not past:
        start = await asyncio.to_thread(_measure, path)
    rest, quiet, last = b"", 0.0, time.monotonic()
    while quiet < QUIET_SECONDS:
        data, start = await asyncio.to_thread(_read_from, path, start)
        *lines, rest = (rest + data).split(b"\n") if data else [rest]
        for line in lines:
            event = decode_event(path, line)
            if event is not None:
                yield {"event": NAME_OF_EVENT[type(event)], **clean(asdict(event))}
        quiet = 0.0 if lines else quiet + POLL_SECONDS
        if lines:
            last = time.monotonic()
        elif time.monotonic() - last > BEAT_SECONDS:
            last = time.monotonic()
            yield None
        await asyncio.sleep(POLL_SECONDS)


def _measure(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _read_from(path: Path, start: int) -> tuple[bytes, int]:
    """What a file has from a place on, and its end. From its beginning where it was cut: a resume has done that."""
    try:
        size = path.stat().st_size
        start = start if start <= size else 0
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(1 << 20)
        return data, start + len(data)
    except OSError:
        return b"", start


# -- copies


def list_names(served: ServedModel, n_documents: int) -> list[str]:
    """The names of the training text's files, where each is one document; else none."""
    with suppress(EpigoneError, OSError):
        names = [PurePath(file.name).name for file in RunFolder(served.folder).read_receipt().files]
        return names if len(names) == n_documents else []
    return []


def find_copies(documents: Sequence[Any], names: Sequence[str], text: str, n_characters: int) -> list[dict[str, Any]]:
    """The passages of a text that stand in the training text, with their places there and what is around them."""
    found = find_matches([text], documents, n_characters)[0]
    passages = []
    for passage in found.passages:
        document = documents[passage.document]
        following = str(document[passage.offset : passage.offset + MOST_WHITE_SPACE * passage.n_characters])
        places = locate_characters(following)[: passage.n_characters]  # white space may be longer in one of the two
        length = int(places[-1]) + 1
        before = document[max(0, passage.offset - CONTEXT_CHARACTERS) : passage.offset]
        passages.append(
            {
                "start": passage.start,
                "end": passage.end,
                "characters": passage.n_characters,
                "document": passage.document,
                "name": names[passage.document] if passage.document < len(names) else "",
                "offset": passage.offset,
                "before": str(before),
                "original": following[:length],
                "after": str(document[passage.offset + length : passage.offset + length + CONTEXT_CHARACTERS]),
            }
        )
    return passages
