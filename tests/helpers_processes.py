"""Processes that are forked from one in which everything is loaded: none of them has to load torch again."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from epigone.cli import main
from helpers_front import Outcome
from helpers_quick import STAND_INS


@cache
def _forks() -> Any:
    """Makes processes from one in which everything is loaded and nothing was done yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers_processes", "helpers_faults", "matplotlib.figure"])
    return context


def fork(target: Callable[..., object], *arguments: Any) -> Any:
    """A process, already started, that calls a function of a module."""
    process = _forks().Process(target=target, args=arguments)
    process.start()
    return process


@dataclass(frozen=True, slots=True)
class ForkedCommand:
    """`epigone ARGUMENTS` in a process of its own; what it prints goes to files in a folder."""

    process: Any
    folder: Path

    def wait_for_line(self, beginning: str, seconds: float = 60) -> None:
        """Wait until a line of its standard output begins so."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and self.process.is_alive():
            if any(line.startswith(beginning) for line in self._read("out").splitlines()):
                return
            time.sleep(0.002)
        raise AssertionError(f"no line began with {beginning!r}: {self._read('out')}{self._read('err')}")

    def finish(self, seconds: float = 120) -> Outcome:
        """Wait until it has ended."""
        self.process.join(seconds)
        return Outcome(code=self.process.exitcode, out=self._read("out"), err=self._read("err"))

    def _read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text("utf-8") if path.exists() else ""


def fork_command(folder: Path, *arguments: str | Path, **variables: str) -> ForkedCommand:
    """Start a command, with the stand-ins of all tests; `variables` are added to its environment."""
    folder.mkdir()
    process = fork(_run_command, folder, [str(argument) for argument in arguments], variables)
    return ForkedCommand(process, folder)


def _run_command(folder: Path, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    os.environ.update(variables)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8") for number in (1, 2))
    with ExitStack() as stack:
        for stand_in in STAND_INS.values():
            stack.enter_context(stand_in())
        main.main(arguments)
