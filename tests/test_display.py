from __future__ import annotations

import gc
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from epigone.cli.live import BARS, LiveScreen, TrainingView, choose_columns, draw_sample, draw_sparklines
from epigone.cli.terminal import (
    PlainScreen,
    QuietScreen,
    loading,
    open_screen,
    show_stages,
)
from epigone.report.views import describe_end, describe_shortage
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


def show_live(events: Sequence[Event | Stage], width: int = 80) -> str:
    """What stays on the terminal, without styles."""
    console = make_console(width)
    with LiveScreen(console) as screen:
        for event in events:
            screen.show(event)
    left = console.file.getvalue().rpartition("\x1b[?1049l")[2]  # type: ignore[attr-defined]
    return Text.from_ansi(left).plain


def make_console(width: int = 80, height: int = 24) -> Console:
    """A terminal of this size, whose file has all that was sent to it."""
    how = {"highlight": False, "markup": False, "emoji": False, "color_system": "standard"}
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, **how)  # type: ignore[arg-type]


def draw_view(events: Sequence[Event | Stage], width: int = 80, height: int = 24) -> list[str]:
    """The lines of the live view after these events."""
    view = TrainingView("novel.txt")
    for event in events:
        view.add(event)
    console = make_console(width, height)
    lines = console.render_lines(view, console.options.update(width=width, height=height), pad=True)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


SIZES = [(40, 10), (60, 14), (80, 24), (80, 50), (110, 24), (120, 35), (200, 60)]


def test_what_is_being_done_is_named_until_it_is_done() -> None:
    shown: list[tuple[Event | Stage, str]] = [
        (Started(step=0, n_steps=1000, epochs=10.0), "First step …"),
        (Stage(what="Writing samples"), "Writing samples …"),
        (CheckpointSaved(step=0), "First step …"),
        (stepped(50, 20.0), "step 50 of 1,000"),
        (Stage(what="Saving a checkpoint"), "Saving a checkpoint …"),
        (CheckpointSaved(step=50), "step 50 of 1,000"),
    ]
    events = [event for event, _ in shown]
    for number, (_, words) in enumerate(shown, 1):
        assert words in draw_view(events[:number])[2]
    assert "Writing" not in show_plain(events)


def test_the_time_left_counts_down_between_two_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("epigone.cli.live.time.monotonic", lambda: now)
    view, console = TrainingView("novel.txt"), make_console()
    for event in (EVENTS[0], stepped(50, 20.0), Stage(what="Writing samples")):
        view.add(event)
    for seconds, said in ((0.0, "about 1 min 01 s left"), (41.0, "about 20 s left"), (62.0, "finishing")):
        now = 100.0 + seconds
        lines = ["".join(segment.text for segment in line) for line in console.render_lines(view)]
        assert said in lines[1] and "Writing samples …" in lines[2]
        assert seconds == 0 or f"{seconds:.0f}" in lines[2] or "1 min 02 s" in lines[2]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_view_fits_any_terminal(width: int, height: int) -> None:
    lines = draw_view(EVENTS[:-1], width, height)
    assert len(lines) == height and max(map(len, lines)) <= width
    assert lines[0].startswith("novel.txt") and "5 %" in lines[1]
    assert "training" in lines[6] or height < 14


@pytest.mark.parametrize(("width", "height"), SIZES[2:])
def test_the_view_has_losses_last_rows_and_the_newest_sample(width: int, height: int) -> None:
    older = Sampled(step=50, epoch=0.5, samples=(Sample(prompt="", text="Gone", seed=0),))
    text = "\n".join(draw_view([EVENTS[0], older, *EVENTS[1:-1]], width, height))
    assert "4.500" in text and "4.567" in text and "XXX:" in text and "thou mayst" in text and "Gone" not in text
    assert text.count("validation accuracy") == 1 and text.count(" 31.2 %") == 3
    assert any(bar in text for bar in "▁▂▃▄▅▆▇█")


