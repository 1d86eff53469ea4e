"""The model threads divide texts between them, compute at the same time, and tell what they did in order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import torch

from epigone.generation.batch import DrawnToken, Generation, GenerationBatch
from epigone.model import kernel
from epigone.serving.engine import Engine, EngineCounts, Task, TextStep
from epigone.serving.library import LoadedModel, ModelLibrary
from epigone.settings import WriteSettings
from helpers_front import shared_run

T = TypeVar("T")


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    library = ModelLibrary(None, [shared_run().path], with_bases=False)
    return library.load(library.find(""))


def begin(model: LoadedModel, count: int, length: int = 40) -> list[Generation]:
    """Texts apart, as the candidates of a request are."""
    how = WriteSettings(length=length, unit="tokens", stop_at="anywhere", count=count, seed=3)
    return [model.generator.begin("Thou art", how, range(number, number + 1)) for number in range(count)]


def run(engine: Engine, work: Callable[[], Awaitable[T]]) -> T:
    """The result of what an event loop does while the engine computes."""

    async def inner() -> T:
        engine.start()
        try:
            return await asyncio.wait_for(work(), 60)
        finally:
            engine.close()

    return asyncio.run(inner())


async def collect(engine: Engine, task: Task) -> list[Any]:
    """All that is told of a task, without its end. Fails where anything is told after that."""
    engine.submit(task)
    told = []
    while (event := await task.take()) is not None:
        told.append(event)
        if isinstance(event, BaseException):
            break
    await asyncio.sleep(0.05)
    assert not task.has_more or isinstance(told[-1], BaseException)
    return told


def join(told: list[Any], count: int) -> list[str]:
    """The texts that these steps gave."""
    texts = [""] * count
    for step in told:
        assert isinstance(step, TextStep)
        texts[step.generation] += step.text
    return texts


class Steps:
    """Watches all batches: which threads step, how many texts, and with how many of the kernel's threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, int, int]] = []
        self.before: Callable[[], None] = lambda: None
        self.n_met: Counter[str] = Counter()
        self._meeting = threading.Barrier(2)
        step = GenerationBatch.step

        def watched(batch: GenerationBatch) -> None:
            self.seen.append((threading.current_thread().name, len(batch.generations), kernel._share.n_threads))
            self.before()
            step(batch)

        monkeypatch.setattr(GenerationBatch, "step", watched)

    def meet(self) -> None:
        """Wait within a step until the other thread is within a step too, in the first 30 steps of each."""
        name = threading.current_thread().name
        if self.n_met[name] < 30:
            self._meeting.wait(20)
            self.n_met[name] += 1


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def test_two_threads_compute_at_the_same_time(model: LoadedModel, steps: Steps) -> None:
    engine, steps.before = Engine(2), steps.meet
    texts = begin(model, 8)
    told = run(engine, lambda: collect(engine, Task(model.generator.decoder, texts)))
    assert list(steps.n_met.values()) == [30, 30] and engine.counts.failures == 0
    assert {name for name, *_ in steps.seen} == {"epigone-model-0", "epigone-model-1"}
    assert all(n_texts <= 4 for _, n_texts, _ in steps.seen), "they had half of the texts each"
    steps.before = lambda: None
    alone = model.generator.write("Thou art", begin(model, 8)[0].sampler.settings)
    assert join(told, 8) == alone


