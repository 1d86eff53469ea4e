"""What is interrupted goes on as if nothing had been; two processes make one run; a terminal is left as it was."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import epigone
from epigone.runs.checkpoints import find_fault
from helpers_front import (
    Outcome,
    command,
    environment,
    finish,
    hash_one,
    start,
    wait_for_line,
    workshop,
    write_sonnets,
)
from helpers_processes import fork_command

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals, terminals and gloo as Unix has them")
FLAGS = ("--size", "1x32", "--epochs", "8", "--block-size", "64", "--batch-size", "4", "--dropout", "0.1")
FLAGS = (*FLAGS, "--samples", "0", "--base", "none", "--patience", "none")


@cache
def text() -> Path:
    return write_sonnets(workshop(), 6_000, "processes.txt")


def weights_of(run: Path) -> str:
    return hash_one(run / "model" / "model.safetensors")


@cache
def uninterrupted() -> Path:
    """The run that the others should come to."""
    run = workshop() / "uninterrupted"
    assert command("train", text(), *FLAGS, "--quiet", "--out", run).code == 0
    return run


def interrupt(run: Path, number: int) -> Outcome:
    """Train in a process of its own and send it a signal after its first evaluation."""
    process = start("train", text(), *FLAGS, "--out", run)
    wait_for_line(process, "epoch ")
    process.send_signal(number)
    return finish(process)


def interrupt_forked(run: Path, number: int) -> Outcome:
    """The same in a forked process."""
    command = fork_command(run.with_name("printed"), "train", text(), *FLAGS, "--out", run)
    command.wait_for_line("epoch ")
    os.kill(command.process.pid, number)
    return command.finish()


def is_as_uninterrupted(run: Path) -> bool:
    """Whether the numbers of every evaluation and the weights are the same, bit for bit."""
    ours, theirs = ([item.loss for item in epigone.open_run(one).evaluations] for one in (run, uninterrupted()))
    return ours == theirs and weights_of(run) == weights_of(uninterrupted())


@pytest.mark.parametrize(
    ("send", "number"),
    [
        (interrupt_forked, signal.SIGINT),
        pytest.param(interrupt, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(interrupt, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_is_saved_and_goes_on_to_the_same_end(
    tmp_path: Path, send: Callable[[Path, int], Outcome], number: int
) -> None:
    run = tmp_path / "run"
    outcome = send(run, number)
    assert outcome.code == 130 and "Traceback" not in outcome.err
    assert f"Saved. To continue: epigone resume {run}" in outcome.out
    *_, newest = sorted((run / "checkpoints").iterdir())
    assert find_fault(newest) is None
    assert len(epigone.open_run(run).evaluations) < 8
    resumed = command("resume", run)
    assert resumed.code == 0 and "Continuing after step" in resumed.out
    assert is_as_uninterrupted(run)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert interrupt(run, signal.SIGKILL).code == -signal.SIGKILL
    assert command("resume", run, "--quiet").code == 0
    assert is_as_uninterrupted(run)


@pytest.mark.slow
def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    """The first is given while one very long step is computed."""
    flags = (
        "--size",
        "4x256",
        "--epochs",
        "50",
        "--block-size",
        "128",
        "--batch-size",
        "4",
        "--gradient-accumulation",
        "400",
    )
    code = (
        "import sys, epigone.cli.main as cli, epigone.preparation as preparing\n"
        "preparing.measure_speed = lambda *_, **__: preparing.Estimate(\n"
        "    seconds_per_step=1, seconds_per_evaluation=1, n_evaluations=1, seconds=1, memory_bytes=1)\n"
        "cli.main(sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", text(), *flags, "--base", "none", "--out", tmp_path / "run"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_line(process, "Training:")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    wait_for_line(process, "Stopping after this step; press Ctrl-C again")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode in (130, -signal.SIGINT) and time.monotonic() - began < 2


@pytest.mark.slow
def test_an_interrupt_while_the_text_is_read_ends_it_at_once(tmp_path: Path) -> None:
    """The text comes from a pipe in which nothing is."""
    run = tmp_path / "run"
    process = start("train", "-", *FLAGS, "--out", run)
    ends = time.monotonic() + 60
    while not (run / "settings.toml").exists() and time.monotonic() < ends:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    code, (_, err) = process.wait(timeout=30), process.communicate()
    assert (code, err.strip()) == (130, "Interrupted.")
    assert not run.exists(), "nothing was learned yet"


@pytest.mark.slow
def test_two_processes_started_by_torchrun_make_one_good_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "epigone"]
    flags = ("--size", "1x32", "--epochs", "0.5", "--block-size", "64", "--batch-size", "4", "--base", "none")
    done = subprocess.run(
        [sys.executable, *launch, "train", text(), *flags, "--device", "cpu", "--samples", "1", "--out", run],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Plan\n") == 1 and done.stdout.count("Training:") == 1
    assert "4 blocks, 2 of them in each of 2 processes" in done.stdout
    evaluations = epigone.open_run(run).evaluations
    assert [item.step for item in evaluations] == sorted({item.step for item in evaluations})
    assert epigone.open_run(run).write(length=5)


# -- a terminal


def watch_in_terminal(*arguments: str | Path, interrupt_after: str = "") -> tuple[int, str, bool]:
    """Exit code, what the terminal got, and whether its settings were as before."""
    import fcntl
    import struct
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-m", "epigone", *map(str, arguments)],
        env=environment(TERM="xterm-256color"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    got, sent, ends = b"", False, time.monotonic() + 120
    while time.monotonic() < ends:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            got += os.read(master, 65_536)
        elif process.poll() is not None:
            break
        if interrupt_after and not sent and interrupt_after in got.decode("utf-8", "replace"):
            process.send_signal(signal.SIGINT)
            sent = True
    sane = termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    return process.wait(timeout=30), got.decode("utf-8"), sane


def is_cursor_visible(got: str) -> bool:
    return got.rfind("\x1b[?25h") >= got.rfind("\x1b[?25l")


@pytest.mark.slow
def test_a_terminal_sees_progress_and_is_left_as_it_was(tmp_path: Path) -> None:
    code, got, sane = watch_in_terminal("train", text(), *FLAGS, "--out", tmp_path / "run")
    assert code == 0 and sane and is_cursor_visible(got)
    assert re.search(r"\d+ %.*step [\d,]+ of \d+", got) and "tokens/s" in got
    assert "\x1b[?25l" in got and "Trained for" in got and "\x1b[?1049h" not in got
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", got)
    assert all(len(line) <= 100 for part in plain.split("\n") for line in part.split("\r"))


@pytest.mark.slow
def test_an_interrupted_terminal_is_left_as_it_was(tmp_path: Path) -> None:
    code, got, sane = watch_in_terminal("train", text(), *FLAGS, "--out", tmp_path / "run", interrupt_after="tokens/s")
    assert code == 130 and sane and is_cursor_visible(got) and "epigone resume" in got


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_not_an_error() -> None:
    """As `epigone write … | head -c 10` closes the pipe."""
    run = shutil.copytree(uninterrupted(), workshop() / "for-head", dirs_exist_ok=True)
    process = start("write", run, "--length", "3000")
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    process.stdin.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0 and err == ""
