"""Processes that are forked from one in which everything is loaded: none of them has to load torch again."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from epigone.cli import main
from helpers_front import Outcome
from helpers_quick import STAND_INS

FORKS = multiprocessing.get_context("forkserver")
"""Makes processes from one in which everything is loaded and nothing was done yet."""
FORKS.set_forkserver_preload(["helpers_processes", "helpers_faults", "epigone.resumption", "matplotlib.figure"])


def fork(target: Callable[..., object], *arguments: Any) -> BaseProcess:
    """A process, already started, that calls a function of a module."""
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    return process


@contextmanager
def in_a_fork(folder: Path, name: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Within, a forked process prints to NAME.out and NAME.err in a folder, and has the stand-ins of all tests."""
    os.environ.update(variables)
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{name}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8") for number in (1, 2))
    torch.set_num_threads(1)
    with ExitStack() as stack:
        for stand_in in STAND_INS.values():
            stack.enter_context(stand_in())
        yield


def read_outcome(process: BaseProcess, folder: Path, name: str) -> Outcome:
    """Of a process that has ended."""
    out, err = ((folder / f"{name}.{kind}").read_text("utf-8") for kind in ("out", "err"))
    return Outcome(code=-1 if process.exitcode is None else process.exitcode, out=out, err=err)


@dataclass(frozen=True, slots=True)
class ForkedCommand:
    """`epigone ARGUMENTS` in a process of its own; what it prints goes to files in a folder."""

    process: BaseProcess
    folder: Path

    def wait_for_line(self, beginning: str, seconds: float = 60) -> None:
        """Wait until a line of its standard output begins so."""
        out, ends = self.folder / "command.out", time.monotonic() + seconds
        while time.monotonic() < ends and self.process.is_alive():
            if out.exists() and f"\n{beginning}" in out.read_text("utf-8"):
                return
            time.sleep(0.002)
        raise AssertionError(f"no line began with {beginning!r}: {out.read_text('utf-8')}")

    def finish(self, seconds: float = 120) -> Outcome:
        """Wait until it has ended."""
        self.process.join(seconds)
        return read_outcome(self.process, self.folder, "command")


def fork_command(folder: Path, *arguments: str | Path) -> ForkedCommand:
    """Start a command in a fork."""
    folder.mkdir()
    return ForkedCommand(fork(_run_command, folder, [str(argument) for argument in arguments]), folder)


def _run_command(folder: Path, arguments: Sequence[str]) -> None:
    with in_a_fork(folder, "command", {}):
        main.main(arguments)
