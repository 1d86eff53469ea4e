"""A terminal that is closed, a connection that drops, a reader that leaves: the run saves, or learns on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import epigone
import epigone.cli.train as learning
from conftest import Reliability
from epigone.cli.terminal import open_screen, show_stages
from epigone.runs.checkpoints import find_fault, list_checkpoints
from helpers_front import command, environment
from test_faults import Silent
from test_processes import FLAGS, is_as_uninterrupted, text

pytestmark = pytest.mark.skipif(os.name == "nt", reason="terminals and signals as Unix has them")
GROUP = "Killed"
WITH_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[1] == "ignored" else signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-m", "epigone", *sys.argv[2:]])
"""
"""A process whose terminal this is, so that it hears when that is closed, as one that a shell starts there does."""


def learn_in_a_terminal_that_closes(run: Path, hangup: str, *more: str) -> int:
    """Close the terminal after the first report, and wait: the exit code."""
    master, slave = os.openpty()
    arguments = ["train", str(text()), *FLAGS, "--out", str(run), *more]
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_TERMINAL, hangup, *arguments],
        env=environment(TERM="xterm-256color"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    read_until(master, b"lower is better")
    os.close(master)
    return process.wait(timeout=600)


def read_until(stream: int, words: bytes, seconds: float = 600) -> None:
    got, ends = b"", time.monotonic() + seconds
    while words not in got:
        assert time.monotonic() < ends, got
        if select.select([stream], [], [], 0.2)[0]:
            piece = os.read(stream, 65_536)
            assert piece, got
            got += piece


@pytest.mark.slow
def test_a_closed_terminal_stops_it_after_the_step_and_it_is_saved(tmp_path: Path, reliability: Reliability) -> None:
    run = tmp_path / "run"
    code = learn_in_a_terminal_that_closes(run, "heard")
    n_evaluations = len(epigone.open_run(run).evaluations)
    newest = list_checkpoints(run / "checkpoints")[0]
    saved = code == 130 and n_evaluations < 8 and find_fault(newest) is None
    resumed = command("resume", run, "--quiet")
    survived = saved and resumed.code == 0 and is_as_uninterrupted(run)
    reliability(GROUP, "SIGHUP: its terminal closed, nothing can be shown", tried=1, survived=int(survived))
    assert survived, (code, n_evaluations)


@pytest.mark.slow
def test_where_hangups_are_ignored_it_learns_on_in_a_dead_terminal(tmp_path: Path, reliability: Reliability) -> None:
    """As nohup starts it."""
    run = tmp_path / "run"
    survived = learn_in_a_terminal_that_closes(run, "ignored") == 0 and is_as_uninterrupted(run)
    reliability(GROUP, "its terminal closed under nohup: it learns on", tried=1, survived=int(survived))
    assert survived


@pytest.mark.slow
def test_a_reader_that_leaves_ends_no_training(tmp_path: Path, reliability: Reliability) -> None:
    """As in `epigone train … | head -1`."""
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "epigone", "train", text(), *FLAGS, "--out", run],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    survived = process.wait(timeout=600) == 0 and err == b"" and is_as_uninterrupted(run)
    reliability(GROUP, "what reads its output ends: it learns on", tried=1, survived=int(survived))
    assert survived, err


# -- what is heard


@pytest.fixture
def hangups_end_it() -> Iterator[None]:
    """As where a terminal starts it, also if these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_end_it")
def test_a_hangup_asks_and_another_ends_nothing() -> None:
    """The shell sends one and the system another when a terminal is closed."""
    for numbers in ([signal.SIGHUP] * 3, [signal.SIGINT, signal.SIGHUP], [signal.SIGTERM, signal.SIGHUP]):
        before = signal.getsignal(signal.SIGHUP)
        with learning.StopSignals(Silent()).caught() as was_stopped:  # type: ignore[arg-type]
            assert not was_stopped()
            for number in numbers:
                os.kill(os.getpid(), number)
            assert was_stopped()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, "that would end it at once"
        assert signal.getsignal(signal.SIGHUP) == before


def test_where_hangups_are_ignored_they_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with learning.StopSignals(Silent()).caught() as was_stopped:  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGHUP)
            assert not was_stopped() and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_line_that_is_being_written_when_the_signal_comes_is_written() -> None:
    class Writing(Silent):
        def show_end(self, _: str) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter>")

    with learning.StopSignals(Writing()).caught() as was_stopped:  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)
        assert was_stopped()


# -- where there is no terminal any more


@pytest.mark.parametrize("kind", ["terminal", "dumb terminal", "pipe"])
def test_no_screen_fails_when_its_terminal_is_gone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python itself, too, writes there when it ends."""
    ours, theirs = os.openpty() if kind.endswith("terminal") else os.pipe()
    monkeypatch.setenv("TERM", "dumb" if kind.startswith("dumb") else "xterm")
    stream, dead = os.fdopen(theirs, "w", encoding="utf-8"), os.dup(theirs)
    with open_screen(quiet=False, json=False, stdout=stream) as screen:
        screen.show_note("The terminal is open.")
        assert b"open" in os.read(ours, 100)
        os.close(ours)
        with pytest.raises(OSError, match=r"Input/output|Broken pipe"):
            os.write(dead, b"nothing")
        screen.show_note("The terminal is gone.")
        screen.show_facts("Plan", [("one", "2", "three")])
        screen.show_warning("This is not shown.")
    os.close(dead)
    stream.write("And the rest.")
    stream.close()


def test_no_bar_fails_when_its_terminal_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    stream = os.fdopen(theirs, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", stream)
    with show_stages(quiet=False) as watch:
        watch("Reading", 1, 10)
        time.sleep(0.3)  # the bar is drawn ten times a second
        assert b"Reading" in os.read(ours, 10_000)
        os.close(ours)
        with pytest.raises(OSError, match=r"Input/output|Broken pipe"):
            os.write(theirs, b"nothing")
        watch("Reading", 2, 10)
        watch("Encoding", 10, 10)
    stream.close()
