"""Arguments come in, what the command did comes out; and what the tests of the front share: texts, a run, processes."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock

import epigone
from epigone.cli import main
from epigone.pipeline import Planned, run_training
from epigone.run import Run, open_run
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from helpers_quick import real_judgement, real_pictures

SOURCE = Path(epigone.__file__).parents[1]
SONNETS = SOURCE / "epigone" / "sample" / "sonnets.txt"
TINY = (
    "--size",
    "1x32",
    "--epochs",
    "0.4",
    "--block-size",
    "64",
    "--batch-size",
    "16",
    "--samples",
    "0",
    "--base",
    "none",
)
"""Flags that train the smallest model there is on a part of a short text, in a step or two."""

torch.set_num_threads(1)  # models as small as these are slower on two threads, and far slower on a busy machine


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str


class _Terminalless(io.TextIOWrapper):
    """A pipe that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]


@contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = before


def command(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
    """What `epigone ARGUMENTS` does, in this process. Anything but a clean end of the process is raised."""
    out, err, code = _Terminalless(), _Terminalless(), -1
    with redirect_stdout(out), redirect_stderr(err), standard_input(stdin):
        try:
            main.main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else -1
    return Outcome(code=code, out=out.text, err=err.text)


def environment(**more: str) -> dict[str, str]:
    """That of a process of its own: this source, one thread, no colours."""
    own = {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"} | own | more


def start(*arguments: str | Path, **more: str) -> subprocess.Popen[str]:
    """`epigone ARGUMENTS` in a process of its own, its output in pipes; `more` are variables of its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "epigone", *map(str, arguments)],
        env=environment(**more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 120) -> Outcome:
    """Wait until a process has ended."""
    out, err = process.communicate(timeout=seconds)
    return Outcome(code=process.returncode, out=out, err=err)


@contextmanager
def _killing_after(process: subprocess.Popen[str], seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def wait_for_line(process: subprocess.Popen[str], beginning: str, seconds: float = 60) -> str:
    """The first line of its standard output that begins so."""
    assert process.stdout is not None
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with _killing_after(process, ends - time.monotonic()):  # reading would wait for ever for one that is silent
            line = process.stdout.readline()
        if line.startswith(beginning):
            return line
        if not line and process.poll() is not None:
            break
    raise AssertionError(f"no line began with {beginning!r}")


def hash_tree(folder: Path) -> dict[str, str]:
    """The hash of every file in a folder, by its name there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_one(path) for path in files}


def hash_one(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sonnets(n_characters: int) -> str:
    """The beginning of the sonnets."""
    return SONNETS.read_text("utf-8")[:n_characters]


def write_sonnets(folder: Path, n_characters: int = 4_000, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_text(sonnets(n_characters), "utf-8")
    return path


@cache
def workshop() -> Path:
    """A folder of this process that lives as long as the tests do."""
    folder, owner = Path(tempfile.mkdtemp(prefix="epigone-tests-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # since Python 3.13 a fork comes here, too, when it ends
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def make_once(name: str, make: Callable[[Path], object]) -> Path:
    """What `make` puts at a path, for all processes of pytest-xdist: the first that needs it makes it.

    All tests may read it and none may change it.
    """
    place = Path(os.environ["EPIGONE_TESTS_SHARED"]) / name
    finished = place.with_name(f"{place.name}.made")
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not finished.exists():
            shutil.rmtree(place, ignore_errors=True)  # what a failure may have left
            make(place)
            finished.touch()
    return place


@cache
def train_once() -> tuple[Run, Outcome]:
    """A run on 12 KB of the sonnets that all tests may read and none may change, and what the command said."""
    folder = make_once("shared", _train_in)
    return open_run(folder / "run"), Outcome(**json.loads((folder / "outcome.json").read_text("utf-8")))


def _train_in(folder: Path) -> None:
    folder.mkdir()
    text = write_sonnets(folder, 12_000, "sonnets.txt")
    flags: Sequence[str] = (
        *("--size", "2x64", "--epochs", "6", "--batch-size", "4", "--block-size", "64", "--precision", "fp32"),
        *("--samples", "1", "--sample-length", "40", "--sample-prompt", "From fairest", "--sample-prompt", ""),
    )
    with real_pictures(), real_judgement():
        outcome = command("train", text, "--out", folder / "run", "--base", "none", *flags)
    (folder / "outcome.json").write_text(json.dumps(asdict(outcome)), "utf-8")


def shared_run() -> Run:
    """The run of `train_once`."""
    return train_once()[0]


def prepare_run(text: Path, out: Path, settings: TrainSettings) -> RunFolder:
    """A run in which everything but the first step has been done."""
    events = run_training([str(text)], settings, out)
    planned = next(events)
    assert isinstance(planned, Planned)
    events.close()  # type: ignore[attr-defined]
    return planned.folder


@cache
def early_sonnets() -> Path:
    """A text that `standin.hub_root`'s gpt2 has not learned from."""
    path = workshop() / "early.txt"
    path.write_text(sonnets(12_000), "utf-8")
    return path