def test_a_resumed_run_shows_what_came_before_but_not_what_a_crash_undid() -> None:
    lost = evaluated(300, 3.333)
    again = Started(step=200, n_steps=1000, epochs=10.0, resumed=True)
    text = "\n".join(draw_view([*EVENTS[:-1], lost, again]))
    assert "4.567" in text and "3.333" not in text
    assert "4.567" not in "\n".join(draw_view([*EVENTS[:-1], Started(step=0, n_steps=10, epochs=1.0)]))


def test_the_curves_of_a_resumed_run_end_where_it_is_now() -> None:
    """When it was stopped it had been done, by the plan of then."""
    before = [replace(stepped(step, step / 10), n_steps=100, progress=step / 100) for step in range(1, 101)]
    again = Started(step=100, n_steps=1000, epochs=10.0, resumed=True)
    lines = draw_view([EVENTS[0], *before, again, stepped(101, 11.0)])
    assert 5 <= len([letter for letter in lines[6] if letter in BARS]) <= 8


def test_overfitting_is_said_while_it_happens() -> None:
    assert "memorizing" in draw_view(EVENTS[:-1])[3] and "memorizing" not in "\n".join(draw_view(EVENTS[:4]))


def test_sparklines_fall_with_the_loss_and_stop_where_training_is() -> None:
    falling = [(share / 100, 5.0 - share / 50) for share in range(1, 51)]
    line, flat = draw_sparklines([falling, [(0.0, 4.6)]], 20, 0.5)
    heights = [BARS.index(bar) for bar in line.strip()]
    assert len(line) == len(flat) == 20 and heights == sorted(heights, reverse=True)
    assert heights[0] == 7 and heights[-1] == 0 and set(flat[:11]) == {flat[0]} and flat[11:].isspace()
    assert draw_sparklines([[], []], 5, 0.0) == [" " * 5] * 2
    assert draw_sparklines([[(0.5, 1.0)]], 0, 0.5) == [""]


def test_the_view_leaves_the_terminal_as_it_was_and_keeps_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    console = make_console()
    with LiveScreen(console) as screen:
        screen.show_note("before")
        screen.show(EVENTS[0])
        screen.show_warning("mind this")
        print("a library says", file=sys.stderr)
        for event in EVENTS[1:]:
            screen.show(event)
    sent = console.file.getvalue()  # type: ignore[attr-defined]
    before, _, view = sent.partition("\x1b[?1049h")
    _, _, after = view.partition("\x1b[?1049l")
    assert "before" in before and "warning: mind this" in Text.from_ansi(after).plain
    assert sent.rfind("\x1b[?25h") > sent.rfind("\x1b[?25l") and "a library says" in sys.stderr.getvalue()


def test_after_the_first_signal_nothing_is_drawn_that_a_second_could_cut_short() -> None:
    console = make_console()
    with LiveScreen(console) as screen:
        for event in EVENTS[:3]:
            screen.show(event)
        screen.show_end("Stopping")
        sent = console.file.getvalue()  # type: ignore[attr-defined]
        screen.show(Stage(what="Saving a checkpoint"))
        screen.show(EVENTS[0])
        assert console.file.getvalue() == sent  # type: ignore[attr-defined]
    assert sent.rfind("\x1b[?1049l") > sent.rfind("\x1b[?1049h") and sent.rstrip().endswith("Stopping")


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


@pytest.mark.parametrize("show", [show_plain, lambda events: "\n".join(draw_view(events, height=40))])
def test_a_poem_keeps_its_lines_and_its_brackets(show: object) -> None:
    lines = [line.strip(" |│") for line in show(EVENTS).split("\n")]  # type: ignore[operator]
    start = lines.index("XXX:")
    assert lines[start + 1] == "That time of year"
    assert lines[start + 2].strip().startswith("thou mayst in me behold [bold]")


