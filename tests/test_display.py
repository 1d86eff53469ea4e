from __future__ import annotations

import gc
import io
import subprocess
import sys
from collections.abc import Sequence

import pytest
from rich.console import Console
from rich.text import Text

from epigone.cli.terminal import (
    LiveScreen,
    PlainScreen,
    QuietScreen,
    choose_columns,
    draw_sample,
    loading,
    open_screen,
    show_stages,
)
from epigone.training.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    Sample,
    Sampled,
    Stage,
    Started,
    StepReport,
)
from helpers_events import make_evaluated

POEM = "\nThat time of year\n\tthou mayst in me behold [bold]\x1b[2J\x07\x9b31m\r"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def stepped(step: int, seconds: float) -> StepReport:
    return StepReport(
        step=step,
        n_steps=1000,
        epoch=step / 100,
        progress=step / 1000,
        loss=4.5,
        learning_rate=5e-5,
        tokens_per_second=12_345.6,
        seconds=seconds,
        seconds_left=61.0,
    )


def evaluated(step: int, loss: float, *, best: bool = True, training_loss: float | None = 4.0) -> Evaluated:
    more = {"training_loss": training_loss, "accuracy": 0.312, "bits_per_byte": 1.987, "seconds": 12_345.0}
    return make_evaluated(step, loss, step / 100, best=best, **more)


EVENTS: list[Event] = [
    Started(step=0, n_steps=1000, epochs=10.0),
    evaluated(0, 10.82, training_loss=None),
    stepped(50, 20.0),
    evaluated(100, 4.321),
    Sampled(step=100, epoch=1.0, samples=(Sample(prompt="XXX:", text=POEM, seed=0),)),
    evaluated(200, 4.567, best=False),
    Finished(step=200, epoch=2.0, reason="patience", best_step=100, best_epoch=1.0, best_loss=4.321, seconds=90.0),
]


def show_plain(events: Sequence[Event | Stage]) -> str:
    stream = io.StringIO()
    screen = PlainScreen(stream)
    for event in events:
        screen.show(event)
    return stream.getvalue()


def show_live(events: list[Event], width: int = 80) -> str:
    """What stays on the terminal, without styles."""
    console = Console(
        file=io.StringIO(), record=True, width=width, force_terminal=True, highlight=False, markup=False, emoji=False
    )
    with LiveScreen(console) as screen:
        for event in events:
            screen.show(event)
    return console.export_text(styles=False)


def test_what_is_being_done_is_named_until_it_is_done() -> None:
    stream = io.StringIO()
    shown: list[tuple[Event | Stage, str]] = [
        (Started(step=0, n_steps=1000, epochs=10.0), "first step …"),
        (Stage(what="Writing samples"), "Writing samples …"),
        (CheckpointSaved(step=0), "first step …"),
        (stepped(50, 20.0), "step 50 of 1,000"),
        (Stage(what="Saving a checkpoint"), "Saving a checkpoint …"),
        (CheckpointSaved(step=50), "step 50 of 1,000"),
    ]
    with LiveScreen(Console(file=stream, width=80, force_terminal=True)) as screen:
        for event, words in shown:
            screen.show(event)
            stream.truncate(0)
            screen._live.refresh()
            assert words in Text.from_ansi(stream.getvalue()).plain
    assert "Writing" not in show_plain([event for event, _ in shown])


def test_the_garbage_collector_rests_only_while_libraries_are_loaded() -> None:
    with loading(quiet=True):
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() > 0
    gc.unfreeze()


def test_plain_lines_have_each_evaluation_once_and_no_control_characters() -> None:
    text = show_plain(EVENTS)
    assert all(text.count(f"validation loss {loss}") == 1 for loss in ("10.820", "4.321  ", "4.567"))
    assert "training loss –" in text
    assert not [letter for letter in text if letter not in "\n\t" and not letter.isprintable()]


@pytest.mark.parametrize("show", [show_plain, show_live])
def test_a_poem_keeps_its_lines_and_its_brackets(show: object) -> None:
    lines = [line.strip(" |│") for line in show(EVENTS).split("\n")]  # type: ignore[operator]
    start = lines.index("XXX:")
    assert lines[start + 1] == "That time of year"
    assert lines[start + 2].strip().startswith("thou mayst in me behold [bold]")


def test_a_sample_cannot_steer_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with LiveScreen(console) as screen:
        screen.show(Sampled(step=1, epoch=1.0, samples=(Sample(prompt="\x1b]0;title\x07", text=POEM, seed=0),)))
        screen.show_note("\x1b[2Jnote")
        screen.show_warning("\x9b2J")
        screen.show_facts("\x1b[2Jfacts", [("\x1b[2J", "\x07", "\x1b")])
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert not any(steer in written for steer in ("\x1b[2J", "\x1b]0", "\x07", "\x9b"))


