"""The live view of training: a fixed layout that fills the terminal while a model is trained, and what stays of it."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from epigone.report.escape import clean_text, on_one_line
from epigone.report.views import (
    COLUMNS,
    COPYING_WARNING,
    Column,
    describe_batch_split,
    describe_end,
    describe_sample,
    epoch_table,
    format_loss,
    format_rate,
    format_seconds,
    is_overfitting,
)
from epigone.training.events import (
    BatchSplit,
    CheckpointSaved,
    Evaluated,
    Event,
    Finished,
    Sample,
    Sampled,
    Stage,
    Started,
    StepReport,
    find_best,
)

Fact = tuple[str, str, str]
"""A name, its value, and the reason for the value or ""."""
FRAMES_PER_SECOND = 2
SUSPEND = getattr(signal, "SIGTSTP", None)
"""Sent by Ctrl-Z. Windows does not have it."""
BARS = "▁▂▃▄▅▆▇█"
WIDE = 110
"""Characters in a line from which the sample stands beside the figures, not below them."""
FIGURES = 66
"""Characters for the figures, where the sample is beside them."""
LEAST_HEIGHT = 14
"""Lines from which there is room for more than the header and the losses."""
MOST_ROWS = 24
"""Rows of the table that stay on the terminal after training."""


MOST_STEPS = 2_000
"""Reports of steps that are kept for the curve; of more, every second one."""
Points = Sequence[tuple[float, float]]
"""Shares of the run that were done, and the losses then."""


class LiveScreen:
    """A terminal: facts and notes scroll by; while a model is trained, the live view has the terminal to itself.

    It is drawn on the terminal's alternate screen, so that a change of its size leaves no traces, and when it closes
    everything from before is there again, with the table, warnings and notes below it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view = TrainingView()
        self._live = self._status = _make_live(console, screen=False)
        self._later: list[Text] = []
        """What came while the view was shown, to be printed after it."""
        self._errors = io.StringIO()
        """What was written to standard error meanwhile."""
        self._before: Any = None
        """What Ctrl-Z did before."""
        self._is_ending = False

    def __enter__(self) -> LiveScreen:
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()
        self.close_view()

    # -- what is shown

    def show_run(self, title: str, history: Iterable[Event]) -> None:
        """Set the title of the view, and show what was recorded before a resume."""
        self._view = TrainingView(title)
        for event in history:
            self._view.add(event)

    def show(self, event: Event | Stage) -> None:
        """Draw the event."""
        self._view.add(event)
        if isinstance(event, Started) and not self._is_ending:
            self._open_view()
        elif isinstance(event, Stage) and not self._is_open and not self._is_ending:
            self._status.start()
            self._status.update(Text(f"{event.what} …", style="dim"), refresh=True)
        elif isinstance(event, BatchSplit):
            self.show_warning(describe_batch_split(event))
        elif isinstance(event, Sampled) and self._view.begins_to_copy:
            self.show_warning(COPYING_WARNING)
        elif isinstance(event, Finished):
            self.close_view()
            for line in self._view.draw_rest(self._console.width):
                self._console.print(line)
            self._console.print(Text(describe_end(event), style="bold"))

    def show_facts(self, title: str, rows: Sequence[Fact]) -> None:
        """Draw the facts under their title, in columns, the reasons wrapped."""
        self._status.stop()
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold", max_width=self._console.width * 2 // 5)
        table.add_column(style="dim")
        for row in rows:
            table.add_row(*(Text(on_one_line(cell)) for cell in row))
        self._console.print(Text(on_one_line(title), style="bold"), table, "", sep="\n")

    def show_note(self, text: str) -> None:
        """Draw the note."""
        self._print(Text(clean_text(text)))

    def show_warning(self, text: str) -> None:
        """Draw the warning; it stays in the view."""
        self._view.warning = on_one_line(text)
        self._print(Text.assemble(("warning: ", "bold yellow"), clean_text(text)))

    def show_end(self, text: str) -> None:
        """Leave the view for good and draw the note: what comes now may end the process at any moment."""
        self._is_ending = True
        self.close_view()
        self.show_note(text)

    def _print(self, text: Text) -> None:
        if self._is_open:
            self._later.append(text)
        else:
            self._console.print(text)

    # -- the view

    @property
    def _is_open(self) -> bool:
        return self._live is not self._status

    def _open_view(self) -> None:
        if not self._is_open:
            self._status.stop()
            self._live = _make_live(self._console, screen=True, draw=lambda: self._view)
            self._errors_before, sys.stderr = sys.stderr, self._errors
            if SUSPEND is not None:
                with suppress(ValueError):  # not in the main thread
                    self._before = signal.signal(SUSPEND, self._suspend)
            self._live.start(refresh=True)

    def close_view(self) -> None:
        """Give the terminal back as it was before, and print what came meanwhile."""
        if not self._is_open:
            return
        live, self._live = self._live, self._status
        sys.stderr = self._errors_before
        try:
            live.stop()
        except RuntimeError:  # a signal came while a frame was being written
            with suppress(OSError):
                os.write(1, b"\x1b[?1049l\x1b[?25h")
        if SUSPEND is not None and self._before is not None:
            signal.signal(SUSPEND, self._before)
        for text in self._later:
            self._console.print(text)
        self._later = []
        said, self._errors = self._errors.getvalue(), io.StringIO()
        with suppress(OSError):  # the terminal is gone
            sys.stderr.write(said)

    def _suspend(self, number: int, _frame: FrameType | None) -> None:
        """Stop as Ctrl-Z does, with a clean terminal; draw the view again when the process goes on."""
        self._live.stop()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        self._live.start(refresh=True)


