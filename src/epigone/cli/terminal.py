"""Events, facts and notes in, a terminal or plain lines out. Beside cli.py the only place that prints."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from epigone.report.escape import clean_text, on_one_line, show_controls
from epigone.report.views import (
    COLUMNS,
    COPYING_WARNING,
    Column,
    describe_batch_split,
    describe_end,
    describe_sample,
    describe_sample_stats,
    describe_start,
    describe_step,
    epoch_table,
)
from epigone.training.events import (
    BatchSplit,
    Evaluated,
    Event,
    Finished,
    Sample,
    Sampled,
    SampleStats,
    Started,
    StepReport,
)


class _RobustStream:
    """Passes everything on. What cannot be written any more is lost, and so is all that comes after it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._outlive():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._outlive():
            self._stream.flush()

    @contextmanager
    def _outlive(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # a broken pipe, or the end of a terminal
            with suppress(OSError):  # from here on nobody reads, and Python may flush what is left when it ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


def tolerate_broken_pipe(stream: TextIO) -> TextIO:
    """The stream as one that ends no run: not by its own end, nor by a letter that its encoding lacks ("?" then)."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return cast(TextIO, _RobustStream(stream))


Fact = tuple[str, str, str]
"""A name, its value and the reason for it, which may be empty."""


class Screen(Protocol):
    """Where a run is shown."""

    def show(self, event: Event) -> None:
        """Show what training tells."""

    def show_facts(self, title: str, rows: Sequence[Fact]) -> None:
        """Show names, values and reasons in columns: a receipt, a plan."""

    def show_note(self, text: str) -> None:
        """Say something by the way."""

    def show_warning(self, text: str) -> None:
        """Say something that should not be missed."""


@contextmanager
def open_screen(*, quiet: bool, json: bool, stdout: TextIO | None = None) -> Iterator[Screen]:
    """The screen that fits where the output goes; when it closes, the terminal is as it was.

    A terminal gets the live view, a pipe plain lines. With `json`, standard output belongs to the answer: progress
    goes to standard error, if somebody is watching there.
    """
    stdout = sys.stdout if stdout is None else stdout
    if quiet or (json and not sys.stderr.isatty()):
        yield QuietScreen()
    elif json or not _is_live(stdout):
        yield PlainScreen(sys.stderr if json else stdout)
    else:
        with LiveScreen(
            Console(file=tolerate_broken_pipe(stdout), highlight=False, markup=False, emoji=False)
        ) as screen:
            yield screen


def _is_live(stdout: TextIO) -> bool:
    """Whether lines can be drawn over: a terminal, and not one that says it is dumb."""
    return stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


# -- text as it comes


def print_piece(text: str, *, dim: bool = False) -> None:
    """Print a part of a text and nothing else, "?" for what the encoding lacks; on a terminal `dim` if so asked."""
    text = show_controls(text) if sys.stdout.isatty() else text  # no model steers a terminal
    text = text.encode(sys.stdout.encoding, "replace").decode(sys.stdout.encoding)
    sys.stdout.write(f"\x1b[2m{text}\x1b[22m" if dim and text and _is_live(sys.stdout) else text)
    sys.stdout.flush()


def print_json(value: object) -> None:
    """Print a value for programs."""
    print(spell_json(value))


def spell_json(value: object) -> str:
    """A value for programs, in letters that standard output has."""
    text, encoding = json.dumps(value, ensure_ascii=False, indent=2), sys.stdout.encoding or "utf-8"
    return text if text == text.encode(encoding, "ignore").decode(encoding) else json.dumps(value, indent=2)


@contextmanager
def show_progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error for somebody who watches, moved by calls with what is done and what there is at most."""
    with show_stages(quiet=quiet) as watch:
        yield partial(watch, what)


@contextmanager
def show_stages(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """The same for several things, one after another, named by the call; 0 of 0 is what cannot be counted."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, n_done, n_all: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(file=tolerate_broken_pipe(sys.stderr))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("", visible=False)
        yield lambda what, n_done, n_all: bar.update(
            task, description=what, completed=n_done, total=n_all or None, visible=n_done < n_all or not n_all
        )  # what is done makes room for other bars, such as a download's


def ask_line(mark: str) -> str | None:
    """The line that somebody types after the mark, or the next one that is piped in; None where there are no more."""
    if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.errors != "replace":
        sys.stdin.reconfigure(errors="replace")  # possible before the first line only
    mark = mark if sys.stdin.isatty() else ""
    with suppress(ImportError):
        import readline  # noqa: F401  # input() then knows the arrow keys
    try:
        return input(mark)
    except EOFError:
        print_piece("\n" if mark else "")
        return None


def show_sample_stats(screen: Screen, found: SampleStats | None, *, copied: bool) -> bool:
    """Say what is to be said of the samples, and warn when they begin to copy; whether they do."""
    if found is None:
        return copied
    screen.show_note(describe_sample_stats(found))
    copies = found.copying == "bad"
    if copies and not copied:
        screen.show_warning(COPYING_WARNING)
    return copies


# -- nothing


class QuietScreen:
    """Shows nothing."""

    def show(self, event: Event) -> None:
        """Show nothing."""

    def show_facts(self, title: str, rows: Sequence[Fact]) -> None:
        """Show nothing."""

    def show_note(self, text: str) -> None:
        """Show nothing."""

    def show_warning(self, text: str) -> None:
        """Show nothing."""


# -- plain lines


class PlainScreen:
    """Plain lines without colour, for a pipe or a log: one per report, every evaluation, every sample in full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = tolerate_broken_pipe(stream)
        self._pace = LogThrottle()
        self._copies = False

    def show(self, event: Event) -> None:
        """Write the event's lines, if it is its turn."""
        if isinstance(event, StepReport):
            if self._pace.is_due(event):
                self._write("  ".join([f"step {event.step:,} of {event.n_steps:,}", *describe_step(event)]))
        elif isinstance(event, Sampled):
            for number, sample in enumerate(event.samples, 1):
                self._write(describe_sample(event, number))
                self._write("  | " + clean_text(sample.prompt + sample.text).replace("\n", "\n  | "))
            self._copies = show_sample_stats(self, event.found, copied=self._copies)
        elif isinstance(event, Evaluated):
            row = epoch_table([event])[0]
            row["best"] = "best so far" if event.best else ""
            self._write("  ".join(f"{name} {value}" if name != "best" else value for name, value in row.items()))
        elif isinstance(event, Started):
            self._write(describe_start(event))
        elif isinstance(event, BatchSplit):
            self.show_warning(describe_batch_split(event))
        elif isinstance(event, Finished):
            self._write(describe_end(event))

    def show_facts(self, title: str, rows: Sequence[Fact]) -> None:
        """Write the facts under their title, one a line, aligned."""
        cells = [tuple(map(on_one_line, row)) for row in rows]
        name_width = max((len(name) for name, _, _ in cells), default=0)
        value_width = min(max((len(value) for _, value, _ in cells), default=0), 40)  # one long path pads no other line
        self._write(on_one_line(title))
        for name, value, reason in cells:
            self._write(f"  {name:<{name_width}}  {value:<{value_width}}  {reason}")

    def show_note(self, text: str) -> None:
        """Write the note."""
        self._write(clean_text(text))

    def show_warning(self, text: str) -> None:
        """Write the warning."""
        self._write(f"warning: {clean_text(text)}")

    def _write(self, lines: str) -> None:
        print("\n".join(line.rstrip() for line in lines.split("\n")), file=self._stream, flush=True)


class LogThrottle:
    """When the next line on steps is due, so that a log stays short: about twenty, but a sign of life now and then."""

    SHARE, SECONDS, LONGEST_SECONDS = 0.05, 10.0, 300.0

    def __init__(self) -> None:
        self._progress, self._seconds = 0.0, 0.0

    def is_due(self, step: StepReport) -> bool:
        """Whether to write this one: after 10 s and a twentieth of the run, or after 5 minutes."""
        waited = step.seconds - self._seconds
        far_enough = step.progress - self._progress >= self.SHARE and waited >= self.SECONDS
        if not far_enough and 0 <= waited < self.LONGEST_SECONDS:
            return False
        self._progress, self._seconds = step.progress, step.seconds
        return True


# -- a terminal


class LiveScreen:
    """The live view: what happened scrolls by, and under it stand two lines on where training is now."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=4)
        self._columns: list[Column] = []
        self._copies = False

    def __enter__(self) -> LiveScreen:
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Draw the event."""
        if isinstance(event, StepReport):
            self._live.update(draw_progress(event))
        elif isinstance(event, Evaluated):
            self._show_row(event)
        elif isinstance(event, Sampled):
            for number, sample in enumerate(event.samples, 1):
                self._console.print(Text(describe_sample(event, number), style="dim"))
                self._console.print(draw_sample(sample, self._console))
            self._copies = show_sample_stats(self, event.found, copied=self._copies)
            self._console.print()
        elif isinstance(event, BatchSplit):
            self.show_warning(describe_batch_split(event))
        elif isinstance(event, Started):
            self._console.print(Text(describe_start(event), style="dim"))
            self._live.update(Text("first step …", style="dim"))
            self._live.start()
        elif isinstance(event, Finished):
            self._live.stop()
            self._console.print(Text(describe_end(event), style="bold"))

    def show_facts(self, title: str, rows: Sequence[Fact]) -> None:
        """Draw the facts under their title, in columns, the reasons wrapped."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold", max_width=self._console.width * 2 // 5)
        table.add_column(style="dim")
        for row in rows:
            table.add_row(*(Text(on_one_line(cell)) for cell in row))
        self._console.print(Text(on_one_line(title), style="bold"), table, "", sep="\n")

    def show_note(self, text: str) -> None:
        """Draw the note."""
        self._console.print(Text(clean_text(text)))

    def show_warning(self, text: str) -> None:
        """Draw the warning."""
        self._console.print(Text.assemble(("warning: ", "bold yellow"), clean_text(text)))

    def _show_row(self, event: Evaluated) -> None:
        if not self._columns:
            self._columns = choose_columns(self._console.width)
            headings = " ".join(f"{column.heading:>{column.width}}" for column in self._columns)
            self._console.print(Text(f"  {headings}", style="dim", no_wrap=True))
        self._console.print(draw_row(event, self._columns))


FIRST_TO_GO = ("step", "learning rate", "bits per byte", "perplexity", "time", "training loss", "accuracy")
"""What a narrow terminal does without, in this order."""


def choose_columns(width: int) -> list[Column]:
    """The columns for which a line of `width` letters has room."""
    columns = list(COLUMNS)
    for name in FIRST_TO_GO:
        # Each column has a space before it; the mark of the best takes one letter, and the last stays free.
        if sum(column.width + 1 for column in columns) + 2 <= width:
            break
        columns = [column for column in columns if column.name != name]
    return columns


def draw_row(event: Evaluated, columns: Sequence[Column]) -> Text:
    """One line of the table, with a star and in green where it is the best so far."""
    row = epoch_table([event])[0]
    cells = " ".join(f"{row[column.name]:>{column.width}}" for column in columns)
    mark, style = ("* ", "green") if event.best else ("  ", "")
    return Text(mark + cells, style=style, no_wrap=True)


def draw_sample(sample: Sample, console: Console) -> Text:
    """The prompt and, brighter, what the model wrote after it; lines stay lines, long ones are wrapped."""
    text = Text.assemble((clean_text(sample.prompt), "dim italic"), clean_text(sample.text))
    bar = Text.assemble(("  │ ", "dim"))
    return Text("\n").join(bar + line for line in text.wrap(console, max(console.width - 6, 20), tab_size=4))


def draw_progress(event: StepReport) -> Group:
    """Two lines: how far it is, and how it is going."""
    bar = Table.grid(padding=(0, 2, 0, 0), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    steps = f"{event.progress:.0%}  step {event.step:,} of {event.n_steps:,}".replace("%", " %")
    bar.add_row(ProgressBar(total=1.0, completed=event.progress), Text(steps))
    return Group(bar, Text("  ".join(describe_step(event)), style="dim", no_wrap=True, overflow="ellipsis"))