def test_a_sample_cannot_steer_the_terminal() -> None:
    console = make_console()
    with LiveScreen(console) as screen:
        screen.show_run("\x1b[2Jrun", [])
        screen.show(EVENTS[0])
        screen.show(Sampled(step=1, epoch=1.0, samples=(Sample(prompt="\x1b]0;title\x07", text=POEM, seed=0),)))
        screen.show_note("\x1b[2Jnote")
        screen.show_warning("\x9b2J")
        screen.show_facts("\x1b[2Jfacts", [("\x1b[2J", "\x07", "\x1b")])
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "itle" in written and not any(steer in written for steer in ("\x1b[2J", "\x1b]0", "\x07", "\x9b"))


def test_the_prompt_is_told_from_what_follows() -> None:
    drawn = draw_sample(Sample(prompt="ROMEO:", text=" But soft", seed=0), Console(width=80))
    styles = {drawn.plain[span.start : span.end]: span.style for span in drawn.spans}
    assert drawn.style == "" and styles == {"  │ ": "dim", "ROMEO:": "dim italic"}


def test_the_live_table_has_one_heading_and_one_mark_for_the_best() -> None:
    text = show_live(EVENTS)
    assert text.count("validation accuracy") == 1
    rows = [line for line in text.split("\n") if " 31.2 %" in line]
    assert [row[0] for row in rows] == [" ", "*", " "]
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


@pytest.mark.parametrize(
    ("step", "epoch", "loss", "fresh", "said"),
    [
        (5, 0.11, 4.0, False, "read 11 % of the text, in 5 steps. To read it once takes about 14 min: --minutes 14"),
        (5, 0.11, 4.0, True, "--minutes 14"),
        (400, 0.4, 4.09, False, "--minutes 4"),  # hardly better than the base
        (400, 0.4, 3.5, False, ""),  # a long text, from which it has learned
        (400, 0.4, 9.0, True, ""),
        (5, 1.0, 4.09, False, ""),  # a short text
    ],
)
def test_a_run_that_was_too_short_says_so_and_how_long_would_do(
    step: int, epoch: float, loss: float, fresh: bool, said: str
) -> None:
    end = Finished(step=step, epoch=epoch, reason="time", best_step=1, best_epoch=1.0, best_loss=loss, seconds=90.0)
    told = describe_shortage(end, [evaluated(0, 4.1)], fresh=fresh)
    assert said in told and bool(told) == bool(said)
    assert describe_shortage(replace(end, reason="interrupted"), [evaluated(0, 4.1)], fresh=fresh) == ""


def test_what_comes_once_is_not_counted_for_each_part_of_the_text() -> None:
    """20 s before the first step, 27 s for a twentieth of the text, 11 s after the last step."""
    end = Finished(step=3, epoch=0.05, reason="time", best_step=3, best_epoch=0.05, best_loss=4.0, seconds=58.0)
    seen = [replace(evaluated(0, 4.1), seconds=20.0), replace(evaluated(3, 4.0), seconds=47.0)]
    told = describe_shortage(end, [*seen, replace(seen[-1], seconds=57.0, share=0.7)], fresh=False)
    assert told.endswith("takes about 10 min: --minutes 10")


def test_a_run_whose_time_was_over_before_the_first_step_says_that_nothing_was_learned() -> None:
    end = Finished(step=0, epoch=0.0, reason="time", best_step=0, best_epoch=0.0, best_loss=3.9, seconds=81.0)
    assert describe_shortage(end, [evaluated(0, 3.9)], fresh=False).endswith("--minutes 6")
    of_a_voice = describe_shortage(end, [evaluated(0, 3.9)], fresh=False, share=0.2)
    assert of_a_voice.endswith("--minutes 27"), "what the command has to be given for all of them"
    assert "Nothing was learned" in describe_end(end) and "Kept" not in describe_end(end)
    assert "Kept epoch 0 of 0.1" in describe_end(replace(end, step=4, epoch=0.1))


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
