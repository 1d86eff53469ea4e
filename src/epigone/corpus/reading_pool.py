"""Reading of many files by several processes, in the order of the files, with the same results as by one.

The processes are programs of their own, `python -m epigone.corpus.reading_pool`, that are told over pipes what to read:
they work whatever program has imported epigone and whatever threads run there, and end with it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from epigone.corpus.readers.archives import ENDINGS as ARCHIVES
from epigone.corpus.readers.speakers import Speakers
from epigone.errors import EpigoneError
from epigone.settings import ReadSettings

if TYPE_CHECKING:
    from epigone.corpus.corpus import Document
    from epigone.corpus.sources import Source

SECONDS_PER_FILE, SECONDS_PER_MB = 0.0004, 0.06
"""What reading takes, on one core of 2023."""
LEAST_SECONDS = 4.0
"""Of work: less is done before other processes have started, which takes about a second."""
SECONDS_PER_PROCESS = 1.5
"""Of work for each process at least."""
MOST_PROCESSES = 16
MOST_FILE_BYTES = 1 << 24
"""A larger file is read by this process, which puts long texts on the disk while it reads."""
BATCH_FILES, BATCH_BYTES = 200, 1 << 20
BATCHES_AHEAD = 3
"""For each process, so that each has work, and results do not fill the memory."""
MODULE = "epigone.corpus.reading_pool"


@dataclass(slots=True)
class FileResult:
    """What became of one file."""

    documents: list[Document] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Reasons for what is in it and was not read."""
    unread: list[str] = field(default_factory=list)
    speakers: Speakers = field(default_factory=Speakers)
    error: EpigoneError | None = None
    is_own: bool = True
    """Whether this process has read it, and noted what was skipped in it."""


ReadFile = Callable[["Source"], FileResult]


def read_all(sources: Sequence[Source], settings: ReadSettings, read_file: ReadFile) -> Iterator[FileResult]:
    """The result for each source, in their order. `read_file` reads one in this process.

    Other processes help if there is enough to do for them.
    """
    n_processes = count_processes(sources)
    if n_processes < 2:
        yield from map(read_file, sources)
        return
    pool = _Pool(n_processes, settings)
    try:
        yield from pool.read(sources, read_file)
    finally:
        pool.close()


def count_processes(sources: Sequence[Source]) -> int:
    """How many processes reading these files is worth; 1 for this one alone."""
    shared = [source for source in sources if _can_be_sent(source)]
    seconds = SECONDS_PER_FILE * len(shared) + SECONDS_PER_MB * sum(source.n_bytes for source in shared) / 1e6
    if seconds < LEAST_SECONDS or not sys.executable:
        return 1
    return min(_count_idle_cores(), int(seconds / SECONDS_PER_PROCESS), MOST_PROCESSES)


def _count_idle_cores() -> int:
    """Of the cores that this process may use, those that have nothing to do, with this process's own."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, n_cores - max(0, round(load) - 1))


def _can_be_sent(source: Source) -> bool:
    """Whether another process can read it: archives may have long texts in them, which are not held in memory."""
    path = source.path
    return path is not None and source.n_bytes <= MOST_FILE_BYTES and path.suffix.lower() not in ARCHIVES


def _make_batches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Files that follow each other; one that is not sent is alone."""
    batch: list[Source] = []
    n_bytes = 0
    for source in sources:
        alone = not _can_be_sent(source)
        if batch and (alone or len(batch) >= BATCH_FILES or n_bytes >= BATCH_BYTES):
            yield batch
            batch, n_bytes = [], 0
        if alone:
            yield [source]
            continue
        batch.append(source)
        n_bytes += source.n_bytes
    if batch:
        yield batch


class _Pool:
    """Processes, each with a thread that waits for its answers."""

    def __init__(self, n_processes: int, settings: ReadSettings) -> None:
        self.settings, self.n_processes = settings, n_processes
        self._threads = ThreadPoolExecutor(n_processes, thread_name_prefix="reading")
        self._own, self._workers = threading.local(), list[subprocess.Popen[bytes]]()

    def read(self, sources: Sequence[Source], read_file: ReadFile) -> Iterator[FileResult]:
        """The result for each source, in their order."""
        waiting: deque[tuple[list[Source], Future[list[FileResult] | None] | None]] = deque()
        for batch in _make_batches(sources):
            future = self._threads.submit(self._ask, batch) if _can_be_sent(batch[0]) else None
            waiting.append((batch, future))
            if len(waiting) > BATCHES_AHEAD * self.n_processes:
                yield from _wait(*waiting.popleft(), read_file)
        while waiting:
            yield from _wait(*waiting.popleft(), read_file)

    def _ask(self, batch: Sequence[Source]) -> list[FileResult] | None:
        """What the process of this thread answers; None if it has ended, for example because it needed much memory."""
        worker = getattr(self._own, "worker", None)
        try:
            if worker is None:
                worker = self._own.worker = self._start()
            assert worker.stdin is not None and worker.stdout is not None
            asked = [(str(source.path), source.name, source.named, source.listed) for source in batch]
            pickle.dump(asked, worker.stdin)
            worker.stdin.flush()
            return cast(list[FileResult], pickle.load(worker.stdout))
        except (OSError, EOFError, pickle.UnpicklingError, ValueError):
            self._own.worker = None
            return None

    def _start(self) -> subprocess.Popen[bytes]:
        paths = os.pathsep.join(path for path in sys.path if path)
        worker = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._workers.append(worker)
        assert worker.stdin is not None
        pickle.dump(self.settings, worker.stdin)
        return worker

    def close(self) -> None:
        """End all processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown()
        for worker in self._workers:
            with suppress(OSError):
                worker.communicate()


def _wait(
    batch: Sequence[Source], future: Future[list[FileResult] | None] | None, read_file: ReadFile
) -> Iterator[FileResult]:
    """The results of a batch; files that no other process has read are read by this one."""
    found = future.result() if future is not None else None
    yield from found if found is not None and len(found) == len(batch) else map(read_file, batch)


# -- the other process


def serve(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Read what is asked for, until the pipe is closed."""
    from epigone.corpus.corpus import collecting_seldom, open_small_files, read_alone
    from epigone.corpus.sources import make_file_source

    settings = pickle.load(stdin)
    small = open_small_files(settings)
    while True:
        try:
            asked = pickle.load(stdin)
        except EOFError:
            return
        with collecting_seldom():
            results = [
                read_alone(make_file_source(Path(path), name, named=named, listed=listed), settings, small=small)
                for path, name, named, listed in asked
            ]
        if small is not None:
            small.write()
        pickle.dump(results, stdout)
        stdout.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):  # the process that asks ends this one
        serve(sys.stdin.buffer, sys.stdout.buffer)
