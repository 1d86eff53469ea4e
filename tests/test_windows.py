"""What differs on Windows, shown here by taking away what it lacks: modules, calls, and files that can be replaced."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from epigone import files, hardware
from epigone.cli import train
from epigone.errors import OutputError
from epigone.serving.server import bind
from helpers_front import environment, write_sonnets

LIKE_WINDOWS = """
import asyncio, os, signal, socket, sys
import accelerate, filelock, matplotlib.figure, peft, psutil, torch, transformers  # their own matter
from torch._inductor import config

MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "termios", "tty", "pty")
CALLS = ("fork", "forkpty", "getuid", "geteuid", "getloadavg", "sched_getaffinity", "fchmod", "mkfifo", "uname",
         "killpg", "O_NOFOLLOW", "O_DIRECTORY", "setsid", "chown")
for name in MODULES:
    sys.modules[name] = None
for name in CALLS:
    delattr(os, name)
for module in [module for module in sys.modules if module.startswith("epigone")]:
    raise SystemExit(f"{module} was already loaded")
import epigone.files
epigone.files.WINDOWS = True
class Memory:
    peak_wset = 300_000_000
psutil.Process.memory_info = lambda self: Memory
opened = os.open
def refuse_folders(path, flags, *more, **others):  # as Windows does
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return opened(path, flags, *more, **others)
os.open = refuse_folders
from epigone.cli.main import run
for line in sys.argv[1:]:
    code = run(line.split("|"))
    if code:
        raise SystemExit(code)
"""


@pytest.mark.slow
def test_training_resuming_and_writing_need_nothing_that_windows_lacks(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path)
    small = "--size|1x32|--block-size|64|--batch-size|16|--samples|1|--sample-length|8|--base|none"
    lines = [
        f"train|{text}|--out|{tmp_path / 'run'}|--epochs|0.5|{small}",
        f"resume|{tmp_path / 'run'}|--epochs|1",
        f"write|{tmp_path / 'run'}|--length|8",
        f"report|{tmp_path / 'run'}",
    ]
    command = [sys.executable, "-c", LIKE_WINDOWS, *lines]
    variables = environment(EPIGONE_KERNEL="off")  # Windows is not "posix", which alone compiles it
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "report.html").exists()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(files, "PAUSES", (0.001,) * 5)


def hold(monkeypatch: pytest.MonkeyPatch, n_times: int) -> list[Path]:
    """As if a virus scanner held a file while it is renamed so many times; what was tried."""
    tried: list[Path] = []
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        tried.append(self)
        if len(tried) <= n_times:
            raise PermissionError(13, "The process cannot access the file", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    return tried


def test_a_file_that_is_held_for_a_moment_is_replaced(windows, monkeypatch, tmp_path):
    path = files.write_bytes(tmp_path / "a", b"before")
    tried = hold(monkeypatch, 3)
    files.write_bytes(path, b"after")
    assert path.read_bytes() == b"after" and len(tried) == 4


def test_a_file_that_stays_held_is_one_error_and_keeps_its_content(windows, monkeypatch, tmp_path):
    path = files.write_bytes(tmp_path / "a", b"before")
    hold(monkeypatch, 100)
    with pytest.raises(OutputError, match="cannot be written"):
        files.write_bytes(path, b"after")
    assert path.read_bytes() == b"before" and [one.name for one in tmp_path.iterdir()] == ["a"]


def test_elsewhere_it_is_tried_once(monkeypatch, tmp_path):
    tried = hold(monkeypatch, 1)
    with pytest.raises(OutputError):
        files.write_bytes(tmp_path / "a", b"")
    assert len(tried) == 1


def test_folders_are_not_flushed_and_files_are_opened_for_writing_to_be_flushed(windows, monkeypatch, tmp_path):
    opened: list[tuple[Path, int]] = []
    open_one = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *more: opened.append((path, flags)) or open_one(path, flags))
    (tmp_path / "a").write_bytes(b"")
    files.flush(tmp_path)
    files.flush(tmp_path / "a")
    assert opened == [(tmp_path / "a", os.O_RDWR)]


def test_permissions_are_left_alone(windows, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fchmod", None)
    monkeypatch.delattr(os, "O_NOFOLLOW")  # Python 3.13 has the first of them there and not the second
    files.write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


def test_a_junction_counts_as_a_link(monkeypatch, tmp_path):
    assert not files.is_link(tmp_path)
    monkeypatch.setattr(os.path, "isjunction", lambda path: path == tmp_path, raising=False)
    assert files.is_link(tmp_path)


def test_the_peak_of_memory_is_asked_of_the_system(monkeypatch):
    usual = hardware.find_peak_memory("cpu")
    assert 10_000_000 < usual < 1_000_000_000_000

    class Memory:
        peak_wset = 12345

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: Memory)
    assert hardware.find_peak_memory("cpu") == 12345


def test_no_second_program_can_take_the_port_over(monkeypatch):
    options: list[int] = []
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)

    class Listening(socket.socket):
        def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
            options.append(option)

    monkeypatch.setattr(socket, "socket", Listening)
    bind("127.0.0.1", 0).socket.close()
    assert options == [-5]


def test_a_closed_window_ends_training_as_a_closed_terminal_does():
    assert {"SIGHUP", "SIGBREAK"} & set(signal.Signals.__members__) == {one.name for one in train.HANGUPS}
