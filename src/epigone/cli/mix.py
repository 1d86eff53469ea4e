"""The command mix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from epigone.cli.options import PATH, QUIET, Argument, Command, Option
from epigone.cli.runs import find_mixed, find_model
from epigone.errors import quote_command


@click.command(cls=Command, examples="epigone mix austen poe:0.4 --out models/both")
@click.argument("run", cls=Argument, type=click.Path(), text="Folder of a run or of a model; it has what is left.")
@click.argument(
    "others",
    cls=Argument,
    nargs=-1,
    required=True,
    metavar="RUN:SHARE…",
    text="Runs of the same base, each with its share from 0 to 1.",
)
@click.option("-o", "--out", cls=Option, type=PATH, required=True, metavar="FOLDER", help="New folder for the model.")
@QUIET
def mix(run: str, others: Sequence[str], out: Path, *, quiet: bool) -> int:
    """Mix runs of one base into a model of its own, that everything loads."""
    from epigone import mixing
    from epigone.cli.terminal import open_screen
    from epigone.report.escape import show_name

    folder = mixing.mix(find_model(run), find_mixed(others), out)
    with open_screen(quiet=quiet, json=False) as screen:
        screen.show_note(f"The mixture is in {show_name(folder)}. {quote_command('epigone', 'write', folder)}")
    return 0
