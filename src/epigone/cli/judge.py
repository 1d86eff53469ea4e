"""The commands judge, score and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import click

from epigone.cli.options import JSON, RUN, Argument, Command, complete_runs, out_option
from epigone.cli.runs import choose_run, find_model, using_model
from epigone.cli.write import use_idle_threads
from epigone.errors import RunDamaged, RunIncompatible, SettingsError, TextError, TextNotFound, quote_command
from epigone.runs.listing import RUNS, looks_like_run
from epigone.settings import JudgeSettings, ReadSettings

if TYPE_CHECKING:
    from epigone.corpus.corpus import Document
    from epigone.evaluation.judge import Author
    from epigone.evaluation.verdict import Judgement
    from epigone.generation.scoring import Score
    from epigone.runs.folder import RunFolder

HELD_OUT = 0.1
"""Share of an author's text that is held out, to compare the author with themselves."""


@click.command(
    cls=Command,
    kind=JudgeSettings,
    examples="""
        epigone judge                                   the newest run
        epigone judge novel
        epigone judge story.txt --author austen.txt     a text, against another one
    """,
)
@click.argument(
    "target",
    cls=Argument,
    required=False,
    type=click.Path(),
    shell_complete=complete_runs,
    metavar="[RUN]",
    text="Name or folder of a run, whose model writes what is judged; or a text, together with --author. "
    "[default: the newest run]",
)
@JSON
def judge(target: str | None, settings: JudgeSettings, *, as_json: bool) -> int:
    """Does it sound like the author, make sense, copy, or repeat itself? And what was learned?"""
    folder = settings.reference_authors
    from epigone.cli.terminal import loading, print_json

    with loading(quiet=as_json):
        import epigone.run  # noqa: F401  # and with it torch

    others = _read_others(Path(folder), settings) if folder else None
    if settings.author:
        judgement = _judge_file(_require_text(target, settings.author), settings, others)
    else:
        judgement = _judge_run(target, settings, others)
    if as_json:
        print_json(judgement.as_json())
    else:
        _show_judgement(judgement)
    return 0


class ScoreOptions(ReadSettings):
    """How to read and score a text."""

    common: ClassVar[tuple[str, ...]] = (*ReadSettings.model_fields, "device")

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to compute on."""


@click.command(
    cls=Command,
    kind=ScoreOptions,
    examples="""
        epigone score chapter.txt                       under the newest run
        epigone score novel chapter.txt
        epigone score gpt2 chapter.txt                  under a base model
    """,
)
@click.argument(
    "run",
    cls=Argument,
    type=click.Path(),
    shell_complete=complete_runs,
    metavar="[RUN]",
    text="Name or folder of a run, folder of a model, or a GPT-2 on the Hugging Face Hub. [default: the newest run]",
)
@click.argument(
    "text",
    cls=Argument,
    required=False,
    type=click.Path(),
    metavar="TEXT",
    text="A file, an address (https://…), or - for standard input.",
)
@JSON
def score(run: str, text: str | None, settings: ScoreOptions, *, as_json: bool) -> int:
    """How likely is a text under a model? As a whole, and its least likely lines."""
    if text is None:
        if Path(run).is_dir() or looks_like_run(RUNS / run):
            raise SettingsError("score needs a text.", hint=f"{quote_command('epigone', 'score', Path(run))} TEXT")
        run, text = str(choose_run(None)), run
    if " " in text and not Path(text).expanduser().exists() and not Path(text).suffix:
        command = quote_command("epigone", "score", Path(run), "-")
        raise SettingsError(
            f"There is no file {text}.", hint=f"score reads a file. To score a sentence: echo … | {command}"
        )
    if Path(run).is_file() and Path(text).is_dir():
        raise SettingsError(
            "The run comes first, then the text.", hint=quote_command("epigone", "score", Path(text), Path(run))
        )
    from epigone.cli.terminal import loading, print_json

    with loading(quiet=as_json):
        from epigone import run as runs

    name = find_model(run)
    document = read_document(text, settings, like=Path(name))
    with using_model():
        found = runs.score(name, str(document.text), settings.device, progress=not as_json)
    if as_json:
        from epigone.generation.scoring import ScoreRecord

        print_json({"run": run, "text": document.name, **ScoreRecord.model_validate(found).model_dump()})
    else:
        _show_score(document, found)
    return 0


@click.command(
    cls=Command,
    examples="""
        epigone report                                  of the newest run
        epigone report novel --out novel.html
    """,
)
@RUN
@out_option("FILE", "Write to this file instead of report.html in the run's folder.")
def report(run: Path | None, out: Path | None) -> int:
    """Write one page about a run: curves, samples, verdicts, text and plan."""
    from epigone.cli.terminal import loading, open_screen
    from epigone.report.escape import show_name

    with loading(quiet=False):
        from epigone.run import open_run

    path = open_run(choose_run(run)).report(out)
    with open_screen(quiet=False, json=False, must_show=True) as screen:
        screen.show_note(f"The report is in {show_name(path)}.")
    return 0


def read_document(file: str, settings: ReadSettings, *, like: Path | None = None) -> Document:
    """A text; its wrapped lines are joined if those of the run that it is `like` were."""
    from epigone.corpus.corpus import read_corpus, unwrap_corpus
    from epigone.runs.folder import RunFolder

    corpus = read_corpus([file], settings, smallest_bytes=1)
    if like is not None and RunFolder.is_run(like):
        corpus = unwrap_corpus(corpus, "auto" if _has_joined(RunFolder.find(like)) else "no")
    if len(corpus.documents) > 1:
        raise TextError(f"{file} contains {len(corpus.documents):,} texts; score reads one.", hint="Name one file.")
    return corpus.documents[0]


def _has_joined(run: RunFolder) -> bool:
    """Whether lines of the run's text were joined; as of most texts, where its receipt cannot be understood."""
    try:
        return any(file.n_lines_joined for file in run.read_receipt().files)
    except (RunDamaged, RunIncompatible):
        return True


