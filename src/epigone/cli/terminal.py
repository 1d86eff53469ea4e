"""Output of the commands: a live view on a terminal, plain lines in a pipe, JSON for programs."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from textwrap import wrap
from typing import Any, Protocol, TextIO, cast

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from epigone.cli.live import Fact, LiveScreen
from epigone.report.escape import clean_text, on_one_line, show_controls, show_name
from epigone.report.views import (
    COPYING_WARNING,
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
    Sampled,
    SampleStats,
    Stage,
    Started,
    StepReport,
)

WORDS_AND_SPACE = re.compile(r"\n|[^\S\n]+|\S+")
SHORTEST_COLUMN = 16
WIDEST_TEXT = 100
"""Cells in a line of text on a terminal: longer lines are hard to read."""


class _RobustStream:
    """A stream that ignores a closed terminal or pipe: everything written from then on is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._ignore_closed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._ignore_closed():
            self._stream.flush()

    @contextmanager
    def _ignore_closed(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # a broken pipe or a closed terminal
            with suppress(OSError):  # Python flushes the rest when it ends
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, self._stream.fileno())
                os.close(devnull)


def tolerate_broken_pipe(stream: TextIO) -> TextIO:
    """The stream without its errors: closed, it is ignored; characters that its encoding does not have become "?"."""
    _replace_unencodable(stream)
    return cast(TextIO, _RobustStream(stream))


def _replace_unencodable(stream: TextIO) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


class Screen(Protocol):
    """Where the progress of a command is shown."""

    def show_run(self, title: str, history: Iterable[Event]) -> None:
        """Say which run comes, and what was recorded of it before a resume."""

    def show(self, event: Event | Stage) -> None:
        """Show an event of training, or what is being done."""

    def show_facts(self, title: str, rows: Sequence[Fact]) -> None:
        """Show names, values and reasons in columns: a receipt, a plan."""

    def show_note(self, text: str) -> None:
        """Show a message."""

    def show_warning(self, text: str) -> None:
        """Show a message that should not be missed."""

    def show_end(self, text: str) -> None:
        """Show a message, and leave the terminal such that the process may be ended at any moment."""


@contextmanager
def open_screen(*, quiet: bool, json: bool, stdout: TextIO | None = None, must_show: bool = False) -> Iterator[Screen]:
    """The screen for this output. When it closes, the terminal is restored.

    A terminal gets the live view, a pipe plain lines. With `json`, standard output is for the result: progress
    goes to standard error, if that is a terminal. A broken output raises OSError only where the screen `must_show`.
    """
    stdout = sys.stdout if stdout is None else stdout
    if quiet or (json and not sys.stderr.isatty()):
        yield QuietScreen()
    elif json or not _is_live(stdout):
        stream = sys.stderr if json else stdout
        _replace_unencodable(stream)
        yield PlainScreen(stream if must_show else tolerate_broken_pipe(stream))
    else:
        with LiveScreen(
            Console(file=tolerate_broken_pipe(stdout), highlight=False, markup=False, emoji=False)
        ) as screen:
            yield screen


def _is_live(stdout: TextIO) -> bool:
    """Whether lines can be overwritten: a terminal that is not called dumb, and that only this process writes to."""
    is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
    return stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown") and is_alone


# -- text as it comes


def print_piece(text: str, *, dim: bool = False) -> None:
    """Print a piece of text without a line break, `dim` on a terminal with colours; "?" for what cannot be encoded."""
    text = show_controls(text) if sys.stdout.isatty() else text  # no text may control the terminal
    encoding = sys.stdout.encoding or "utf-8"
    text = text.encode(encoding, "replace").decode(encoding)
    styled = dim and text and _is_live(sys.stdout) and not os.environ.get("NO_COLOR")
    sys.stdout.write(f"\x1b[2m{text}\x1b[22m" if styled else text)
    sys.stdout.flush()


