"""Every event comes back as it was told, whatever stands beside it in the file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epigone.errors import RunIncompatible
from epigone.runs.records import FORMAT, NAME_OF_EVENT, append_event, read_events
from epigone.training.events import (
    BatchSplit,
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    Sample,
    Sampled,
    Started,
    StepReport,
    effective_history,
)

ODD_TEXT = 'a\nb\r\n\u2028\x85\x0b\x1f\x00 "quoted" \\n 漢字🦊 e\u0301'
STARTED = Started(step=0, n_steps=40, epochs=1.5)
STEPPED = StepReport(
    step=3,
    n_steps=40,
    epoch=0.48,
    progress=0.075,
    loss=0.1 + 0.2,
    learning_rate=5e-5,
    tokens_per_second=1234.5,
    seconds=1e-9,
    seconds_left=1e9,
)
EVALUATED = Evaluated(
    step=7,
    epoch=1.12,
    training_loss=2 / 3,
    loss=3.0,
    accuracy=0.25,
    perplexity=math.exp(700),
    bits_per_byte=1.1,
    n_tokens=100,
    learning_rate=0.0,
    seconds=12.5,
    best=True,
)
SAMPLED = Sampled(
    step=7,
    epoch=1.12,
    samples=(Sample(prompt="", text=ODD_TEXT, seed=0), Sample(prompt=ODD_TEXT, text="", seed=2**32 - 1)),
)
FINISHED = Finished(step=40, epoch=1.5, reason="done", best_step=7, best_epoch=1.12, best_loss=3.0, seconds=99.0)
EVENTS: list[Event] = [
    STARTED,
    Started(step=9, n_steps=40, epochs=2.0, resumed=True),
    STEPPED,
    BatchSplit(step=4, batch_size=8, parts=2),
    EVALUATED,
    Evaluated(
        step=0,
        epoch=0.0,
        training_loss=None,
        loss=3.0,
        accuracy=0.0,
        perplexity=20.0,
        bits_per_byte=1.1,
        n_tokens=100,
        learning_rate=0.0,
        seconds=0.5,
        best=False,
    ),
    SAMPLED,
    Sampled(step=8, epoch=1.2, samples=()),
    FINISHED,
    Finished(step=0, epoch=0.0, reason="interrupted", best_step=0, best_epoch=0.0, best_loss=math.inf, seconds=0.1),
]


def write(path: Path, *events: Event) -> Path:
    for event in events:
        append_event(path, event)
    return path


def test_every_kind_of_event_is_tested_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event)) - {CheckpointSaved}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(tmp_path: Path, event: Event) -> None:
    (found,) = read_events(write(tmp_path / "metrics.jsonl", event))
    assert found == event and type(found) is type(event)


def test_events_come_back_in_order(tmp_path: Path) -> None:
    assert list(read_events(write(tmp_path / "metrics.jsonl", *EVENTS, *EVENTS))) == EVENTS * 2


def test_each_is_a_line_that_others_can_read(tmp_path: Path) -> None:
    """By any reader of JSON lines, whatever a sample holds; a text stays legible."""
    content = write(tmp_path / "metrics.jsonl", *EVENTS).read_bytes()
    lines = content.split(b"\n")
    assert lines.pop() == b"" and len(lines) == len(EVENTS)
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds == [NAME_OF_EVENT[type(event)] for event in EVENTS]
    assert "漢字🦊".encode() in content


def test_what_is_of_no_use_later_leaves_no_line(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", STARTED, CheckpointSaved(step=3), STEPPED)
    assert list(read_events(path)) == [STARTED, STEPPED] and path.read_bytes().count(b"\n") == 2


@settings(deadline=None)
@example(text="\ud83e alone \udd8a")
@given(text=st.text(st.characters(exclude_categories=[])))
def test_any_text_can_be_in_a_sample(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Lone surrogates too, which a file in a broken encoding may have taught it."""
    event = Sampled(step=1, epoch=0.1, samples=(Sample(prompt=text, text=text, seed=1),))
    path = write(tmp_path_factory.mktemp("any") / "metrics.jsonl", event, STARTED)
    assert list(read_events(path)) == [event, STARTED]