def test_a_thread_alone_at_work_has_all_cores_and_two_have_half(
    model: LoadedModel, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    engine = Engine(2)
    run(engine, lambda: collect(engine, Task(model.generator.decoder, begin(model, 1))))
    assert {n_cores for *_, n_cores in steps.seen} == {4}
    steps.seen.clear()
    engine, steps.before = Engine(2), steps.meet
    run(engine, lambda: collect(engine, Task(model.generator.decoder, begin(model, 6))))
    assert {n_cores for *_, n_cores in steps.seen[2:60]} == {2}


@pytest.mark.parametrize("n_threads", [1, 2])
def test_what_is_told_is_complete_and_its_end_comes_last(model: LoadedModel, n_threads: int) -> None:
    engine = Engine(n_threads)

    async def ask() -> list[list[Any]]:
        tasks = [Task(model.generator.decoder, begin(model, count, 12)) for count in (1, 2, 3, 4, 5) * 3]
        return await asyncio.gather(*(collect(engine, task) for task in tasks))

    for told, count in zip(run(engine, ask), (1, 2, 3, 4, 5) * 3, strict=True):
        for number in range(count):
            steps = [step for step in told if step.generation == number]
            assert sum(len(step.drawn) for step in steps) == 12
            *before, last = [step.done for step in steps]
            assert last and not any(before)
    assert engine.n_rows == engine.n_waiting == 0


def test_steps_of_a_text_that_wait_together_become_one_and_nothing_else_does() -> None:
    task, slices = Task(), [[1], [2], [3]]
    steps = [TextStep(number, [DrawnToken(0, token, 0.0, ())], text, done) for number, token, text, done in (
        (0, 5, "a", False), (1, 6, "x", False), (0, 7, "b", True), (1, 8, "y", False)
    )]  # fmt: skip

    async def take_all() -> list[Any]:
        for event in (*slices, *steps, None):
            task.put(event)
        first = await task.take()
        task.put(steps[1])
        return [first, *[await task.take() for _ in range(5)]]

    *found, one, other, end = asyncio.run(take_all())
    assert found == slices and end is None and not task.has_more
    assert (one.text, one.done, [each.token for each in one.drawn]) == ("ab", True, [5, 7])
    assert (other.text, other.done, [each.token for each in other.drawn]) == ("xyx", False, [6, 8, 6])


def test_texts_wait_where_more_are_asked_for_than_are_decoded_at_once(model: LoadedModel, steps: Steps) -> None:
    engine = Engine(2, most_rows=4)
    told = run(engine, lambda: collect(engine, Task(model.generator.decoder, begin(model, 10, 8))))
    assert max(n_texts for _, n_texts, _ in steps.seen) == 2
    assert sum(step.done for step in told) == 10


def test_a_failure_in_one_thread_ends_the_request_in_both(model: LoadedModel, steps: Steps) -> None:
    engine = Engine(2)

    def fail() -> None:
        if threading.current_thread().name.endswith("1"):
            raise RuntimeError("a broken step")
        time.sleep(0.01)

    async def ask() -> Any:
        steps.before = fail
        told = await collect(engine, Task(model.generator.decoder, begin(model, 4, 400)))
        steps.before = lambda: None
        while engine.n_rows:
            await asyncio.sleep(0.01)
        return told, await collect(engine, Task(model.generator.decoder, begin(model, 2, 5)))

    told, later = run(engine, ask)
    assert isinstance(told[-1], RuntimeError) and engine.counts.failures == 1
    assert sum(step.done for step in later) == 2


def test_other_work_is_done_by_the_thread_that_has_no_texts(model: LoadedModel, steps: Steps) -> None:
    engine, workers = Engine(2), list[str]()

    def work() -> Iterator[int]:
        for number in range(5):
            workers.append(threading.current_thread().name)
            yield number

    async def ask() -> tuple[list[Any], list[Any]]:
        steps.before = lambda: time.sleep(0.005)
        text = asyncio.ensure_future(collect(engine, Task(model.generator.decoder, begin(model, 1, 60))))
        while not engine.n_rows:
            await asyncio.sleep(0.01)
        return await collect(engine, Task(slices=work())), await text

    told, _ = run(engine, ask)
    assert told == [0, 1, 2, 3, 4]
    assert not {name for name, *_ in steps.seen} & set(workers)


def test_parts_of_other_work_are_told_in_order_whichever_thread_does_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = Engine.tell

    def slowly(engine: Engine, outgoing: list[tuple[Task, Any]]) -> None:
        """A thread is interrupted between its work and telling of it, so that the other one could overtake it."""
        if any(isinstance(event, int) and event % 2 == 0 for _, event in outgoing):
            time.sleep(0.01)
        tell(engine, outgoing)

    monkeypatch.setattr(Engine, "tell", slowly)
    engine = Engine(2)
    assert run(engine, lambda: collect(engine, Task(slices=iter(range(9))))) == list(range(9))


def test_all_texts_can_be_ended_where_they_are(model: LoadedModel) -> None:
    engine = Engine(2)

    async def ask() -> list[Any]:
        asked = asyncio.ensure_future(collect(engine, Task(model.generator.decoder, begin(model, 4, 4_000))))
        while engine.n_rows < 4:
            await asyncio.sleep(0.01)
        engine.end_all()
        return await asked

    assert sum(step.done for step in run(engine, ask)) == 4


def test_time_in_which_both_compute_counts_once() -> None:
    counts = EngineCounts()
    assert counts.tokens_per_second == 0
    for began, ended in ((0.0, 1.0), (0.5, 1.5), (0.6, 0.9), (3.0, 3.5)):
        counts.count(began, ended, 10)
    assert counts.tokens_per_second == pytest.approx(40 / 2.0)
    assert (counts.tokens, counts.steps, counts.busy_seconds) == (40, 4, pytest.approx(2.8))
