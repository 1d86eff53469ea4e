"""A tiny run that can be stopped anywhere; and what it comes to, to be compared bit by bit with one that was not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from epigone import files, pipeline
from epigone.files import write_bytes
from epigone.report import curves, publish
from epigone.resumption import resume_training
from epigone.runs import checkpoints
from epigone.runs import folder as folder_module
from epigone.runs.checkpoints import find_fault, list_checkpoints
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from helpers_front import hash_one, make_once, prepare_run, write_sonnets

TIMED = {"seconds", "seconds_left", "tokens_per_second"}
HOW: dict[str, Any] = {
    "size": "1x32",
    "block_size": 64,
    "batch_size": 2,
    "gradient_accumulation": 2,
    "epochs": 3.0,
    "dropout": 0.1,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "compile": "off",
    "samples": 1,
    "sample_length": 8,
    "patience": "none",
    "device": "cpu",
}
"""Three passes of a few steps, each of two batches, with dropout; an evaluation, a sample and a save after each."""


# -- runs


def prepared(optimizer: str = "muon", base: str = "none") -> Path:
    """A run that was prepared and has learned nothing yet; to be copied."""
    return _prepare(optimizer, base)


def uninterrupted(optimizer: str = "muon", base: str = "none") -> Path:
    """The same run, learned in one go."""
    return _learn(optimizer, base)


@cache
def _prepare(optimizer: str, base: str) -> Path:
    def prepare(place: Path) -> None:
        (place / "text").mkdir(parents=True)
        text = write_sonnets(place / "text", 3_000, "faults.txt")
        prepare_run(text, place / "run", TrainSettings(**HOW, optimizer=optimizer, base=base))

    return make_once(f"prepared-{_name(optimizer, base)}", prepare) / "run"


def _name(optimizer: str, base: str) -> str:
    return f"{optimizer}-{'fresh' if base == 'none' else 'tuned'}"


def copy(run: Path, place: Path) -> Path:
    """The run as it is now, in another place."""
    return Path(shutil.copytree(run, place))


def go_on(run: Path, *, should_stop: Callable[[], bool] = lambda: False) -> list[str]:
    """Learn to the end, as epigone resume does: what was noted on the way."""
    notes: list[str] = []
    for _ in resume_training(run, {}, should_stop=should_stop, on_note=notes.append):
        pass
    return notes


@cache
def _learn(optimizer: str, base: str) -> Path:
    def learn(place: Path) -> None:
        place.mkdir()
        run = copy(prepared(optimizer, base), place / "run")
        with plain_pictures():
            go_on(run)

    return make_once(f"whole-{_name(optimizer, base)}", learn) / "run"


# -- what a run comes to


def find_differences(run: Path, other: Path) -> list[str]:
    """In what two finished runs differ, bit by bit, but for time; nothing is the claim."""
    one, two = describe(run), describe(other)
    return [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]


def describe(run: Path) -> dict[str, object]:
    """Hashes and numbers of all that a run learned, told and wrote."""
    newest = list_checkpoints(run / "checkpoints")[0]
    assert find_fault(newest) is None
    facts = json.loads((newest / "state.json").read_text("utf-8"))
    progress = {name: value for name, value in facts["progress"].items() if "seconds" not in name}
    names = ["model/model.safetensors", "model/config.json", "model/tokenizer.json", "sampling.json", "receipt.json"]
    names += [f"checkpoints/{newest.name}/{name}.safetensors" for name in checkpoints.TENSORS]
    names += [path.relative_to(run).as_posix() for path in sorted((run / "samples").iterdir())]
    names += [f"model/{name}" for name in names if name.startswith("samples/")]
    hashes: dict[str, object] = {name: hash_one(run / name) for name in names if (run / name).exists()}
    card = (run / "model" / "README.md").exists() and (run / "model" / "curves.png").exists()
    more: dict[str, object] = {"plan": json.loads((run / "run.json").read_text("utf-8"))["plan"], "card": card}
    return hashes | more | {"progress": progress, "rate": facts["rate"], "metrics": list_numbers(run)}


def list_numbers(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without times, and without those that say that it began or went on."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [
        {name: value for name, value in line.items() if name not in TIMED}
        for line in lines
        if line["event"] != "started"
    ]


def list_sound(run: Path) -> list[str]:
    """The names of the sound checkpoints, the newest first."""
    return [one.name for one in list_checkpoints(run / "checkpoints") if find_fault(one) is None]


# -- operations on files


@contextmanager
def watch_files(see: Callable[[str, Path], None]) -> Iterator[None]:
    """Let `see` know of each change to files: its name and the file, before it, inside (half written) and after it."""

    def wrap(
        name: str,
        original: Callable[..., Any],
        halve: Callable[..., Any] | None = None,
        find: Callable[..., Path] = _find_path,
    ) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            path = find(*arguments)
            see(f"before {name}", path)
            if halve is not None:
                halve(*arguments, **more)
                see(f"inside {name}", path)
            result = original(*arguments, **more)
            see(f"after {name}", path)
            return result

        return act

    def write_half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])

    def save_half(tensors: Any, path: Path, **more: Any) -> None:
        save_file(tensors, path, **more)
        os.truncate(path, path.stat().st_size // 2)

    def append_half(path: Path, event: Any) -> None:
        size = path.stat().st_size if path.exists() else 0
        append(path, event)
        whole = path.read_bytes() if path.exists() else b""
        half_seen.append(whole)
        path.write_bytes(whole[: (size + len(whole)) // 2]) if whole else None

    def append_rest(path: Path, event: Any) -> None:
        if half_seen and half_seen[-1]:
            write_plainly(path, half_seen[-1])

    half_seen: list[bytes] = []
    write_plainly, save_file, append = Path.write_bytes, checkpoints.save_file, folder_module.append_event
    create = wrap("write", files.create_file, write_half)
    with (
        mock.patch.object(files, "create_file", create),
        mock.patch.object(checkpoints, "create_file", create),
        mock.patch.object(checkpoints, "save_file", wrap("save", save_file, save_half)),
        mock.patch("epigone.model.gpt2.save_file", wrap("save", save_file, save_half)),
        mock.patch.object(files, "open_new", wrap("create", files.open_new)),
        mock.patch.object(os, "replace", wrap("rename", os.replace, find=_find_renamed)),
        mock.patch.object(os, "mkdir", wrap("mkdir", os.mkdir)),
        mock.patch.object(os, "unlink", wrap("delete", os.unlink)),
        mock.patch.object(os, "rmdir", wrap("delete", os.rmdir)),
        mock.patch.object(folder_module, "append_event", wrap("append", append_rest, append_half)),
    ):
        yield


def _find_path(*arguments: Any) -> Path:
    found = next((one for one in arguments if isinstance(one, str | Path)), "")
    return Path(found)


def _find_renamed(source: str | Path, target: str | Path) -> Path:
    """The new name of a temporary file, the old one of any other."""
    return Path(target if files.TEMPORARY.fullmatch(Path(source).name) else source)


@contextmanager
def plain_pictures() -> Iterator[None]:
    """Pictures and a page that take no time to draw, written as those that do."""

    def draw(_events: object, folder: Path, *, title: str) -> tuple[Path, Path]:
        return write_bytes(folder / "curves.png", b"a picture"), write_bytes(folder / "curves.svg", title.encode())

    def write(folder: RunFolder, *_: object, **__: object) -> Path:
        return write_bytes(folder.report, b"a page")

    with (
        mock.patch.object(curves, "draw_curves", draw),
        mock.patch.object(publish, "write_report", write),
        mock.patch.object(pipeline, "write_report", write),
    ):
        yield


# -- processes of their own


def go_on_alone(run: Path) -> None:
    """What a process of its own does that learns to the end."""
    with plain_pictures():
        go_on(run)


def act_at(run: Path, n_events: int, act: object) -> None:
    """Learn, and do something after so many events."""
    for number, _ in enumerate(resume_training(run, {}), 1):
        if number == n_events:
            act()  # type: ignore[operator]


# -- deaths


class Died(BaseException):
    """Nothing in the house expects it: like a kill, but in this process."""


@contextmanager
def dying(owner: Any, name: str, *, call: int, late: bool = False) -> Iterator[None]:
    """The call of that number of a function is the last: it dies before it, or after it."""
    original, calls = getattr(owner, name), count(1)

    def die(*arguments: Any, **more: Any) -> Any:
        last = next(calls) == call
        if last and not late:
            raise Died
        result = original(*arguments, **more)
        if last:
            raise Died
        return result

    with mock.patch.object(owner, name, die), pytest.raises(Died):
        yield