def _show_score(document: Document, found: Score) -> None:
    from epigone.cli.terminal import open_screen
    from epigone.report.views import describe_cuts, describe_score, describe_worst_lines

    with open_screen(quiet=False, json=False, must_show=True) as screen:
        if document.receipt.warning:
            screen.show_warning(f"{document.name}: {document.receipt.warning}")
        screen.show_facts(document.name, [*describe_cuts(document.receipt), *describe_score(found)])
        screen.show_facts("Least likely lines", describe_worst_lines(found))


def _require_text(target: str | None, author: Sequence[str]) -> str:
    if target is not None and looks_like_run(RUNS / target if not Path(target).exists() else Path(target)):
        raise SettingsError(
            f"{target} is a run, which has its own author.",
            hint=f"{quote_command('epigone', 'judge', target)}, without --author.",
        )
    if target is None:
        command = quote_command("epigone", "judge", "TEXT", "--author", *map(Path, author[:1]))
        raise SettingsError("--author needs a text to judge.", hint=f"{command}. A run has its own author.")
    return target


def _judge_run(target: str | None, settings: JudgeSettings, others: Mapping[str, Sequence[str]] | None) -> Judgement:
    from epigone.run import open_run
    from epigone.runs.folder import RunFolder

    if target is not None and Path(target).is_file() and not RunFolder.is_run(Path(target)):
        command = quote_command("epigone", "judge", Path(target))
        raise SettingsError(
            f"{target} is a text, not a run.",
            hint=f"To judge it, give a text by its author: {command} --author FILE",
        )
    use_idle_threads()
    return open_run(choose_run(target)).judge(
        settings.sample_characters,
        others=others,
        critic=settings.critic,
        seed=settings.seed,
        device=settings.device,
    )


def _judge_file(target: str, settings: JudgeSettings, others: Mapping[str, Sequence[str]] | None) -> Judgement:
    from epigone.evaluation.judge import judge_text
    from epigone.run import open_critic

    document, author = read_document(target, settings), _read_author(settings)
    critic = open_critic(settings.critic, author, device=settings.device)
    return judge_text(str(document.text), document.name, author, others, critic=critic, seed=settings.seed)


def _read_author(settings: JudgeSettings) -> Author:
    """The author of some texts, of which a part is held out."""
    from epigone.corpus.corpus import read_corpus
    from epigone.corpus.split import split_corpus
    from epigone.evaluation.judge import Author

    try:
        corpus = read_corpus(settings.author, settings)
    except TextNotFound as error:
        if not any(Path(name).suffix for name in settings.author):
            error.hint = "--author takes a file or a folder with texts by the author, not a name."
        raise
    split = split_corpus(corpus, how="auto", share=HELD_OUT, seed=0)
    return Author(
        name=", ".join(document.name for document in corpus.documents[:3]),
        documents=list(split.train_texts(corpus)),
        held_out=list(split.validation_texts(corpus)),
        searched=[document.text for document in corpus.documents],
    )


def _read_others(folder: Path, settings: ReadSettings) -> dict[str, list[str]]:
    """The texts of each author: those in a folder of that name, or in one file."""
    from epigone.corpus.corpus import read_corpus

    places = sorted(place for place in folder.iterdir() if not place.name.startswith(".")) if folder.is_dir() else []
    if not places:
        raise TextNotFound(f"{folder} is not a folder with texts.", hint="It needs a folder or a file for each author.")
    found = {place.stem: read_corpus([str(place)], settings, smallest_bytes=1) for place in places}
    return {name: [str(document.text) for document in corpus.documents] for name, corpus in found.items()}


def _show_judgement(judgement: Judgement) -> None:
    from epigone.cli.terminal import open_screen
    from epigone.report.views import describe_judgement, summarise_judgement, view_verdicts

    with open_screen(quiet=False, json=False, must_show=True) as screen:
        screen.show_note(describe_judgement(judgement))
        screen.show_note(summarise_judgement(judgement))
        for verdict in view_verdicts(judgement):
            screen.show_facts(verdict.answer, verdict.rows)
        for note in judgement.notes:
            screen.show_note(note)
