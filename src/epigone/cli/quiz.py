"""The command quiz: can you tell the author's text from the model's?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import click
from pydantic import Field

from epigone.cli.options import RUN, Command, out_option
from epigone.errors import SettingsError, pluralize
from epigone.settings import Frozen


class QuizOptions(Frozen):
    """What a quiz is like."""

    common: ClassVar[tuple[str, ...]] = ("count", "length", "seed", "device")

    count: Annotated[int, Field(ge=2)] = 8
    """Passages to show, half of them by the author."""
    length: Annotated[int, Field(ge=5)] = 60
    """Words in each passage, roughly."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random numbers; the same seed makes the same quiz."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to compute on."""


@click.command(
    cls=Command,
    kind=QuizOptions,
    examples="""
        epigone quiz                                    on the newest run
        epigone quiz novel --count 20 --out quiz.html   as a page for the browser
    """,
)
@RUN
@out_option("FILE", "Write the quiz to this file as a page for the browser, instead of asking here.", "--page")
def quiz(run: Path | None, out: Path | None, settings: QuizOptions) -> int:
    """Can you tell the author's held-out text from the model's? A blind test."""
    from epigone.cli.interactive import hold_quiz
    from epigone.cli.runs import choose_run
    from epigone.cli.terminal import loading, open_screen
    from epigone.cli.write import use_idle_threads
    from epigone.report.escape import show_name

    with loading(quiet=False):
        from epigone.report.publish import title_run, write_quiz
        from epigone.run import open_run

    opened = open_run(choose_run(run))
    if out is None and not can_answer():
        raise SettingsError(
            "The quiz asks questions, and standard input is not a terminal.",
            hint="Make a page for the browser instead: --out quiz.html",
        )
    use_idle_threads()
    title = title_run(opened.folder)
    questions = opened.quiz(settings.count, settings.length, seed=settings.seed, device=settings.device)
    with open_screen(quiet=False, json=False, must_show=True) as screen:
        if len(questions) < settings.count:
            screen.show_note(f"The held-out text is enough for {pluralize(len(questions), 'passage')}.")
        if out is None:
            hold_quiz(questions, screen, title)
        else:
            screen.show_note(f"The quiz is in {show_name(write_quiz(questions, title, out))}.")
    return 0


def can_answer() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin.isatty()
