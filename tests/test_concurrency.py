"""Calls that share a model do not touch each other: in threads, in turns, and in one batch that they join and leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import zip_longest
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from epigone.generation.batch import Generation, GenerationBatch, StreamedText
from epigone.generation.generator import TextGenerator
from epigone.model.combination import GuidedDecoder
from epigone.model.decoder import DecoderState, FastDecoder, ReferenceDecoder, make_decoder
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import BPETokenizer
from helpers_front import shared_run
from helpers_writing import random_model, random_tokenizer

__all__ = ["random_model", "random_tokenizer"]

CALLS: list[tuple[str, WriteSettings]] = [
    ("From", WriteSettings(length=70, seed=1)),
    ("", WriteSettings(length=40, seed=2, temperature=1.3, top_k=9, count=2)),
    ("Shall I compare thee", WriteSettings(length=60, seed=3, repetition_penalty=1.3, loop_guard="off")),
    ("Thou", WriteSettings(length=120, unit="characters", stop_at="sentence", seed=4, stop=("q",))),
]
"""Some of them are longer than the context of 48 tokens."""
MAKERS: list[Callable[[GPT2LMHeadModel], Any]] = [
    make_decoder,
    ReferenceDecoder,
    lambda model: GuidedDecoder(make_decoder(model), make_decoder(model), 1.5),
]
IDS = ["fast", "reference", "guided"]


@pytest.fixture(params=MAKERS, ids=IDS)
def generator(
    request: pytest.FixtureRequest, random_model: GPT2LMHeadModel, random_tokenizer: BPETokenizer
) -> TextGenerator:
    """One for all calls of a test."""
    return TextGenerator(request.param(random_model), random_tokenizer)


def write_alone(generator: TextGenerator) -> list[list[str]]:
    return [generator.write(prompt, settings) for prompt, settings in CALLS]


# -- threads


class Turns:
    """Two threads go on together: neither gets its next token before the other has its own, until one is through."""

    def __init__(self) -> None:
        self._barrier = Barrier(2)

    def take(self) -> None:
        with suppress(BrokenBarrierError):
            self._barrier.wait(60)

    def leave(self) -> None:
        self._barrier.abort()


def write_in_two_threads(
    generator: TextGenerator, first: int, stop_after: int | None = None
) -> tuple[list[list[str]], list[list[int]]]:
    """The texts of two of the calls, and their progress; the first of them may be stopped after some steps."""
    turns, progress = Turns(), [list[int](), list[int]()]

    def write(number: int) -> list[str]:
        prompt, settings = CALLS[first + number]

        def on_progress(n_done: int, n_all: int) -> None:
            progress[number].append(n_done)
            turns.take()

        def should_stop() -> bool:
            return number == 0 and stop_after is not None and len(progress[0]) >= stop_after

        try:
            return generator.write(prompt, settings, on_progress=on_progress, should_stop=should_stop)
        finally:
            turns.leave()

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(write, range(2))), progress


@pytest.mark.parametrize("first", [0, 2])
def test_threads_that_share_a_model_write_what_they_would_alone(generator: TextGenerator, first: int) -> None:
    alone = write_alone(generator)[first : first + 2]
    texts, progress = write_in_two_threads(generator, first)
    assert texts == alone
    for done, (_, settings) in zip(progress, CALLS[first:], strict=False):
        assert done == list(range(settings.count, settings.count * len(done) + 1, settings.count))


def test_a_thread_that_is_stopped_leaves_the_other_alone(generator: TextGenerator) -> None:
    whole, other = write_alone(generator)[:2]
    (stopped, texts), progress = write_in_two_threads(generator, 0, stop_after=11)
    assert texts == other
    assert len(progress[0]) == 11 and whole[0].startswith(stopped[0]) and 0 < len(stopped[0]) < len(whole[0])


def test_threads_share_what_a_run_has_loaded_and_indexed() -> None:
    """The training text is read and indexed once, by whichever thread comes first."""
    how: list[dict[str, Any]] = [{"seed": seed, "length": 40, "max_copy": 20 + seed % 2} for seed in range(4)]
    alone = [shared_run().write("Thou", **each) for each in how]
    run = type(shared_run())(shared_run().folder)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda each: run.write("Thou", **each), how)) == alone


# -- in turns


def join_in_turns(streams: list[Iterator[StreamedText]]) -> list[list[str]]:
    """The texts of streams of which each gives a piece in its turn."""
    texts = [["", ""] for _ in streams]
    for pieces in zip_longest(*streams):
        for number, piece in enumerate(pieces):
            if piece is not None:
                texts[number][piece.sequence] += piece.text
    return [list(filter(None, each)) for each in texts]


def test_streams_that_are_read_in_turns_are_the_texts_alone(generator: TextGenerator) -> None:
    assert join_in_turns([generator.stream(*call) for call in CALLS]) == write_alone(generator)


class StatefulDecoder(FastDecoder):
    """The negative control: its state is on the decoder, which the call that began last has changed."""

    state: DecoderState

    def begin(self, ids: torch.Tensor, room: int, count: int) -> Any:
        self.state = super().begin(ids, room, count)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)


def test_a_state_on_the_decoder_would_be_noticed(random_model: GPT2LMHeadModel, random_tokenizer: BPETokenizer) -> None:
    decoder = make_decoder(random_model)
    alone = write_alone(TextGenerator(decoder, random_tokenizer))
    decoder.__class__ = StatefulDecoder
    generator = TextGenerator(decoder, random_tokenizer)
    assert write_alone(generator) == alone, "one after another it writes the same"
    assert join_in_turns([generator.stream(*CALLS[place]) for place in (0, 2)]) != [alone[0], alone[2]]


# -- one batch


def read(batch: GenerationBatch, texts: dict[Generation, dict[int, str]]) -> None:
    """One step, and what each generation has got by it."""
    batch.step()
    for generation in batch.generations:
        collect(generation, texts)


def collect(generation: Generation, texts: dict[Generation, dict[int, str]]) -> None:
    pieces = [*generation.pieces, *(generation.finish() if generation.is_done else ())]
    for piece in pieces:
        row = texts.setdefault(generation, {})
        row[piece.sequence] = row.get(piece.sequence, "") + piece.text


@pytest.mark.parametrize("starts", [(0, 0, 0, 0), (0, 3, 9, 40), (30, 2, 0, 1)], ids=str)
def test_texts_that_join_a_running_batch_are_the_texts_alone(generator: TextGenerator, starts: tuple[int, ...]) -> None:
    """Each call begins at its own step, ends at its own, and passes the end of its context at its own."""
    generations = [generator.begin(prompt, settings) for prompt, settings in CALLS]
    batch, texts = GenerationBatch(generator.decoder), dict[Generation, dict[int, str]]()
    step = 0
    while step <= max(starts) or not all(generation.is_done for generation in generations):
        for generation, start in zip(generations, starts, strict=True):
            if start == step:
                batch.add(generation)
        read(batch, texts)
        step += 1
    found = [[texts[generation][number] for number in generation.numbers] for generation in generations]
    assert found == write_alone(generator)
    batch.step()
    assert batch.generations == [], "who is done has left"


def test_one_that_is_removed_leaves_the_others_alone(generator: TextGenerator) -> None:
    leaving, *staying = [generator.begin(prompt, settings) for prompt, settings in CALLS]
    batch, texts = GenerationBatch(generator.decoder), dict[Generation, dict[int, str]]()
    for generation in (leaving, *staying):
        batch.add(generation)
    for _ in range(10):
        read(batch, texts)
    batch.remove(leaving)
    assert leaving not in batch.generations
    n_tokens = leaving.detectors[0].n_tokens
    while not all(generation.is_done for generation in staying):
        read(batch, texts)
    found = [[texts[generation][number] for number in generation.numbers] for generation in staying]
    whole, *others = write_alone(generator)
    assert found == others
    assert leaving.detectors[0].n_tokens == n_tokens == 10 and whole[0].startswith(texts[leaving][0])
    with pytest.raises(ValueError, match="not in list"):
        batch.remove(leaving)


def test_one_that_has_left_goes_on_where_it_was(generator: TextGenerator) -> None:
    """A server may let a text wait and take it up again."""
    (prompt, settings), other = CALLS[0], CALLS[2]
    generation, texts = generator.begin(prompt, settings), dict[Generation, dict[int, str]]()
    batch = GenerationBatch(generator.decoder)
    batch.add(generation)
    for _ in range(7):
        read(batch, texts)
    batch.remove(generation)
    batch.add(generator.begin(*other))
    read(batch, texts)
    batch.add(generation)
    while not generation.is_done:
        read(batch, texts)
    assert [texts[generation][0]] == generator.write(prompt, settings)


# -- stopping


def test_nothing_is_written_for_a_caller_who_has_left_already(generator: TextGenerator) -> None:
    prompt, settings = CALLS[0]
    assert generator.write(prompt, settings, should_stop=lambda: True) == []
    assert list(generator.stream(prompt, settings, should_stop=lambda: True)) == []
    assert list(generator.write_records(prompt, settings, should_stop=lambda: True)) == []
    assert list(generator.stream_tokens([1], settings, should_stop=lambda: True)) == []


def test_records_that_were_cut_short_are_left_out(generator: TextGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of records that is continued later holds whole texts only."""
    monkeypatch.setattr("epigone.generation.generator.LARGEST_BATCH", 2)
    settings, done = WriteSettings(length=10, count=6), list[int]()
    found = generator.write_records(
        "From", settings, on_progress=lambda n_done, n_all: done.append(n_done), should_stop=lambda: len(done) >= 15
    )
    assert [record.text for record in found] == generator.write("From", settings)[:2]
    assert len(done) == 15
