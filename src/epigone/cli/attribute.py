"""The command attribute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from epigone.cli.judge import ScoreOptions, read_document
from epigone.cli.options import JSON, Argument, Command, complete_runs
from epigone.cli.runs import find_model, using_model
from epigone.errors import RunNotFound, SettingsError, quote_command
from epigone.runs.listing import RUNS

if TYPE_CHECKING:
    from epigone.evaluation.attribution import Attribution


@click.command(cls=Command, kind=ScoreOptions, examples="epigone attribute letter.txt austen poe twain")
@click.argument(
    "text", cls=Argument, type=click.Path(), text="A file, an address (https://…), or - for standard input."
)
@click.argument(
    "runs",
    cls=Argument,
    type=click.Path(),
    nargs=-1,
    required=True,
    shell_complete=complete_runs,
    metavar="RUN…",
    text="A run for each author.",
)
@JSON
def attribute(text: str, runs: Sequence[str], settings: ScoreOptions, *, as_json: bool) -> int:
    """Who wrote this? One of the authors of these runs, or none of them."""
    from epigone.cli.terminal import loading, print_json, show_progress

    with loading(quiet=as_json):
        from epigone import run as library
        from epigone.runs.folder import RunFolder

    if not Path(text).is_file() and any(RunFolder.is_run(place) for place in (Path(text), RUNS / text)):
        files = [run for run in runs if Path(run).is_file()]
        rest = [run for run in runs if run not in files]
        raise SettingsError(
            "The text comes first, then the runs.",
            hint=quote_command(
                "epigone", "attribute", *(map(Path, files[:1]) if files else ["TEXT"]), Path(text), *map(Path, rest)
            ),
        )
    folders = [find_model(run) for run in runs]
    if other := next((folder for folder in folders if not RunFolder.is_run(Path(folder))), None):
        raise RunNotFound(f"{other} is not a run.", hint="attribute compares with what each run has learned from.")
    document = read_document(text, settings, like=Path(folders[0]))
    with show_progress("Opening runs", quiet=as_json) as on_progress, using_model():
        found = library.attribute(str(document.text), *folders, device=settings.device, on_progress=on_progress)
    if as_json:
        print_json({"text": document.name, **found.model_dump(), "best": found.best and found.best.name})
    else:
        _show(document.name, found)
    return 0


def _show(name: str, found: Attribution) -> None:
    from epigone.cli.terminal import open_screen
    from epigone.report.views import describe_attribution, summarise_attribution

    with open_screen(quiet=False, json=False, must_show=True) as screen:
        screen.show_note(summarise_attribution(found))
        screen.show_facts(name, describe_attribution(found))
        for note in found.notes:
            screen.show_note(note)
