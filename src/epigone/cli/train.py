"""Texts or a run in; what train, plan and resume show and print, and their exit code, out."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epigone.errors import TextNotFound
from epigone.settings import TrainSettings

if TYPE_CHECKING:
    from epigone.cli.terminal import Screen
    from epigone.runs.folder import RunFolder
    from epigone.training.events import Event


INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)
HANGUPS = tuple(signal.Signals[name] for name in ("SIGHUP",) if name in signal.Signals.__members__)
"""What comes when a terminal is closed or a connection drops, often more than once; Windows has none."""
SAMPLE = "sample:sonnets"


def _require_text(text: Sequence[str]) -> list[str]:
    if not text:
        raise TextNotFound(
            "No text was given.",
            hint=f"Give one: epigone train my.txt. Or try the bundled sonnets of Shakespeare: epigone train {SAMPLE}",
        )
    return list(text)


def train(text: Sequence[str], out: Path | None, settings: TrainSettings, *, quiet: bool, as_json: bool) -> int:
    """What `epigone train` does. Raises EpigoneError."""
    names = _require_text(text)
    from epigone import pipeline
    from epigone.cli.terminal import show_stages
    from epigone.report.views import describe_plan, describe_receipt

    folder = pipeline.create_run(names, out)
    with _open_screen(quiet, as_json) as screen, pipeline.lock_run(folder), catch_signals(screen) as was_stopped:
        with show_stages(quiet=quiet) as watch:
            preparation = pipeline.prepare_run(folder, names, settings, progress=not quiet, watch=watch)
        _show_warnings(screen, preparation.receipt)
        screen.show_facts("Read", describe_receipt(preparation.receipt))
        screen.show_facts("Plan", describe_plan(preparation.plan, preparation.estimate))
        return _watch(folder, pipeline.run_training(folder, preparation, should_stop=was_stopped), screen, as_json)


def plan(text: Sequence[str], settings: TrainSettings, *, quiet: bool, as_json: bool) -> int:
    """What `epigone plan` does. Raises EpigoneError."""
    names = _require_text(text)
    from epigone import pipeline
    from epigone.cli.terminal import print_json, show_stages
    from epigone.report.views import describe_plan, describe_receipt

    with _open_screen(quiet, as_json) as screen:
        with show_stages(quiet=quiet) as watch:
            found = pipeline.plan(*names, settings=settings, watch=watch)
        _show_warnings(screen, found.receipt)
        screen.show_facts("Read", describe_receipt(found.receipt))
        screen.show_facts("Plan", describe_plan(found.plan, found.estimate))
    if as_json:
        print_json({"plan": asdict(found.plan), "estimate": asdict(found.estimate), "receipt": found.receipt})
    return 0


def resume(run: Path, changes: dict[str, Any], *, quiet: bool, as_json: bool) -> int:
    """What `epigone resume` does. Raises EpigoneError."""
    from epigone import pipeline, resumption
    from epigone.run import open_run

    folder = open_run(run).folder
    with _open_screen(quiet, as_json) as screen, pipeline.lock_run(folder), catch_signals(screen) as was_stopped:
        events = resumption.continue_run(folder, changes, should_stop=was_stopped, on_note=screen.show_warning)
        return _watch(folder, events, screen, as_json)


# -- showing


@contextmanager
def _open_screen(quiet: bool, as_json: bool) -> Iterator[Screen]:
    from epigone.cli.terminal import open_screen
    from epigone.training.distributed import is_main_process

    with open_screen(quiet=quiet or not is_main_process(), json=as_json) as screen:
        yield screen


def _show_warnings(screen: Screen, receipt: dict[str, Any]) -> None:
    for file in [*receipt["files"], *receipt["held_out_files"]]:
        if file["warning"]:
            screen.show_warning(f"{file['name']}: {file['warning']}")


def _watch(folder: RunFolder, events: Iterator[Event], screen: Screen, as_json: bool) -> int:
    """Show the events, then where everything lies; or all of it as JSON."""
    from epigone.cli.terminal import print_json
    from epigone.distillation import can_teach
    from epigone.training.distributed import is_main_process
    from epigone.training.events import Evaluated, Finished

    evaluations, reason = [], ""
    for event in events:
        screen.show(event)
        if isinstance(event, Evaluated):
            evaluations.append(asdict(event))
        if isinstance(event, Finished):
            reason = event.reason
    if reason == "interrupted":
        screen.show_note(f"Saved. Go on with: epigone resume {folder.path}")
    else:
        screen.show_note(f"The model is in {folder.model}, all about it in {folder.report}.")
        screen.show_note(f'Write with it: epigone write {folder.path} --prompt "…"')
        if can_teach(folder.read_plan()[0], reason):
            screen.show_note(f"A second model learns the text better from it: epigone train … --teacher {folder.path}")
    if as_json and is_main_process():
        print_json({"run": str(folder.path), "reason": reason, "evaluations": evaluations})
    return INTERRUPTED if reason == "interrupted" else 0


@contextmanager
def catch_signals(screen: Screen) -> Iterator[Any]:
    """Gives what says whether somebody asked to stop. The first signal asks, the second ends the process at once.

    The end of the terminal asks too, but ends nothing at once; under nohup it stays ignored.
    """
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        again = bool(asked)
        asked.append(number)
        for other in SIGNALS:  # whichever comes next
            signal.signal(other, signal.SIG_DFL)
        if not again:
            with suppress(RuntimeError):  # it came while a line was being written
                screen.show_note("Stopping after this step; once more stops at once.")

    hangups = [number for number in HANGUPS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in (*SIGNALS, *hangups)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