def _make_live(console: Console, *, screen: bool, draw: Callable[[], RenderableType] | None = None) -> Live:
    return Live(
        console=console,
        screen=screen,
        transient=True,
        get_renderable=draw,
        refresh_per_second=FRAMES_PER_SECOND,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class TrainingView:
    """What is known of a training run, drawn into whatever room there is."""

    def __init__(self, title: str = "") -> None:
        self.title = on_one_line(title)
        self.warning = ""
        self.begins_to_copy = False
        """Whether the newest samples are the first ones that copy."""
        self._copies = False
        self._start: Started | None = None
        self._steps: list[StepReport] = []
        self._evaluations: list[Evaluated] = []
        self._sampled: Sampled | None = None
        self._stage, self._stage_at = "First step", time.monotonic()
        self._reported_at = time.monotonic()

    def add(self, event: Event | Stage) -> None:
        """Take in an event."""
        now = time.monotonic()
        if isinstance(event, Started):
            self._forget_undone(event)
            self._start, self._stage, self._stage_at = event, "First step", now
        elif isinstance(event, StepReport):
            self._steps.append(event)
            if len(self._steps) > MOST_STEPS:
                self._steps = [*self._steps[:-1:2], event]
            self._stage, self._reported_at = "", now
        elif isinstance(event, Stage):
            self._stage, self._stage_at = event.what, now
        elif isinstance(event, CheckpointSaved):
            self._stage, self._stage_at = "" if self._steps else "First step", now
        elif isinstance(event, Evaluated):
            self._evaluations.append(event)
        elif isinstance(event, Sampled):
            self._sampled = event
            copies = event.found is not None and event.found.copying == "bad"
            self.begins_to_copy, self._copies = copies and not self._copies, copies

    def _forget_undone(self, start: Started) -> None:
        """Forget a run before this one, or what a crash undid."""
        last = start.step if start.resumed else -1
        self._steps = [event for event in self._steps if event.step <= last]
        self._evaluations = [event for event in self._evaluations if event.step <= last]
        self._sampled = self._sampled if start.resumed else None

    # -- drawing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Everything that there is room for."""
        width, height = options.max_width, options.height or console.height
        yield self._arrange(width, height)

    def _arrange(self, width: int, height: int) -> Layout:
        whole = Layout(name="whole")
        header = Layout(Group(*self._draw_header(width)), size=5)
        losses = Layout(_Losses(self._steps, self._evaluations), size=4)
        table = Layout(_Rows(self._evaluations), name="table")
        sample = Layout(_Newest(self._sampled), name="sample")
        if height < LEAST_HEIGHT:
            whole.split_column(Layout(Group(*self._draw_header(width)), size=4), losses)
        elif width >= WIDE:
            figures, body = Layout(size=FIGURES), Layout()
            figures.split_column(losses, table)
            body.split_row(figures, sample)
            whole.split_column(header, body)
        elif self._sampled is None:
            whole.split_column(header, losses, table)
        else:
            table.size = min(len(self._evaluations) + 2, max(5, (height - 9) // 3))
            whole.split_column(header, losses, table, sample)
        return whole

    def _draw_header(self, width: int) -> Iterator[RenderableType]:
        """Text and base; progress and time left; what is being done; a warning; an empty line."""
        hint = "Ctrl-C stops and saves"
        top = Table.grid(expand=True, padding=0)
        top.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        top.add_column(no_wrap=True, justify="right")
        top.add_row(Text(self.title, style="bold", no_wrap=True, overflow="ellipsis"), Text(f"  {hint}", style="dim"))
        yield top
        last = self._steps[-1] if self._steps else None
        share = last.progress if last else 0.0
        bar = Table.grid(padding=(0, 2, 0, 0), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_row(
            ProgressBar(total=1.0, completed=share, complete_style="cyan", finished_style="cyan"),
            Text(f"{share:.0%}".replace("%", " %") + self._tell_time()),
        )
        yield bar
        yield Text(self._tell_work(), no_wrap=True, overflow="ellipsis")
        yield Text(self.warning or self._tell_course(), style="yellow", no_wrap=True, overflow="ellipsis")
        yield Text("")

    def _tell_time(self) -> str:
        """The time left, counted down between two reports."""
        if not self._steps:
            return ""
        left = self._steps[-1].seconds_left - (time.monotonic() - self._reported_at)
        return f"   about {format_seconds(left)} left, then the report" if left >= 1 else "   finishing"

    def _tell_work(self) -> str:
        """What is being done at this moment, and how long already or how far."""
        if self._stage:
            seconds = time.monotonic() - self._stage_at
            return f"{self._stage} …" + (f" {format_seconds(seconds)}" if seconds >= 1 else "")
        last = self._steps[-1]
        about = "about " if self._start is not None and self._start.timed else ""
        return "  ".join(
            [
                f"Training: step {last.step:,} of {about}{last.n_steps:,}",
                f"epoch {last.epoch:.2f}",
                f"{last.tokens_per_second:,.0f} tokens/s",
                f"learning rate {format_rate(last.learning_rate)}",
            ]
        )

    def _tell_course(self) -> str:
        """That it overfits, where it does."""
        if not is_overfitting(self._evaluations):
            return ""
        return "The validation loss is rising: the model is memorizing the text. The best one is kept."

    def draw_rest(self, width: int) -> Iterator[RenderableType]:
        """What stays on the terminal after training: the table."""
        columns, rows = choose_columns(width), self._evaluations
        if not rows:
            return
        best = find_best(rows)
        yield draw_headings(columns)
        if len(rows) > MOST_ROWS:
            yield from (draw_row(row, columns, is_best=row is best) for row in rows[:2])
            yield Text(f"  … {len(rows) - MOST_ROWS} more; all are in the report", style="dim")
            rows = rows[-(MOST_ROWS - 2) :]
        yield from (draw_row(row, columns, is_best=row is best) for row in rows)
        yield Text("")


class _Losses:
    """Both losses as sparklines."""

    def __init__(self, steps: Sequence[StepReport], evaluations: Sequence[Evaluated]) -> None:
        last = steps[-1] if steps else None
        scale = last.progress / max(1, last.step) if last else 0.0  # of the whole run as it is planned now
        self._training = [(scale * event.step, event.loss) for event in steps]
        self._validation = [(scale * event.step, event.loss) for event in evaluations]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        n_bars = max(0, min(options.max_width, 100) - 21) if _can_draw(console) else 0
        training, validation = self._training, self._validation
        bars = draw_sparklines([training, validation], n_bars, training[-1][0] if training else 0.0)
        yield Text("Loss: lower is better", style="dim")
        for name, line, points, style in zip(
            ("training", "validation"), bars, (training, validation), ("cyan", "green"), strict=True
        ):
            number = format_loss(points[-1][1] if points else None)
            yield Text.assemble((f"  {name:<10} ", "dim"), (line, style), f" {number}", no_wrap=True)
        yield Text("")


class _Rows:
    """The last rows of the table."""

    def __init__(self, evaluations: Sequence[Evaluated]) -> None:
        self._evaluations = evaluations

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, best = choose_columns(options.max_width), find_best(self._evaluations)
        yield draw_headings(columns)
        room = max(0, (options.height or 8) - 2)
        for event in self._evaluations[-room:] if room else ():
            yield draw_row(event, columns, is_best=event is best)


class _Newest:
    """The newest samples, cut off where there is no more room."""

    def __init__(self, sampled: Sampled | None) -> None:
        self._sampled = sampled

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.height or 20
        if self._sampled is None:
            return
        lines: list[Text] = []
        for number, sample in enumerate(self._sampled.samples, 1):
            heading = describe_sample(self._sampled, number)
            lines.append(Text(f"{heading[:1].upper()}{heading[1:]}", style="dim", no_wrap=True, overflow="ellipsis"))
            lines += [*draw_sample(sample, console, options.max_width).split("\n"), Text("")]
        if len(lines) - 1 > room:
            lines = [*lines[: room - 1], Text("  …", style="dim")]
        yield from lines


def _can_draw(console: Console) -> bool:
    """Whether the terminal's encoding has the bars."""
    try:
        BARS.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


def draw_sparklines(series: Sequence[Points], n_bars: int, done: float) -> list[str]:
    """Curves as bars over the share of the run that is done, on one scale; each point holds until the next one.

    The scale ends at the highest value after the first tenth of each: the first steps of a new model would flatten all
    that follows.
    """
    curves = [_resample(points, n_bars, done) for points in series]
    filled = [[value for value in curve if value is not None] for curve in curves]
    settled = [value for curve in filled for value in curve[len(curve) // 10 :]]
    if not settled:
        return [" " * n_bars for _ in curves]
    low, high = min(settled), max(settled)

    def draw(value: float | None) -> str:
        if value is None:
            return " "
        share = (value - low) / (high - low) if high > low else 0.0
        return BARS[round(min(max(share, 0.0), 1.0) * (len(BARS) - 1))]

    return ["".join(map(draw, curve)) for curve in curves]


def _resample(points: Points, n_bars: int, done: float) -> list[float | None]:
    """The mean of the points in each bar, or the value before; None before the first point and after what is done."""
    sums: list[list[float]] = [[] for _ in range(n_bars)]
    for share, value in points:
        if n_bars:
            sums[min(int(share * n_bars), n_bars - 1)].append(value)
    curve: list[float | None] = []
    for number, values in enumerate(sums):
        before = curve[-1] if curve else None
        is_done = number <= done * n_bars
        curve.append(sum(values) / len(values) if values else before if is_done else None)
    return curve


FIRST_TO_GO = ("step", "learning rate", "bits per byte", "perplexity", "time", "training loss", "accuracy")
"""Columns that a narrow terminal leaves out, in this order."""


def choose_columns(width: int) -> list[Column]:
    """The columns that fit into a line of `width` characters."""
    columns = list(COLUMNS)
    for name in FIRST_TO_GO:
        # Each column has a space before it; the mark of the best takes one character, and the last one stays free.
        if sum(column.width + 1 for column in columns) + 2 <= width:
            break
        columns = [column for column in columns if column.name != name]
    return columns


def draw_headings(columns: Sequence[Column]) -> Text:
    """The headings of the table."""
    headings = " ".join(f"{column.heading:>{column.width}}" for column in columns)
    return Text(f"  {headings}", style="dim", no_wrap=True)


def draw_row(event: Evaluated, columns: Sequence[Column], *, is_best: bool) -> Text:
    """One line of the table; the best of all has a star and is green."""
    row = epoch_table([event])[0]
    cells = " ".join(f"{row[column.name]:>{column.width}}" for column in columns)
    mark, style = ("* ", "green") if is_best else ("  ", "")
    return Text(mark + cells, style=style, no_wrap=True)


def draw_sample(sample: Sample, console: Console, width: int | None = None) -> Text:
    """The prompt, dim, and the model's text; long lines are wrapped."""
    text = Text.assemble((clean_text(sample.prompt), "dim italic"), clean_text(sample.text))
    bar = Text.assemble(("  │ ", "dim"))
    return Text("\n").join(bar + line for line in text.wrap(console, max((width or console.width) - 6, 20), tab_size=4))