def test_the_prompt_is_told_from_what_follows() -> None:
    drawn = draw_sample(Sample(prompt="ROMEO:", text=" But soft", seed=0), Console(width=80))
    styles = {drawn.plain[span.start : span.end]: span.style for span in drawn.spans}
    assert drawn.style == "" and styles == {"  │ ": "dim", "ROMEO:": "dim italic"}


def test_the_live_table_has_one_heading_and_marks_the_best() -> None:
    text = show_live(EVENTS)
    assert text.count("validation accuracy") == 1
    rows = [line for line in text.split("\n") if " 31.2 %" in line]
    assert [row[0] for row in rows] == ["*", "*", " "]
    assert "–" in rows[0]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_of_the_live_view_is_wider_than_the_terminal(width: int) -> None:
    text = show_live(EVENTS, width)
    assert max(len(line) for line in text.split("\n")) <= width
    assert {"epoch", "validation loss"} <= {column.name for column in choose_columns(width)}
    assert len([line for line in text.split("\n") if line[2:].strip().startswith("1.00 ")]) == 1


def test_eighty_columns_show_everything_but_the_step() -> None:
    assert [column.name for column in choose_columns(80)][:3] == ["epoch", "training loss", "validation loss"]
    assert len(choose_columns(80)) == 8 and len(choose_columns(100)) == 9


@pytest.mark.parametrize("show", [show_plain, show_live])
def test_the_end_says_why_and_what_was_kept(show: object) -> None:
    text = " ".join(show(EVENTS).split())  # type: ignore[operator]
    assert text.endswith("no longer got better. Kept epoch 1 of 2: validation loss 4.321, the best.")


def test_a_log_stays_short_and_a_slow_run_gives_a_sign_of_life() -> None:
    quick: list[Event] = [stepped(step, step / 100) for step in range(1, 1001)]
    medium: list[Event] = [stepped(step, step * 1.0) for step in range(1, 1001)]
    slow: list[Event] = [stepped(step, step * 60.0) for step in range(1, 51)]
    assert show_plain(quick).count("\n") <= 1
    assert 15 <= show_plain(medium).count("\n") <= 20
    assert show_plain(slow).count("\n") == 10


def test_facts_stand_in_columns() -> None:
    stream = io.StringIO()
    PlainScreen(stream).show_facts("The plan", [("base", "gpt2", "in the cache"), ("rate", "5e-5", "customary")])
    assert stream.getvalue() == "The plan\n  base  gpt2  in the cache\n  rate  5e-5  customary\n"


def test_facts_wrap_their_reasons() -> None:
    console = Console(file=io.StringIO(), width=40)
    LiveScreen(console).show_facts("The plan", [("base", "gpt2", "because " * 12)])
    lines = console.file.getvalue().split("\n")  # type: ignore[attr-defined]
    assert lines[1].startswith("base  gpt2  because") and lines[2].startswith("            because")


def test_quiet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with open_screen(quiet=True, json=False) as screen:
        for event in EVENTS:
            screen.show(event)
        screen.show_facts("title", [("a", "b", "c")])
        screen.show_note("note")
        screen.show_warning("warning")
    assert capfd.readouterr() == ("", "")


def test_json_keeps_standard_output_free(capfd: pytest.CaptureFixture[str]) -> None:
    with open_screen(quiet=False, json=True) as screen:
        screen.show_note("note")
    assert isinstance(screen, QuietScreen) and capfd.readouterr() == ("", "")


def test_json_shows_progress_on_standard_error_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    with open_screen(quiet=False, json=True, stdout=stdout) as screen:
        screen.show_note("note")
    assert (stdout.getvalue(), stderr.getvalue()) == ("", "note\n")


def test_a_terminal_gets_the_live_view_and_a_pipe_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with open_screen(quiet=False, json=False, stdout=Terminal()) as screen:
        assert isinstance(screen, LiveScreen)
    with open_screen(quiet=False, json=False, stdout=io.StringIO()) as screen:
        assert isinstance(screen, PlainScreen)
    monkeypatch.setenv("TERM", "dumb")
    with open_screen(quiet=False, json=False, stdout=Terminal()) as screen:
        assert isinstance(screen, PlainScreen)


def test_a_letter_that_the_stream_cannot_write_ends_no_run() -> None:
    raw = io.BytesIO()
    with open_screen(quiet=False, json=False, stdout=io.TextIOWrapper(raw, encoding="ascii")) as screen:
        screen.show_note("詩\ud800!")
        assert raw.getvalue().strip() == b"??!"


def test_showing_loads_neither_torch_nor_matplotlib() -> None:
    heavy = "import epigone.cli.terminal, sys; "
    heavy += "sys.exit(bool({'torch', 'matplotlib', 'huggingface_hub'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 0


def test_a_bar_for_each_stage_is_drawn_on_standard_error_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    for quiet in (False, True):
        with show_stages(quiet=quiet) as watch:
            watch("Reading", 1, 2)
            watch("Encoding", 5, 10)
        shown = sys.stderr.getvalue()
        assert ("Encoding" in shown and "50%" in shown) != quiet
        sys.stderr.truncate(0)
    assert capsys.readouterr().out == ""
