"""Leases: which of many processes does which task, agreed on in a folder that they share, without waiting for anyone.

A task is claimed by creating a file, which its holder touches while it works. A claim whose holder has ended, or has
not touched it for a minute, is taken over. That a task is then done twice does no harm where it always has the same
result, so nothing has to be exact: not the clocks of hosts, nor a network file system's order.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

STALE_SECONDS = 60.0
"""Without a touch, by the clock of who looks."""
TOUCH_SECONDS = 5.0
POLL_SECONDS = 0.5
"""Between two looks at what others are doing."""
ENDING = ".lease"


def find_nothing() -> Iterable[Path]:
    """What a lost process has left where tasks leave nothing."""
    return ()


class Leases:
    """The claims of this process in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, tuple[int, float]] = {}
        """When a claim of another was last touched, and since when it has been so."""

    @contextmanager
    def claim(self, name: str, find_left: Callable[[], Iterable[Path]] = find_nothing) -> Iterator[bool]:
        """Within it, the task is this process's; False where another one has it.

        Where it is taken over from a lost process, what `find_left` says that it left of the task is deleted.
        Raises OSError.
        """
        path = self.folder / f"{name}{ENDING}"
        if not self._take(path, find_left):
            yield False
            return
        stopped = threading.Event()
        toucher = threading.Thread(target=_keep_touching, args=(path, stopped), daemon=True)
        toucher.start()
        try:
            yield True
        finally:
            stopped.set()
            toucher.join()
            if self.holds(name):
                path.unlink(missing_ok=True)

    def holds(self, name: str) -> bool:
        """Whether this process has the task still: one that was suspended for long may have been taken for lost."""
        with suppress(OSError):
            return (self.folder / f"{name}{ENDING}").read_text("utf-8") == _describe_self()
        return False

    def _take(self, path: Path, find_left: Callable[[], Iterable[Path]]) -> bool:
        for _ in range(2):
            with suppress(FileExistsError):
                with path.open("x", encoding="utf-8") as file:
                    file.write(_describe_self())
                return True
            left = list(find_left()) if self._is_stale(path) else []
            if not self._is_stale(path):  # looked at again: nothing of one that was faster is among what is left
                return False
            aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            with suppress(FileNotFoundError):  # another one was faster
                path.replace(aside)
                for lost in (*left, aside):
                    lost.unlink(missing_ok=True)
        return False

    def _is_stale(self, path: Path) -> bool:
        try:
            touched, holder = path.stat().st_mtime_ns, path.read_text("utf-8")
        except OSError:
            return False
        if _has_ended(holder):
            return True
        before, since = self._seen.get(path.name, (0, 0.0))
        if touched != before:
            self._seen[path.name] = touched, time.monotonic()
            return False
        return time.monotonic() - since > STALE_SECONDS


def _keep_touching(path: Path, stopped: threading.Event) -> None:
    while not stopped.wait(TOUCH_SECONDS):
        with suppress(OSError):  # it may have been taken over while this process was suspended
            os.utime(path)


def _describe_self() -> str:
    return json.dumps({"host": _name_host(), "pid": os.getpid(), "began": psutil.Process().create_time()})


def _name_host() -> str:
    """A name of the machine, or of the container: numbers of processes mean nothing in another one."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {space}"


def _has_ended(holder: str) -> bool:
    """Whether the holder was a process of this machine that is no longer there."""
    try:
        found = json.loads(holder)
        if found["host"] != _name_host():
            return False
        process = psutil.Process(found["pid"])
        return bool(process.create_time() != found["began"] or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except (ValueError, KeyError, TypeError, psutil.Error):  # it is being written
        return False
