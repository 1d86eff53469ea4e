"""The command mix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from epigone.cli.options import QUIET, Argument, Command, complete_runs, out_option
from epigone.cli.runs import find_mixed, find_model, using_model
from epigone.errors import SettingsError, quote_command
from epigone.settings import parse_mix


@click.command(cls=Command, examples="epigone mix austen poe:0.4 --out models/both")
@click.argument(
    "run",
    cls=Argument,
    type=click.Path(),
    shell_complete=complete_runs,
    text="The first run or model, which has the share that the others leave.",
)
@click.argument(
    "others",
    cls=Argument,
    nargs=-1,
    required=True,
    shell_complete=complete_runs,
    metavar="RUN:SHARE…",
    text="Runs of the same base, each with its share from 0 to 1.",
)
@out_option("FOLDER", "New folder for the model.", required=True)
@QUIET
def mix(run: str, others: Sequence[str], out: Path, *, quiet: bool) -> int:
    """Mix runs of the same base into one new model."""
    from epigone import mixing
    from epigone.cli.terminal import open_screen
    from epigone.report.escape import show_name

    for other in others:
        try:
            parse_mix(other)
        except ValueError as error:
            raise SettingsError(f"{other} is not {error}.") from None
    with using_model():
        name = find_model(run)
        folder = mixing.mix(name, find_mixed(others, name), out)
    with open_screen(quiet=quiet, json=False) as screen:
        screen.show_note(
            f"The mixture is in {show_name(folder)}. To write with it: {quote_command('epigone', 'write', folder)}"
        )
    return 0
