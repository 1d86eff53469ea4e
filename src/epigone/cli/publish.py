"""The command publish."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from epigone.cli.options import PATH, Argument, Command
from epigone.cli.runs import find_model
from epigone.errors import SettingsError, quote_command
from epigone.settings import Frozen

if TYPE_CHECKING:
    from epigone.cli.terminal import Screen
    from epigone.export.publication import Destination, Publication
    from epigone.run import Run

SHOWN_CHARACTERS = 400
"""Of each sample."""


class PublishOptions(Frozen):
    """How to publish."""

    synonyms: ClassVar[Mapping[str, str]] = {"license": "licence", "lang": "language"}
    common: ClassVar[tuple[str, ...]] = ("public", "licence", "language", "yes")

    public: bool = False
    """Let everyone see and download the model. Otherwise only you can, and those to whom you give access."""
    licence: str = ""
    """Licence of the model, by its name on the hub: mit, cc-by-4.0, other, … Otherwise you are asked."""
    language: str = ""
    """Language of the text, as a code: en, de, … Otherwise you are asked."""
    samples: bool = False
    """Upload the samples of every epoch, too. Those of the kept model are always in the card, and shown to you."""
    yes: bool = False
    """Do not ask: for scripts."""
    accept_copies: bool = False
    """Upload a model even if it copies its text, without asking: for scripts."""


@click.command(
    cls=Command,
    kind=PublishOptions,
    examples="""
        epigone publish runs/novel jane/novel
        epigone publish runs/sonnets jane/sonnets --public --licence mit --language en --yes
    """,
)
@click.argument("run", cls=Argument, type=PATH, text="Folder of the run.")
@click.argument("name", cls=Argument, metavar="USER/NAME", text="Name of the model on the hub.")
def publish(run: Path, name: str, settings: PublishOptions) -> int:
    """Upload a run's model to the Hugging Face Hub: privately, unless you say otherwise."""
    from epigone.cli.terminal import loading, open_screen, print_piece
    from epigone.export.publication import check_language, check_licence, check_repository

    repository = check_repository(name)
    check_licence(settings.licence)
    check_language(settings.language)
    if settings.public and settings.yes and not settings.licence:
        raise SettingsError("A public model needs a licence.", hint="Add --licence mit, … or --licence unknown.")
    with loading(quiet=False):
        from epigone.export.publication import find_destination, upload
        from epigone.run import open_run
    opened = open_run(find_model(str(run)))
    place = find_destination(repository, public=settings.public)
    with open_screen(quiet=False, json=False, must_show=True) as screen:
        publication = _prepare(opened, repository, settings)
        _show(publication, place, opened, settings, screen)
    if not _is_agreed(publication, place, settings):
        print_piece("Nothing was uploaded.\n")
        return 0
    done = upload(publication, place, progress=sys.stderr.isatty())
    what = "is at" if done.changed else "has not changed; it is at"
    print_piece(f"The model {what} {done.url}\nTo write with it: {quote_command('epigone', 'write', f'hub:{name}')}\n")
    return 0


def _prepare(run: Run, repository: str, settings: PublishOptions) -> Publication:
    from epigone.export.publication import check_language, check_licence, prepare_publication
    from epigone.runs.model_folder import find_model_folder

    licence, language = settings.licence, settings.language
    if not settings.yes:
        licence = licence or _ask("Licence of the model (mit, cc-by-4.0, other, …; Enter for none): ")
        language = language or _ask("Language of the text (en, de, …; Enter to leave it out): ")
    return prepare_publication(
        run.folder,
        find_model_folder(run.path, progress=False),
        repository,
        licence=check_licence(licence),
        language=check_language(language),
        samples=settings.samples,
    )


def _show(publication: Publication, place: Destination, run: Run, settings: PublishOptions, screen: Screen) -> None:
    """What goes up, what stays, and what its author should know."""
    from epigone.export.publication import list_kept_back
    from epigone.report.escape import on_one_line, show_name
    from epigone.report.pages import shorten_text
    from epigone.report.views import format_bytes

    screen.show_facts(
        f"What goes up to {place.repository}",
        [(file.name, format_bytes(file.n_bytes), file.what) for file in publication.files],
    )
    for sample in publication.samples:
        text = shorten_text(on_one_line(sample.prompt + sample.text), SHOWN_CHARACTERS)
        screen.show_note(f"A sample in the card: {text}")
    screen.show_note(f"The card names your text: {', '.join(map(show_name, publication.sources))}.")
    if place.private and settings.public:
        screen.show_warning(f"{place.repository} is private and stays so; that can be changed on its page.")
    seen = "only you, and those to whom you give access" if place.private else "everyone"
    screen.show_note(f"Who can see it there: {seen}.")
    screen.show_note(f"What stays here: {', '.join(list_kept_back(run.folder))}.")
    if publication.copying:
        screen.show_warning(f"The model copies its text. {publication.copying}")
    elif not publication.is_judged:
        command = quote_command("epigone", "judge", run.path)
        screen.show_note(f"Nothing is known yet of what it copies from your text: {command}")


def _is_agreed(publication: Publication, place: Destination, settings: PublishOptions) -> bool:
    """Whether it is to be uploaded; asked twice where it copies. Raises SettingsError."""
    if settings.yes:
        if publication.copying and not settings.accept_copies:
            raise SettingsError(
                "The model copies its text, so it is not uploaded without a question.",
                hint="Leave out --yes, or add --accept-copies.",
            )
        return True
    from epigone.report.views import format_bytes

    size = format_bytes(publication.n_bytes)
    if _ask(f"Upload these {len(publication.files)} files ({size})? [y/N] ").lower() not in YES:
        return False
    if not publication.copying or settings.accept_copies:
        return True
    return _ask("Others may get passages of your text out of it. Type copies to upload it all the same: ") == "copies"


YES = ("y", "yes")


def _ask(question: str) -> str:
    """An answer. Raises SettingsError at the end of input."""
    from epigone.cli.terminal import ask_line

    answer = ask_line(question)
    if answer is None:
        raise SettingsError("publish asks before it uploads.", hint="In a script, add --yes.")
    return answer.strip()
