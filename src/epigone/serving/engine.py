"""The model threads: they compute for all requests, texts decoded together; a new one joins at the next token.

Where the C kernel is, texts are divided between two threads, each of which decodes its own in one batch and waits for
no other: the tokens are drawn by Python, of which one thread runs at a time, and the other one computes meanwhile. A
thread that is alone at work lets the kernel use all cores. Requests wait in line where there are more texts than are
decoded at once. Each gets what it gets alone: its random numbers, guards and stop conditions are its own (`Generation`)
and its sums do not depend on the texts beside it (`GenerationBatch`), so neither on the thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, NamedTuple

import torch

from epigone.generation.batch import DrawnToken, Generation, GenerationBatch
from epigone.hardware import find_hardware
from epigone.model.decoder import Decoder
from epigone.model.kernel import load_kernel, use_threads

MOST_ROWS = 20
"""Texts that are decoded at once. From 24 on Int8Linear computes otherwise, and more at once were hardly faster."""
MOST_THREADS = 2
"""That compute. More were not tried: a third of the time is Python, of which one thread runs at a time."""
MOST_PER_STEP = 4
"""Texts that join at one step, so that reading their prompts does not hold up the others for long."""
TOGETHER_SECONDS = 0.02
"""For so long the tokens of running texts are kept, and then passed on together."""
RECENT = 50
"""Steps from which the speed is estimated."""
LOG = logging.getLogger(__name__)


class TextStep(NamedTuple):
    """What one step, or several, gave a request: tokens, text, and whether this generation has ended."""

    generation: int
    drawn: list[DrawnToken]
    text: str
    done: bool


class Task:
    """What a request wants from the model threads: generations of one decoder, or slices of other work."""

    def __init__(
        self,
        decoder: Decoder | None = None,
        generations: Sequence[Generation] = (),
        slices: Iterator[object] | None = None,
        deadline: float = math.inf,
    ) -> None:
        """`deadline`: of `time.monotonic`; texts then end where they are, and what has not begun fails."""
        self.decoder, self.generations, self.slices = decoder, list(generations), slices
        self._events: dict[object, object] = {}
        """What the model threads have done and was not taken, in order: for a text by its number."""
        self._arrived = asyncio.Event()
        self.waiting = deque(enumerate(self.generations))
        self.n_left = len(self.generations)
        self.deadline, self.cancelled, self.was_told = deadline, False, False

    # -- for the event loop

    def put(self, event: object) -> None:
        """Let something be taken. Steps of a text that wait together become one: each that is taken costs time."""
        key: object = object()
        if isinstance(event, TextStep):
            key, before = event.generation, self._events.get(event.generation)
            if isinstance(before, TextStep):
                event = TextStep(event.generation, before.drawn + event.drawn, before.text + event.text, event.done)
        self._events[key] = event
        self._arrived.set()

    async def take(self) -> object:
        """What the model threads have done, as it comes: steps or slices; None is the end, an exception a failure."""
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        return self._events.pop(next(iter(self._events)))

    @property
    def has_more(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._events)


@dataclass(slots=True)
class EngineCounts:
    """What the model threads have done, for /metrics."""

    tokens: int = 0
    steps: int = 0
    busy_seconds: float = 0.0
    failures: int = 0
    recent: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """When steps began and ended, and their tokens."""

    def count(self, began: float, ended: float, n_tokens: int) -> None:
        """One step more."""
        self.tokens += n_tokens
        self.steps += 1
        self.busy_seconds += ended - began
        self.recent.append((began, ended, n_tokens))

    @property
    def tokens_per_second(self) -> float:
        """Of the last steps; 0 before the first. Time in which two threads computed counts once."""
        recent, seconds, until = sorted(self.recent), 0.0, -math.inf
        for began, ended, _ in recent:
            seconds += max(0.0, ended - max(began, until))
            until = max(until, ended)
        return sum(n_tokens for *_, n_tokens in recent) / seconds if seconds else 0.0


class ModelThread(Thread):
    """One of the threads that compute: the texts that are its own, a batch for each decoder."""

    def __init__(self, engine: Engine, number: int) -> None:
        super().__init__(name=f"epigone-model-{number}", daemon=True)
        self.batches: dict[int, tuple[Decoder, GenerationBatch]] = {}
        self.owners: dict[Generation, tuple[Task, int]] = {}
        """The task of each generation, and its number there."""
        self.is_busy = False
        """Whether it computes; else it waits for work."""
        self.slicing: Task | None = None
        """The task of whose other work it does a slice now."""
        self._engine = engine

    @property
    def n_rows(self) -> int:
        """Texts that it decodes."""
        return sum(generation.count for generation in list(self.owners))

    @torch.inference_mode()
    def run(self) -> None:
        """Compute until the engine is closed."""
        if self._engine.n_threads > 1:
            torch.set_num_threads(1)  # of this thread, for what tokens are drawn from, which is small
        while self._engine.wait_for_work(self):
            try:
                outgoing = self._compute()
            except Exception as error:  # the thread has to go on, whatever it is
                LOG.exception("the model thread failed")
                outgoing = [lost for key in list(self.batches) for lost in self._fail(key, error)]
            self._engine.tell(outgoing)
            self._engine.put_back(self)

    def _compute(self) -> list[tuple[Task, Any]]:
        """One step of all texts, and one slice of other work; what is to be told of them."""
        outgoing = self._engine.drop_late()
        self._drop_cancelled()
        self._engine.admit(self)
        for key in list(self.batches):
            outgoing += self._step(key)
        return outgoing + self._do_slice()

    def _drop_cancelled(self) -> None:
        for generation, (task, _) in list(self.owners.items()):
            if task.cancelled:
                self._remove(generation, task)

    def add(self, generation: Generation, task: Task, number: int) -> None:
        """Let a text join at the next step."""
        assert task.decoder is not None
        empty = GenerationBatch(task.decoder, self._engine.use_all_cores)
        _, batch = self.batches.setdefault(id(task.decoder), (task.decoder, empty))
        batch.add(generation)
        self.owners[generation] = task, number

    def _remove(self, generation: Generation, task: Task) -> None:
        key = id(task.decoder)
        del self.owners[generation]
        _, batch = self.batches[key]
        batch.remove(generation)
        if not batch.generations:
            del self.batches[key]

    def _step(self, key: int) -> list[tuple[Task, Any]]:
        _, batch = self.batches[key]
        began = time.perf_counter()
        try:
            batch.step()
        except Exception as error:  # whatever it is, the other requests go on
            LOG.exception("a step of the model failed")
            return self._fail(key, error)
        outgoing: list[tuple[Task, Any]] = []
        for generation in batch.generations:
            task, number = self.owners[generation]
            done = generation.is_done or task.deadline < time.monotonic()
            pieces = generation.pieces + (list(generation.finish()) if done else [])
            text = "".join(piece.text for piece in pieces)
            outgoing.append((task, TextStep(number, generation.drawn, text, done)))
            if done:
                self._remove(generation, task)
        self._engine.count(began, time.perf_counter(), sum(len(step.drawn) for _, step in outgoing))
        return outgoing

    def _fail(self, key: int, error: Exception) -> list[tuple[Task, Any]]:
        """Give up all texts of a batch."""
        self._engine.count_failure()
        self.batches.pop(key, None)
        lost = {each: task for each, (task, _) in self.owners.items() if id(task.decoder) == key}
        for generation in lost:
            del self.owners[generation]
        tasks = set(lost.values())
        for task in tasks:
            task.cancelled = True
        return [(task, error) for task in tasks]

    def _do_slice(self) -> list[tuple[Task, Any]]:
        """One slice of the work of the task that has waited longest."""
        task = self._engine.take_slicing(self)
        if task is None:
            return []
        assert task.slices is not None
        try:
            with self._engine.use_all_cores():
                return [(task, next(task.slices))]
        except StopIteration:
            outcome: object = None
        except Exception as error:  # see above
            LOG.exception("a request's work failed")
            self._engine.count_failure()
            outcome = error
        self.slicing = None
        return [(task, outcome)]


class Engine:
    """The model threads and the line in front of them."""

    def __init__(self, n_threads: int | None = None, most_rows: int = MOST_ROWS) -> None:
        """`n_threads`: by default one for each of torch's, two at most; one where the C kernel does not compute."""
        n_threads = n_threads or (min(MOST_THREADS, torch.get_num_threads()) if has_kernel() else 1)
        self.counts = EngineCounts()
        self._most_rows = max(1, most_rows // n_threads)
        """Of each thread."""
        self._n_cores = 1
        self._condition = Condition()
        """Held for everything below, and for what threads share of tasks."""
        self._new: deque[Task] = deque()
        """Tasks that have generations that wait."""
        self._slicing: deque[Task] = deque()
        self._untold: list[tuple[Task, Any]] = []
        self._told = 0.0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = [ModelThread(self, number) for number in range(n_threads)]

    @property
    def n_threads(self) -> int:
        """That compute."""
        return len(self._threads)

    def start(self) -> None:
        """Begin to compute, for tasks of the event loop that is running."""
        self._loop = asyncio.get_running_loop()
        self._n_cores = torch.get_num_threads()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads after their steps; tasks that are left get no more events."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, task: Task) -> None:
        """Let a task begin, or go on, with the next step, or as soon as there is room."""
        with self._condition:
            (self._slicing if task.slices is not None else self._new).append(task)
            self._condition.notify_all()

    def cancel(self, task: Task) -> None:
        """Give up a task, done or not: at the next step its texts are gone."""
        with self._condition:
            task.cancelled = True
            self._condition.notify_all()

    def end_all(self) -> None:
        """Let all texts end where they are."""
        with self._condition:
            running = [task for thread in self._threads for task, _ in list(thread.owners.values())]
            slicing = [thread.slicing for thread in self._threads if thread.slicing]
            for task in (*self._new, *self._slicing, *running, *slicing):
                task.deadline = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether all threads run."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def n_rows(self) -> int:
        """Texts that are being decoded."""
        return sum(thread.n_rows for thread in self._threads)

    @property
    def n_waiting(self) -> int:
        """Requests that have texts which wait."""
        return len(self._new)

    # -- for the threads

    def wait_for_work(self, thread: ModelThread) -> bool:
        """Whether there is something to do, as soon as there is; not any more once it is closed."""
        with self._condition:
            thread.is_busy = False
            while not (self._closing or self._new or thread.owners or self._slicing):
                self._condition.wait()
            thread.is_busy = True
            n_busy = sum(each.is_busy for each in self._threads)
        if self.n_threads > 1:
            use_threads(max(1, self._n_cores // n_busy))
        return not self._closing

    @contextmanager
    def use_all_cores(self) -> Iterator[None]:
        """For torch's products of many rows, always: their bits may depend on the number, unlike the kernel's."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._n_cores)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def drop_late(self) -> list[tuple[Task, Any]]:
        """Forget what waits and was given up, and give up tasks of which something waits when their time is over."""
        if not (self._new or self._slicing):
            return []
        now = time.monotonic()
        with self._condition:
            waiting = [task for task in (*self._new, *self._slicing) if not task.cancelled]
            late = [task for task in waiting if task.deadline < now]
            for task in late:
                task.cancelled = True
            self._new = deque(task for task in self._new if not task.cancelled)
            self._slicing = deque(task for task in self._slicing if not task.cancelled)
        return [(task, TimeoutError()) for task in late]

    def admit(self, thread: ModelThread) -> None:
        """Let texts join a thread's, one of each request in turn, while it has room and no other has fewer."""
        if not self._new:
            return
        with self._condition:
            for _ in range(MOST_PER_STEP):
                if not self._new or not self._has_room(thread):
                    return
                task = self._new.popleft()
                number, generation = task.waiting.popleft()
                if task.waiting:
                    self._new.append(task)
                thread.add(generation, task, number)

    def _has_room(self, thread: ModelThread) -> bool:
        """For the next text. A thread that does other work is not waited for."""
        _, generation = self._new[0].waiting[0]
        n_own = thread.n_rows
        others = (each.n_rows for each in self._threads if each is not thread and not each.slicing)
        return n_own <= min(others, default=n_own) and (not n_own or n_own + generation.count <= self._most_rows)

    def take_slicing(self, thread: ModelThread) -> Task | None:
        """The task whose other work a thread does next; one that has texts leaves it to one that has nothing to do."""
        with self._condition:
            if not self._slicing or (thread.owners and not all(each.is_busy for each in self._threads)):
                return None
            thread.slicing = self._slicing.popleft()
            return thread.slicing

    def put_back(self, thread: ModelThread) -> None:
        """Let other work go on, in any thread: only now, as what was done of it has been told."""
        if thread.slicing is None:
            return
        with self._condition:
            self._slicing.append(thread.slicing)
            thread.slicing = None
            self._condition.notify_all()

    def count(self, began: float, ended: float, n_tokens: int) -> None:
        """One step of a thread more."""
        with self._condition:
            self.counts.count(began, ended, n_tokens)

    def count_failure(self) -> None:
        """A step that failed."""
        with self._condition:
            self.counts.failures += 1

    def tell(self, outgoing: list[tuple[Task, Any]]) -> None:
        """Pass on what was done: the first words of a text and its end at once, the rest a little later, together.

        Each time the event loop runs, these threads have to wait for it.
        """
        with self._condition:
            at_once = False
            for task, event in outgoing:
                self._untold.append((task, event))
                at_once = at_once or not task.was_told or not isinstance(event, TextStep)
                task.was_told = True
                if isinstance(event, TextStep) and event.done:
                    task.n_left -= 1
                    if not task.n_left:
                        self._untold.append((task, None))
                        at_once = True
            now = time.monotonic()
            if at_once or now - self._told >= TOGETHER_SECONDS or not self._has_work():
                if self._untold and self._loop is not None and not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(_deliver, self._untold)
                self._untold, self._told = [], now

    def _has_work(self) -> bool:
        return bool(self._new or self._slicing or any(thread.owners for thread in self._threads))


def has_kernel() -> bool:
    """Whether models are computed by the C kernel."""
    return find_hardware().device == "cpu" and load_kernel() is not None


def _deliver(outgoing: list[tuple[Task, Any]]) -> None:
    for task, event in outgoing:
        task.put(event)