def test_where_nothing_was_told_there_is_nothing(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "metrics.jsonl")) == []
    (tmp_path / "empty.jsonl").touch()
    assert list(read_events(tmp_path / "empty.jsonl")) == []


# -- the format


def test_the_first_line_has_the_number_of_the_format(tmp_path: Path) -> None:
    lines = write(tmp_path / "metrics.jsonl", *EVENTS).read_text("utf-8", errors="surrogatepass").split("\n")[:-1]
    assert json.loads(lines[0])["format"] == FORMAT
    assert [json.loads(line)["event"] for line in lines if "format" in json.loads(line)] == ["started", "started"]


def test_a_later_format_is_one_error_that_says_what_to_do(tmp_path: Path) -> None:
    """Whatever else its lines hold; also where a later version went on with a run of this one."""
    path = write(tmp_path / "metrics.jsonl", STARTED, STEPPED)
    later = {"event": "started", "format": FORMAT + 1, "something_new": [1]}
    path.write_text(path.read_text("utf-8") + json.dumps(later) + "\n", "utf-8")
    with pytest.raises(RunIncompatible, match=f"metrics.jsonl was made by .* in format {FORMAT + 1}") as caught:
        list(read_events(path))
    assert "pip install --upgrade epigone" in caught.value.hint


# -- what is passed over


@pytest.mark.parametrize("last", [STEPPED, SAMPLED], ids=["ascii", "characters of several bytes"])
def test_a_last_line_is_passed_over_wherever_a_crash_cut_it(tmp_path: Path, last: Event) -> None:
    """Also within a character."""
    path = tmp_path / "metrics.jsonl"
    whole = write(path, STARTED, EVALUATED).read_bytes()
    with_last = write(path, last).read_bytes()
    for n_bytes in range(len(whole), len(with_last) - 1):
        path.write_bytes(with_last[:n_bytes])
        assert list(read_events(path)) == [STARTED, EVALUATED], n_bytes
    path.write_bytes(with_last[:-1])
    assert list(read_events(path)) == [STARTED, EVALUATED, last], "only the end of the line is missing"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[1, 2]",
        b"7",
        b"null",
        b"{}",
        b'{"event": "started"}',
        b'{"event": "dreamt", "step": 3}',
        b'{"event": "checkpointdue", "step": 3}',
        b'{"event": ["started"], "step": 3}',
        b'{"event": "started", "format": 2, "step": 0, "n_steps": 40, "epochs": 1.5, "mood": "good"}',
        b'{"event": "started", "step": 0, "n_steps": 40, "epochs": 1.5}',
        b'{"event": "started", "format": "2", "step": 0, "n_steps": 40, "epochs": 1.5}',
        b'{"event": "sampled", "step": 1, "epoch": 0.1, "samples": [{"prompt": "a"}]}',
        b'{"event": "sampled", "step": 1, "epoch": 0.1, "samples": null}',
        b"\xff\xfe not UTF-8",
        b"\x00" * 40,
    ],
)
def test_lines_of_others_are_passed_over(tmp_path: Path, line: bytes) -> None:
    """Of later versions, of an editor, of a disk that lost a block."""
    path = write(tmp_path / "metrics.jsonl", STARTED)
    with path.open("ab") as file:
        file.write(line + b"\n")
    assert list(read_events(write(path, FINISHED))) == [STARTED, FINISHED]


def test_what_a_crash_undid_is_left_out_once_the_run_has_gone_on() -> None:
    """It died after step 8, with a checkpoint of step 5: the events of steps 6 to 8 come again."""
    began, went_on = (Started(step=step, n_steps=9, epochs=1.0, resumed=step > 0) for step in (0, 5))
    before, lost, again = (CheckpointSaved(step=step) for step in (5, 8, 8))
    assert effective_history([began, before, lost]) == [began, before, lost]
    assert effective_history([began, before, lost, went_on, again]) == [began, before, went_on, again]
    assert effective_history([before, lost, began]) == [began], "a run that begins again has no history"