def print_text(pieces: Iterable[str], column: int = 0) -> None:
    """Print a text as it comes; on a terminal no word is divided at the end of a line. It begins in this column."""
    width = min(shutil.get_terminal_size().columns, WIDEST_TEXT)
    for piece in WordWrapper(width, column).wrap(pieces) if sys.stdout.isatty() else pieces:
        print_piece(piece)


class WordWrapper:
    """Puts a line break in place of the white space before each word that would go past the width of a line."""

    def __init__(self, width: int, column: int = 0) -> None:
        """Both in cells of a terminal: the width, and how many are filled before the text begins."""
        self._width, self._column, self._space = width, column, ""

    def wrap(self, pieces: Iterable[str]) -> Iterator[str]:
        """The text, piece by piece; a word comes when it is whole."""
        held = ""
        for piece in pieces:
            *parts, held = WORDS_AND_SPACE.findall(held + piece) or [""]
            yield "".join(map(self._place, parts))
        yield self._place(held)

    def _place(self, part: str) -> str:
        """A word, white space or a line break, with what goes before it."""
        space, self._space = self._space, ""
        if part == "\n":
            self._column = 0
        elif part.isspace():
            self._space = part
            return ""
        elif self._column and self._column + cell_len(space + part) > self._width:
            space, self._column = "\n", cell_len(part)
        else:
            self._column += cell_len(space + part)
        return space + part


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; on a terminal the headings are dim and the last column is wrapped."""
    lines = [tuple(map(show_name, row)) for row in ([headings] if headings else []) + [*rows]]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)][:-1]
    room = shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths)
    for number, line in enumerate(lines):
        start = "".join(cell + " " * (width - cell_len(cell) + 2) for cell, width in zip(line, widths, strict=False))
        wrapped = wrap(line[-1], max(room, SHORTEST_COLUMN)) if sys.stdout.isatty() else [line[-1]]
        text = ("\n" + " " * cell_len(start)).join(wrapped)
        print_piece(f"{start}{text}".rstrip() + "\n", dim=bool(headings) and number == 0)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(spell_json(value))


def spell_json(value: object) -> str:
    """A value as JSON, escaped where standard output cannot encode it."""
    text, encoding = json.dumps(value, ensure_ascii=False, indent=2), sys.stdout.encoding or "utf-8"
    return text if text == text.encode(encoding, "ignore").decode(encoding) else json.dumps(value, indent=2)


@contextmanager
def show_progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal. It is moved by calls with (done, total)."""
    with show_stages(quiet=quiet) as watch:
        yield partial(watch, what)


@contextmanager
def show_stages(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """The same for several stages: calls with (stage, done, total). A total of 0 is unknown."""
    if quiet or not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        yield lambda what, n_done, n_all: None
        return
    share_done = TextColumn("{task.fields[share]}")  # rich's own column says 0 % where the total is unknown
    columns = (TextColumn("{task.description}"), BarColumn(), share_done, TimeRemainingColumn())
    console = Console(file=tolerate_broken_pipe(sys.stderr))
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("", visible=False, share="")

        def watch(what: str, n_done: int, n_all: int) -> None:
            bar.tasks[0].total = n_all or None  # to `update`, None is the total of before
            is_going = n_done < n_all or not n_all  # what is done makes room for other bars, such as a download's
            share = f"{n_done / n_all:.0%}" if n_all else ""
            bar.update(task, description=what, completed=n_done, share=share, visible=is_going, refresh=not n_all)

        yield watch


@contextmanager
def loading(*, quiet: bool) -> Iterator[None]:
    """While libraries are imported: says so on a terminal, and pauses the garbage collector.

    None of the 700,000 objects that torch and transformers create is garbage. Without the pause the collector takes a
    fifth of the time of the import, and unless they are frozen, another two seconds when the process ends.
    """
    with show_stages(quiet=quiet) as watch:
        watch("Loading PyTorch and transformers", 0, 0)
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()


def ask_line(mark: str) -> str | None:
    """The next line of standard input, with a prompt on a terminal; None at the end of input."""
    if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.errors != "replace":
        sys.stdin.reconfigure(errors="replace")  # only possible before the first line
    mark = mark if sys.stdin.isatty() else ""
    with suppress(ImportError):
        import readline  # noqa: F401  # gives input() the arrow keys
    try:
        return input(mark)
    except EOFError:
        print_piece("\n" if mark else "")
        return None


def complete_lines(words: Sequence[str]) -> None:
    """Let the Tab key complete lines that begin with one of these words."""
    if not sys.stdin.isatty():
        return
    with suppress(ImportError):
        import readline

        def complete(text: str, state: int) -> str | None:
            found = [f"{word} " for word in words if text and word.startswith(text)]
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" ")
        readline.parse_and_bind("tab: complete")


