"""Closed or full output, too long names, Ctrl-C before training: one clear line, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from epigone import pipeline
from epigone.cli import main, train
from helpers_front import TINY, command, environment, hash_tree, shared_run, write_sonnets

LONG = "x" * 256
FULL = Path("/dev/full")


def in_shell(line: str) -> subprocess.CompletedProcess[str]:
    """What `epigone` and the rest of the line do in a shell."""
    line = f'exec "{sys.executable}" -m epigone {line}'
    return subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, text=True, check=False)


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["version"],
        ["write", "RUN", "--length", "3"],
        ["write", "RUN", "--length", "3", "--count", "2"],
        ["write", "RUN", "--length", "3", "--json"],
        ["score", "RUN", "TEXT"],
        ["judge", "TEXT", "--author", "TEXT"],
        ["plan", "TEXT", *TINY],
        ["report", "RUN"],
    ],
    ids=" ".join,
)
def test_a_full_standard_output_is_one_clear_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "report":
        arguments = [*arguments, "--out", str(tmp_path / "page.html")]
    places = {"RUN": str(shared_run().folder.path), "TEXT": str(write_sonnets(tmp_path))}
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main.main([places.get(word, word) for word in arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: Standard output cannot be written to: No space left on device.\n"


@pytest.mark.skipif(not FULL.exists(), reason="the system has no /dev/full")
def test_training_goes_on_with_a_full_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_sonnets(tmp_path)
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main.main(["train", str(text), *map(str, TINY), "--out", str(tmp_path / "run")])
    assert ended.value.code == 0 and (tmp_path / "run/report.html").exists()


def test_a_closed_standard_output_is_one_clear_error() -> None:
    for line in ("--help >&-", "version >&-"):
        done = in_shell(line)
        assert (done.returncode, done.stderr) == (
            2,
            "error: Standard output cannot be written to: Bad file descriptor.\n",
        )


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library prints on a closed standard output would otherwise end up in the next file that is opened."""
    program = f"""
import sys
from epigone.cli.main import open_closed_streams
open_closed_streams()
with open({str(tmp_path / "file")!r}, "w") as file:
    file.write(f"{{file.fileno() > 2}} {{sys.stdin.read()!r}} {{sys.stderr.write('lost')}}")
"""
    line = f'exec "{sys.executable}" "{tmp_path / "program.py"}" <&- >&- 2>&-'
    (tmp_path / "program.py").write_text(program)
    assert subprocess.run(["sh", "-c", line], env=environment(), check=False).returncode == 0
    assert (tmp_path / "file").read_text() == "True '' 4"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", LONG],
        ["train", "TEXT", "--out", LONG],
        ["train", "TEXT", "--settings", LONG],
        ["resume", LONG],
        ["write", LONG],
        ["write", "--base", LONG],
        ["score", LONG, "TEXT"],
        ["judge", LONG],
        ["report", LONG],
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
def test_a_name_that_is_too_long_is_one_clear_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = write_sonnets(tmp_path)
    done = command(*(str(text) if word == "TEXT" else word for word in arguments))
    assert done.code == 2 and "ile name too long" in done.err, done.err


# -- before training has begun


@pytest.fixture
def interrupts_are_heard() -> Iterator[None]:
    """As at a terminal, also if these tests run in the background, where a shell ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_are_heard")
def test_one_signal_before_training_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "prepare", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    done = command("train", write_sonnets(tmp_path), "--out", tmp_path / "a/run")
    assert (done.code, done.err) == (train.INTERRUPTED, "\nInterrupted.\n")
    assert not (tmp_path / "a").exists()


def test_a_run_that_cannot_begin_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out in ((), ("--out", "empty")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        before = hash_tree(tmp_path)
        assert command("train", "nosuch.txt", *out).code == 2
        assert hash_tree(tmp_path) == before and not (tmp_path / "runs").exists()


def test_what_else_is_in_the_folder_stays_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        (tmp_path / "run/mine.txt").write_text("mine")
        raise MemoryError

    monkeypatch.setattr(pipeline, "prepare", fail)
    assert command("train", write_sonnets(tmp_path), "--out", tmp_path / "run").code == 1
    assert (tmp_path / "run/mine.txt").read_text() == "mine" and (tmp_path / "run/settings.toml").exists()


# -- Python's own switches


def test_training_without_docstrings_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Flags:
        optimize = 2

    monkeypatch.setattr(sys, "flags", Flags)
    for arguments in (["train", write_sonnets(tmp_path)], ["resume", shared_run().path]):
        done = command(*arguments)
        assert done.code == 2 and "python -OO" in done.err


def in_little_space(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What `epigone` does where a process may take a gigabyte of address space."""
    line = f'ulimit -v 1000000; exec "{sys.executable}" -m epigone {line}'
    return subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, text=True, cwd=folder)


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
@pytest.mark.parametrize("line", ["train text.txt --minutes 0.1", "write RUN", "plan text.txt"])
def test_a_limit_below_what_torch_needs_is_one_clear_error(line: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("It was a day like any other. " * 400, "utf-8")
    done = in_little_space(line.replace("RUN", str(shared_run().folder.path)), tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: This process is limited to 1.0 GB of address space")
    assert "ulimit -v unlimited" in done.stderr and len(done.stderr.splitlines()) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "text.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_help_works_under_that_limit(tmp_path: Path) -> None:
    done = in_little_space("--help", tmp_path)
    assert done.returncode == 0, done.stderr
