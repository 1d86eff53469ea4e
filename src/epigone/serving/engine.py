"""The model thread: computes for all requests, their texts decoded together; a new one joins at the next token.

Requests wait in line where there are more texts than are decoded at once. Each gets what it gets alone: its random
numbers, guards and stop conditions are its own (`Generation`), and the sums of one text do not depend on the texts
beside it (`GenerationBatch`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

import torch

from epigone.generation.batch import DrawnToken, Generation, GenerationBatch, StreamedText
from epigone.model.decoder import Decoder

MOST_ROWS = 20
"""Texts that are decoded at once. From 24 on Int8Linear computes otherwise, and more at once were hardly faster."""
MOST_PER_STEP = 4
"""Texts that join at one step, so that reading their prompts does not hold up the others for long."""
TOGETHER_SECONDS = 0.02
"""For so long the tokens of running texts are kept, and then passed on together."""
RECENT = 50
"""Steps from which the speed is estimated."""
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TextStep:
    """What one step gave a request: tokens, text, and whether this generation has ended."""

    generation: int
    drawn: list[DrawnToken]
    pieces: list[StreamedText]
    done: bool


class Task:
    """What a request wants from the model thread: generations of one decoder, or slices of other work."""

    def __init__(
        self,
        decoder: Decoder | None = None,
        generations: Sequence[Generation] = (),
        slices: Iterator[object] | None = None,
        deadline: float = math.inf,
    ) -> None:
        """`deadline`: of `time.monotonic`; texts then end where they are, and what has not begun fails."""
        self.decoder, self.generations, self.slices = decoder, list(generations), slices
        self.events: asyncio.Queue[TextStep | BaseException | object] = asyncio.Queue()
        """What the model thread has done, in order; None is the end, an exception a failure."""
        self.waiting = deque(enumerate(self.generations))
        self.n_left = len(self.generations)
        self.deadline, self.cancelled, self.was_told = deadline, False, False


@dataclass(slots=True)
class EngineCounts:
    """What the model thread has done, for /metrics."""

    tokens: int = 0
    steps: int = 0
    busy_seconds: float = 0.0
    failures: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))

    def count(self, seconds: float, n_tokens: int) -> None:
        """One step more."""
        self.tokens += n_tokens
        self.steps += 1
        self.busy_seconds += seconds
        self.recent.append((seconds, n_tokens))

    @property
    def tokens_per_second(self) -> float:
        """Of the last steps; 0 before the first."""
        seconds = sum(each for each, _ in self.recent)
        return sum(n for _, n in self.recent) / seconds if seconds else 0.0


class Engine:
    """The model thread and the line in front of it."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self.most_rows = most_rows
        self.counts = EngineCounts()
        self._condition = Condition()
        self._new: deque[Task] = deque()
        """Tasks that have generations that wait."""
        self._slicing: deque[Task] = deque()
        self._batches: dict[int, tuple[Decoder, GenerationBatch]] = {}
        self._owners: dict[Generation, tuple[Task, int]] = {}
        self._untold: list[tuple[Task, Any]] = []
        self._told = 0.0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = Thread(target=self._run, name="epigone-model", daemon=True)

    def start(self) -> None:
        """Begin to compute, for tasks of the event loop that is running."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """End the thread after its step; tasks that are left get no more events."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def submit(self, task: Task) -> None:
        """Let a task begin with the next step, or as soon as there is room."""
        with self._condition:
            (self._slicing if task.slices is not None else self._new).append(task)
            self._condition.notify()

    def cancel(self, task: Task) -> None:
        """Give up a task, done or not: at the next step its texts are gone."""
        with self._condition:
            task.cancelled = True
            self._condition.notify()

    def end_all(self) -> None:
        """Let all texts end where they are."""
        with self._condition:
            for task in (*self._new, *self._slicing, *(task for task, _ in self._owners.values())):
                task.deadline = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def n_rows(self) -> int:
        """Texts that are being decoded."""
        return sum(generation.count for generation in list(self._owners))

    @property
    def n_waiting(self) -> int:
        """Requests that have texts which wait."""
        return len(self._new)

    # -- the thread

    @torch.inference_mode()
    def _run(self) -> None:
        while self._wait():
            try:
                outgoing = self._compute()
            except Exception as error:  # the thread has to go on, whatever it is
                LOG.exception("the model thread failed")
                outgoing = [lost for key in list(self._batches) for lost in self._fail(key, error)]
            self._tell(outgoing)

    def _compute(self) -> list[tuple[Task, Any]]:
        """One step of all texts, and one slice of other work; what is to be told of them."""
        self._drop_cancelled()
        outgoing = self._drop_late()
        self._admit()
        for key in list(self._batches):
            outgoing += self._step(key)
        return outgoing + self._do_slice()

    def _wait(self) -> bool:
        """Whether there is work, as soon as there is; not any more once it is closed."""
        with self._condition:
            while not (self._closing or self._new or self._owners or self._slicing):
                self._condition.wait()
            return not self._closing

    def _drop_cancelled(self) -> None:
        with self._condition:
            self._new = deque(task for task in self._new if not task.cancelled)
            self._slicing = deque(task for task in self._slicing if not task.cancelled)
        for generation, (task, _) in list(self._owners.items()):
            if task.cancelled:
                self._remove(generation, task)

    def _drop_late(self) -> list[tuple[Task, Any]]:
        """Give up tasks of which something still waits when their time is over."""
        now = time.monotonic()
        with self._condition:
            late = [task for task in (*self._new, *self._slicing) if task.deadline < now]
            for task in late:
                task.cancelled = True
        if late:
            self._drop_cancelled()
        return [(task, TimeoutError()) for task in late]

    def _remove(self, generation: Generation, task: Task) -> None:
        key = id(task.decoder)
        del self._owners[generation]
        _, batch = self._batches[key]
        batch.remove(generation)
        if not batch.generations:
            del self._batches[key]

    def _admit(self) -> None:
        """Let texts join, one of each request in turn, while there is room."""
        room, n_joined = self.most_rows - self.n_rows, 0
        while self._new and n_joined < MOST_PER_STEP:
            task = self._new[0]
            number, generation = task.waiting[0]
            if generation.count > room and self._owners:
                return
            with self._condition:
                task.waiting.popleft()
                self._new.popleft()
                if task.waiting:
                    self._new.append(task)
            assert task.decoder is not None
            _, batch = self._batches.setdefault(id(task.decoder), (task.decoder, GenerationBatch(task.decoder)))
            batch.add(generation)
            self._owners[generation] = task, number
            room -= generation.count
            n_joined += 1

    def _step(self, key: int) -> list[tuple[Task, Any]]:
        _, batch = self._batches[key]
        started = time.perf_counter()
        try:
            batch.step()
        except Exception as error:  # whatever it is, the other requests go on
            LOG.exception("a step of the model failed")
            return self._fail(key, error)
        outgoing: list[tuple[Task, Any]] = []
        n_tokens = 0
        for generation in batch.generations:
            task, number = self._owners[generation]
            n_tokens += len(generation.drawn)
            done = generation.is_done or task.deadline < time.monotonic()
            pieces = generation.pieces + (list(generation.finish()) if done else [])
            outgoing.append((task, TextStep(number, generation.drawn, pieces, done)))
            if done:
                self._remove(generation, task)
                task.n_left -= 1
                if not task.n_left:
                    outgoing.append((task, None))
        self.counts.count(time.perf_counter() - started, n_tokens)
        return outgoing

    def _fail(self, key: int, error: Exception) -> list[tuple[Task, Any]]:
        """Give up all texts of a batch."""
        self.counts.failures += 1
        self._batches.pop(key, None)
        lost = {each: task for each, (task, _) in self._owners.items() if id(task.decoder) == key}
        for generation in lost:
            del self._owners[generation]
        tasks = set(lost.values())
        for task in tasks:
            task.cancelled = True
        return [(task, error) for task in tasks]

    def _do_slice(self) -> list[tuple[Task, Any]]:
        """One slice of the work of the task that has waited longest."""
        if not self._slicing:
            return []
        with self._condition:
            task = self._slicing.popleft()
        assert task.slices is not None
        try:
            result = next(task.slices)
        except StopIteration:
            return [(task, None)]
        except Exception as error:  # see above
            LOG.exception("a request's work failed")
            self.counts.failures += 1
            return [(task, error)]
        with self._condition:
            self._slicing.append(task)
        return [(task, result)]

    def _tell(self, outgoing: list[tuple[Task, Any]]) -> None:
        """Pass on what was done: the first words of a text and its end at once, the rest a little later, together.

        Each time the event loop runs, this thread has to wait for it.
        """
        self._untold += outgoing
        now = time.monotonic()
        at_once = any(not task.was_told or not isinstance(event, TextStep) for task, event in outgoing)
        if at_once or now - self._told >= TOGETHER_SECONDS or not (self._owners or self._slicing or self._new):
            for task, _ in outgoing:
                task.was_told = True
            if self._untold and self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_deliver, self._untold)
            self._untold, self._told = [], now


def _deliver(outgoing: list[tuple[Task, Any]]) -> None:
    for task, event in outgoing:
        task.events.put_nowait(event)