def show_sample_stats(screen: Screen, found: SampleStats | None, *, copied: bool) -> bool:
    """Show statistics of the samples, and warn when they start to copy. Returns whether they copy."""
    if found is None:
        return copied
    screen.show_note(describe_sample_stats(found))
    copies = found.copying == "bad"
    if copies and not copied:
        screen.show_warning(COPYING_WARNING)
    return copies


# -- nothing


class QuietScreen:
    """A screen that shows nothing."""

    def show_run(self, title: str, history: Iterable[Event]) -> None:
        """Show nothing."""

    def show(self, event: Event | Stage) -> None:
        """Show nothing."""

    def show_facts(self, title: str, rows: Sequence[Fact]) -> None:
        """Show nothing."""

    def show_note(self, text: str) -> None:
        """Show nothing."""

    def show_warning(self, text: str) -> None:
        """Show nothing."""

    def show_end(self, text: str) -> None:
        """Show nothing."""


# -- plain lines


class PlainScreen:
    """Plain lines without colour, for a pipe or a log: some steps, every evaluation, every sample in full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pace = LogThrottle()
        self._copies = False

    def show_run(self, title: str, history: Iterable[Event]) -> None:
        """Write nothing: the lines before say it."""

    def show(self, event: Event | Stage) -> None:
        """Write the event's lines; of steps only some, of stages nothing."""
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
        """Write the facts under their title, one per line, aligned."""
        cells = [tuple(map(on_one_line, row)) for row in rows]
        name_width = max((len(name) for name, _, _ in cells), default=0)
        value_width = min(max((len(value) for _, value, _ in cells), default=0), 40)  # for one long path
        self._write(on_one_line(title))
        for name, value, reason in cells:
            self._write(f"  {name:<{name_width}}  {value:<{value_width}}  {reason}")

    def show_note(self, text: str) -> None:
        """Write the note."""
        self._write(clean_text(text))

    def show_warning(self, text: str) -> None:
        """Write the warning."""
        self._write(f"warning: {clean_text(text)}")

    def show_end(self, text: str) -> None:
        """Write the note."""
        self.show_note(text)

    def _write(self, lines: str) -> None:
        print("\n".join(line.rstrip() for line in lines.split("\n")), file=self._stream, flush=True)


class LogThrottle:
    """Which steps are logged: about twenty in a run, and at least one every five minutes."""

    SHARE, SECONDS, LONGEST_SECONDS = 0.05, 10.0, 300.0

    def __init__(self) -> None:
        self._progress, self._seconds = 0.0, 0.0

    def is_due(self, step: StepReport) -> bool:
        """Whether to log this step: after 10 s and a twentieth of the run, or after 5 minutes."""
        waited = step.seconds - self._seconds
        far_enough = step.progress - self._progress >= self.SHARE and waited >= self.SECONDS
        if not far_enough and 0 <= waited < self.LONGEST_SECONDS:
            return False
        self._progress, self._seconds = step.progress, step.seconds
        return True
