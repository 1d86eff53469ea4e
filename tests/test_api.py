"""From Python it is the same: train, open, write, resume; and what is written is exactly what was asked for."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import epigone
from epigone import TrainSettings, WriteSettings
from epigone.errors import RunNotFound, SettingsError
from epigone.pipeline import run_training
from epigone.run import Run
from epigone.training.events import Evaluated, Event, Finished, Started
from helpers_front import shared_run, write_sonnets

QUICK = TrainSettings(size="1x32", epochs=1.0, block_size=64, batch_size=16, samples=0, base="none")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_sonnets(tmp_path)


def count_tokens(prompt: str, settings: WriteSettings) -> tuple[list[str], list[int]]:
    """The texts of the shared run, and the tokens that each step has generated."""
    done = [0]
    texts = shared_run().open_generator().write(prompt, settings, on_progress=lambda n_done, n_all: done.append(n_done))
    return texts, [after - before for before, after in pairwise(done)]


def test_training_returns_the_run_that_opening_finds(text: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    run = epigone.train(text, out=tmp_path / "run", settings=QUICK, on_event=events.append)
    assert isinstance(run, Run) and run.path == tmp_path / "run"
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert [event for event in events if isinstance(event, Evaluated)] == run.evaluations
    assert epigone.open_run(str(run.path)).best == run.best is not None


def test_a_run_says_which_it_is_and_what_is_public_is_listed() -> None:
    assert repr(shared_run()) == f"Run({str(shared_run().path)!r})"
    assert set(epigone.__all__) <= set(dir(epigone)), "what is completed after epigone."


def test_a_run_that_the_command_would_find_by_its_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "novel").symlink_to(shared_run().path.resolve())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunNotFound) as caught:
        epigone.open_run("novel")
    assert caught.value.hint == f"Did you mean {Path('runs', 'novel')}?"


def test_resuming_for_longer_adds_epochs(text: Path, tmp_path: Path) -> None:
    run = epigone.train(text, out=tmp_path / "run", settings=QUICK)
    before, events = run.evaluations, list[Event]()
    longer = epigone.resume(run.path, epochs=2, on_event=events.append)
    assert before[-1].epoch < 2 <= longer.evaluations[-1].epoch
    assert isinstance(events[0], Started) and events[0].resumed and longer.evaluations[: len(before)] == before


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_compiled_run_goes_on_to_the_same_end(text: Path, tmp_path: Path) -> None:
    """Bit for bit, with dropout on, by Muon and by AdamW."""
    for optimizer in ("muon", "adamw"):
        how: dict[str, Any] = {"size": "2x32", "block_size": 64, "batch_size": 4, "dropout": 0.1, "samples": 0}
        how |= {"base": "none", "compile": "layers", "optimizer": optimizer, "patience": "none", "epochs": 3}
        whole = epigone.train(text, out=tmp_path / f"whole-{optimizer}", **how)
        out, calls = tmp_path / f"stopped-{optimizer}", iter(range(100))
        list(run_training([str(text)], TrainSettings(**how), out, should_stop=lambda: next(calls) > 7))  # noqa: B023
        resumed = epigone.resume(out)
        assert [item.loss for item in resumed.evaluations] == [item.loss for item in whole.evaluations]
        weights = [(run.path / "model" / "model.safetensors").read_bytes() for run in (whole, resumed)]
        assert weights[0] == weights[1]


def test_settings_by_name_go_before_the_object(text: Path) -> None:
    found = epigone.plan(text, settings=QUICK, epochs=2.0, seed=5)
    assert (found.settings.epochs, found.settings.seed, found.settings.size) == (2.0, 5, "1x32")
    assert found.plan.schedule.epochs == 2.0


def test_a_whole_number_of_epochs_is_a_number(text: Path) -> None:
    assert epigone.plan(text, settings=QUICK, epochs=2).plan.schedule.epochs == 2


def test_an_unknown_name_is_refused_and_the_nearest_named(text: Path, tmp_path: Path) -> None:
    for wrong in (lambda: epigone.train(text, out=tmp_path / "r", epohcs=3), lambda: epigone.plan(text, epohcs=3)):
        with pytest.raises(SettingsError, match="unknown setting epohcs") as error:
            wrong()
        assert error.value.hint == "Did you mean epochs?"
    assert not (tmp_path / "r").exists()
    with pytest.raises(SettingsError, match="unknown setting temprature") as error:
        shared_run().write(temprature=1.0)
    assert error.value.hint == "Did you mean temperature?"


def test_there_must_be_a_run_to_open(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound):
        epigone.open_run(tmp_path)
    with pytest.raises(RunNotFound):
        epigone.resume(tmp_path / "nowhere")


def test_writing_gives_as_many_texts_as_asked() -> None:
    texts = shared_run().write("From", count=3, length=5)
    assert len(texts) == 3 and all(isinstance(text, str) for text in texts) and len(set(texts)) == 3
    assert not any(text.startswith("From") for text in texts)


def test_the_same_seed_writes_the_same() -> None:
    first, again, other = (shared_run().write(count=2, length=30, seed=seed) for seed in (7, 7, 8))
    assert first == again != other


def test_text_n_of_a_seed_is_the_first_of_seed_plus_n() -> None:
    together = shared_run().write("Thou", count=4, length=20, seed=10)
    assert together == [shared_run().write("Thou", length=20, seed=10 + number)[0] for number in range(4)]


def test_more_texts_than_a_batch_holds_keep_their_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    together = shared_run().write(count=5, length=6)
    monkeypatch.setattr("epigone.generation.generator.LARGEST_BATCH", 2)
    assert shared_run().write(count=5, length=6) == together


def test_where_memory_is_short_fewer_texts_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, asked = shared_run().open_generator(), WriteSettings(count=5, length=3, stop_at="anywhere")
    together, done = writer.write("", asked), list[tuple[int, int]]()
    monkeypatch.setattr("epigone.generation.generator.find_free_bytes", lambda device: 1)
    assert writer.write("", asked, on_progress=lambda n_done, n_all: done.append((n_done, n_all))) == together
    assert done == [(n_done, 15) for n_done in range(1, 16)]


@pytest.mark.parametrize("prompt", ["", "Shall I compare"])
@pytest.mark.parametrize("length", [1, 17, 3 * 64 + 1])
def test_a_text_has_exactly_the_tokens_that_were_asked_for(prompt: str, length: int) -> None:
    """The context has 64 positions; a text three times as long is as long as asked all the same."""
    assert shared_run().open_generator().decoder.n_positions == 64
    _, counts = count_tokens(prompt, WriteSettings(length=length, count=2, stop_at="anywhere"))
    assert counts == [2] * length


def test_a_prompt_longer_than_the_context_is_continued() -> None:
    prompt = "From fairest creatures we desire increase,\n" * 20
    texts, counts = count_tokens(prompt, WriteSettings(length=9, stop_at="anywhere"))
    assert texts[0] and counts == [1] * 9


def test_a_stop_string_ends_the_text_and_is_not_in_it() -> None:
    whole = shared_run().write("Thou", length=150, seed=1)[0]
    stop = whole[40:43]
    end = whole.index(stop)
    asked = WriteSettings(length=150, seed=1, stop=(stop, "never in any text"))
    texts, counts = count_tokens("Thou", asked)
    assert texts == [whole[:end]] == shared_run().write("Thou", length=150, seed=1, stop=asked.stop)
    assert len(counts) < 150


def test_each_text_stops_by_itself() -> None:
    whole = shared_run().write(count=3, length=80)
    cut = shared_run().write(count=3, length=80, stop=("e",))
    assert cut == [text.partition("e")[0] for text in whole]


def test_pieces_join_to_the_texts_whatever_the_stops() -> None:
    for stops in ((), ("zq",), ("e ", "th")):
        texts = [""] * 3
        for piece in shared_run().stream("Thou", count=3, length=60, stop=stops):
            texts[piece.sequence] += piece.text
        assert texts == shared_run().write("Thou", count=3, length=60, stop=stops)
