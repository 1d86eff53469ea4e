"""The commands train, plan and resume: they show a run's events; the work is done by the library."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import click
from pydantic import BeforeValidator, Field

from epigone.cli.address_space import TO_TRAIN
from epigone.cli.options import JSON, QUIET, RUN, SETTINGS_FILE, Argument, Command, Option, out_option
from epigone.errors import EpigoneError, SettingsError, TextNotFound, quote_command
from epigone.settings import Frozen, Off, Positive, PrepareSettings, TrainSettings, as_minutes

if TYPE_CHECKING:
    from epigone.cli.terminal import Screen
    from epigone.pipeline import Part, Planned
    from epigone.planning.plan import Plan
    from epigone.runs.folder import RunFolder
    from epigone.runs.records import Receipt
    from epigone.training.events import Event, Stage
    from epigone.voices import VoicesRecord

INTERRUPTED = 130
PLAN_OF_ALL = "Plan of the run of all texts"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
HANGUPS = tuple(signal.Signals[name] for name in ("SIGHUP", "SIGBREAK") if name in signal.Signals.__members__)
"""Sent when a terminal is closed or a connection drops, often more than once; on Windows the second."""
TEXT = click.argument(
    "text",
    cls=Argument,
    nargs=-1,
    type=click.Path(),
    metavar="TEXT...",
    text='Files, folders, patterns such as "*.txt", addresses (https://…), - for standard input, or sample:sonnets.',
)


BY_FOLDER = click.option(
    "--by-folder",
    cls=Option,
    is_flag=True,
    group="Model",
    help="Short for --by folder: a voice for each folder and file in TEXT.",
)


@click.command(
    cls=Command,
    address_space=TO_TRAIN,
    kind=TrainSettings,
    examples="""
        epigone train novel.docx                        the run is in runs/novel
        epigone train novel.docx --minutes 10           for at most ten minutes
        epigone train poems/ --base none --sample-prompt "Shall I"
        epigone train sample:sonnets --minutes 2        without a text of your own
        epigone train authors/ --by-folder              several voices: a folder for each author
    """,
)
@TEXT
@out_option("FOLDER", "Folder of the run. [default: runs/NAME]")
@BY_FOLDER
@SETTINGS_FILE
@QUIET
@JSON
def train(
    text: Sequence[str], out: Path | None, settings: TrainSettings, *, by_folder: bool, quiet: bool, as_json: bool
) -> int:
    """Train a model to write in the style of a text.

    Reads the text, plans the training, trains with samples and validation as it goes, and keeps the best model.
    """
    names, settings, began = _require_text(text), _choose_voices(settings, by_folder=by_folder), time.monotonic()
    from epigone.cli.terminal import loading, show_stages

    with loading(quiet=quiet):
        from epigone.pipeline import Planned
        from epigone.report.views import describe_plan
        from epigone.resumption import train_or_resume
        from epigone.voices import read_voices

    with _open_screen(quiet=quiet, as_json=as_json) as screen:
        stop = StopSignals(screen)
        with show_stages(quiet=quiet) as watch:
            events = train_or_resume(
                names,
                settings,
                out,
                should_stop=stop,
                on_note=screen.show_warning,
                watch=watch,
                progress=not quiet,
            )
            planned = next(item for item in events if isinstance(item, Planned))
        with stop.caught():
            voices = read_voices(planned.folder.path)
            _show_read(planned.receipt, voices, screen)
            title = {"first": "Plan of the first of two runs"}.get(planned.part, PLAN_OF_ALL if voices else "Plan")
            screen.show_facts(title, describe_plan(planned.manifest.plan, planned.manifest.estimate))
            screen.show_run(_make_title(planned.folder.path, planned.receipt, planned.manifest.plan, planned.part), ())
            return _watch(planned.folder, events, screen, began, as_json=as_json)


@click.command(
    cls=Command,
    address_space=TO_TRAIN,
    kind=PrepareSettings,
    examples="""
        epigone prepare books/ --out prepared/books
        epigone prepare "s3://bucket/web/*.parquet" --base gpt2 --out prepared/web
        epigone train prepared/books
    """,
)
@TEXT
@out_option("FOLDER", "Folder for the tokens. Give it to train in place of the text.", required=True)
@SETTINGS_FILE
@QUIET
@JSON
def prepare(text: Sequence[str], out: Path, settings: PrepareSettings, *, quiet: bool, as_json: bool) -> int:
    """Read and encode texts of any size once, for any number of runs.

    Started again, it continues where it stopped. Started on other machines that share the folder, it takes part.
    """
    names = _require_text(text)
    from epigone.cli.terminal import loading, print_json, show_stages

    with loading(quiet=quiet):
        from epigone.preparation import prepare_texts

    values = settings.model_dump(exclude={"workers"})
    n_workers = None if settings.workers == "auto" else settings.workers
    with _open_screen(quiet=quiet, as_json=as_json) as screen:
        with show_stages(quiet=quiet) as watch:
            found = prepare_texts(names, TrainSettings(**values), out, n_workers=n_workers, watch=watch)
        _show_read(found.receipt, None, screen)
        base = found.choice.base
        screen.show_note(f"Encoded with the tokenizer of {base.value}: {base.reason}.")
        screen.show_note(f"To train on it: {quote_command('epigone', 'train', out)}")
    if as_json:
        print_json({"prepared": str(out), "base": base.value, "receipt": found.receipt.as_json()})
    return 0


@click.command(
    cls=Command,
    kind=TrainSettings,
    examples="""
        epigone plan novel.docx
        epigone plan novel.docx --show                  what is read of it
        epigone plan novel.docx --base gpt2 --minutes 30
    """,
)
@TEXT
@click.option(
    "--show",
    "shows_text",
    cls=Option,
    is_flag=True,
    help="Only show what is read: the beginning, the end, and three places between.",
)
@BY_FOLDER
@SETTINGS_FILE
@JSON
def plan(text: Sequence[str], settings: TrainSettings, *, shows_text: bool, by_folder: bool, as_json: bool) -> int:
    """Show what train would read and do, and why, without training."""
    names, settings = _require_text(text), _choose_voices(settings, by_folder=by_folder)
    if shows_text:
        return _show_text(names, settings, as_json=as_json)
    from epigone.cli.terminal import loading, print_json, show_stages

    with loading(quiet=False):
        from epigone import pipeline
        from epigone.report.views import describe_plan

    with _open_screen(quiet=False, as_json=as_json, must_show=True) as screen:
        with show_stages(quiet=False) as watch:
            found = pipeline.plan(*names, settings=settings, watch=watch)
        _show_read(found.receipt, found.voices, screen)
        screen.show_facts(PLAN_OF_ALL if found.voices else "Plan", describe_plan(found.plan, found.estimate))
        if found.voices and settings.minutes == "none":
            screen.show_note("The runs of the voices, all together, take up to as long again.")
    if as_json:
        print_json({"plan": asdict(found.plan), "estimate": asdict(found.estimate), "receipt": found.receipt.as_json()})
    return 0


def _show_text(names: Sequence[str], settings: TrainSettings, *, as_json: bool) -> int:
    """Show what the model would read, without a plan."""
    from epigone.cli.terminal import print_json, print_piece, show_stages
    from epigone.corpus.corpus import read_corpus, unwrap_corpus
    from epigone.corpus.excerpts import choose_excerpts
    from epigone.report.views import describe_files

    with show_stages(quiet=False) as watch:
        corpus = read_corpus(names, settings, smallest_bytes=1, watch=lambda done, n_all: watch("Reading", done, n_all))
        corpus = unwrap_corpus(corpus, settings.unwrap)
    excerpts = choose_excerpts(corpus)
    if as_json:
        print_json({"files": [asdict(file) for file in corpus.files], "excerpts": [asdict(one) for one in excerpts]})
        return 0
    with _open_screen(quiet=False, as_json=False, must_show=True) as screen:
        screen.show_facts("Read", describe_files(corpus.files, corpus.skipped))
    for excerpt in excerpts:
        print_piece(f"\n-- {excerpt.place}, {excerpt.document}\n\n", dim=True)
        print_piece(f"{excerpt.text}\n")
    return 0


class ResumeOptions(Frozen):
    """What may change when a run is resumed."""

    synonyms: ClassVar[Mapping[str, str]] = {"lr": "learning_rate", "num_train_epochs": "epochs"}
    common: ClassVar[tuple[str, ...]] = ("epochs", "minutes", "patience", "learning_rate")

    epochs: Positive | None = None
    """Passes over the text in total, counted from the start of the run."""
    minutes: Annotated[Positive | None, BeforeValidator(as_minutes)] = None
    """Minutes of training in total, counted from the start of the run."""
    patience: Annotated[int, Field(ge=1)] | Off | None = None
    """Stop after this many evaluations without improvement; "none" never stops early."""
    learning_rate: Positive | None = None
    """New peak learning rate, for example after the training diverged."""
    process_timeout: Annotated[float, Field(ge=5)] | None = None
    """With several processes: seconds without a sign of life after which one counts as lost and the others end."""


@click.command(
    cls=Command,
    address_space=TO_TRAIN,
    kind=ResumeOptions,
    examples="""
        epigone resume                                  the newest run
        epigone resume novel --epochs 20                for longer
    """,
)
@RUN
@QUIET
@JSON
def resume(run: Path | None, settings: ResumeOptions, *, quiet: bool, as_json: bool) -> int:
    """Continue a run after a crash or Ctrl-C, or train it for longer."""
    _require_docstrings()
    began = time.monotonic()
    from epigone.cli.runs import choose_run
    from epigone.cli.terminal import loading, show_stages

    with loading(quiet=quiet):
        from epigone.resumption import resume_training
        from epigone.runs.folder import RunFolder
        from epigone.training.distributed import PROCESS_TIMEOUT, check_launch, join_processes

    changes = settings.model_dump(exclude_none=True)
    check_launch()
    with (
        _open_screen(quiet=quiet, as_json=as_json) as screen,
        join_processes(settings.process_timeout or PROCESS_TIMEOUT),
    ):
        run, stop = choose_run(run, to_resume=True, quiet=quiet), StopSignals(screen)
        events = resume_training(run, changes, should_stop=stop, on_note=screen.show_warning)
        with show_stages(quiet=quiet) as watch:
            watch("Opening the run", 0, 0)
            started = next(events)
        with stop.caught():
            with suppress(EpigoneError):
                _show_past(RunFolder(run), screen)
            return _watch(RunFolder(run), chain([started], events), screen, began, resumed=True, as_json=as_json)


# -- showing


def _require_docstrings() -> None:
    if sys.flags.optimize > 1:
        raise SettingsError(
            "Training does not work with python -OO or PYTHONOPTIMIZE=2: transformers needs its docstrings.",
            hint="Use -O, or neither.",
        )


def _require_text(text: Sequence[str]) -> list[str]:
    _require_docstrings()
    if not text:
        raise TextNotFound(
            "No text was given.",
            hint="Give a file: epigone train my.txt. Or try Shakespeare's sonnets: epigone train sample:sonnets",
        )
    return list(text)


def _choose_voices(settings: TrainSettings, *, by_folder: bool) -> TrainSettings:
    if by_folder and settings.by not in ("none", "folder"):
        raise SettingsError(f"--by-folder does not go with --by {settings.by}.", hint="Leave out one of the two.")
    return settings.model_copy(update={"by": "folder"}) if by_folder else settings


@contextmanager
def _open_screen(*, quiet: bool, as_json: bool, must_show: bool = False) -> Iterator[Screen]:
    from epigone.cli.terminal import open_screen
    from epigone.training.distributed import is_main_process

    with open_screen(quiet=quiet or not is_main_process(), json=as_json, must_show=must_show) as screen:
        yield screen


def _show_read(receipt: Receipt, voices: VoicesRecord | None, screen: Screen) -> None:
    """What was read, and what should be known of it."""
    from epigone.report.views import describe_files, describe_receipt, describe_voices

    for file in receipt.all_files if voices is None else voices.files:
        if file.warning:
            screen.show_warning(f"{file.name}: {file.warning}")
    if voices is None:
        screen.show_facts("Read", describe_receipt(receipt))
    else:
        screen.show_facts("Read", describe_files(voices.files, voices.skipped, "voices/voices.json"))
        screen.show_facts("Voices", describe_voices(voices.voices))


def _make_title(run: Path, receipt: Receipt, plan: Plan, part: Part = "only") -> str:
    """What is trained on which text: "novel.docx, from modern, 11.7M parameters"; of many texts the run's name."""
    from epigone.cli.runs import format_size
    from epigone.report.views import MOST_NAMED

    names = [PurePath(file.name.removeprefix("sample:")).name for file in receipt.files]
    text = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"
    if len(names) > MOST_NAMED:
        text = f"{run.name}: {len(names):,} texts"
    start = "from scratch" if plan.model.fresh else f"from {PurePath(plan.model.base).name}"
    number = f", {part} of two runs" if part in ("first", "second") else ""
    return f"{text}, {start}, {format_size(plan.model.n_parameters)} parameters{number}"


def _show_past(folder: RunFolder, screen: Screen) -> None:
    """Title and history of a run that is resumed. Raises EpigoneError."""
    from epigone.runs.folder import RunFolder

    in_first = RunFolder.is_in_first(folder.path)
    run = RunFolder(folder.first) if in_first else folder
    part: Part = "first" if in_first else "only"
    title = _make_title(folder.path, run.read_receipt(), run.read_manifest().plan, part)
    screen.show_run(title, run.read_events())


def _watch(
    folder: RunFolder,
    events: Iterator[Planned | Event | Stage],
    screen: Screen,
    began: float,
    *,
    resumed: bool = False,
    as_json: bool,
) -> int:
    """Show the events, then where the results are; with `as_json` print everything as JSON. Returns the exit code.

    `began`: when the command did, by time.monotonic.
    """
    from epigone.cli.terminal import print_json
    from epigone.pipeline import Planned
    from epigone.report.views import describe_shortage, describe_wait
    from epigone.training.distributed import is_main_process
    from epigone.training.events import Evaluated, Finished

    evaluations = of_run = list[dict[str, Any]]()
    seen: list[Evaluated] = []
    first: dict[str, Any] = {}
    voices: dict[str, Any] = {}
    finished: Finished | None = None
    current = folder
    for event in events:
        if not isinstance(event, Planned):
            screen.show(event)
        elif event.part == "second":
            first = {"first": evaluations}
            evaluations, seen = [], []
            of_run = evaluations
            _show_next_run(event, "Plan of the second of two runs, which learns from the first", screen)
        elif event.part == "voice":
            current = event.folder
            evaluations, seen = voices.setdefault(current.path.name, []), []
            _show_next_run(event, f"Plan of the voice {current.path.name}", screen)
        if isinstance(event, Evaluated):
            evaluations.append(asdict(event))
            seen.append(event)
        if isinstance(event, Finished):
            finished = event
    reason = finished.reason if finished else ""
    if finished and reason != "interrupted":
        screen.show_note(describe_wait(time.monotonic() - began, resumed=resumed))
        fresh, share = current.read_manifest().plan.model.fresh, _find_share(folder, current)
        if shortage := describe_shortage(finished, seen, fresh=fresh, share=share):
            screen.show_warning(shortage)
    _show_next_steps(folder, reason, screen)
    if as_json and is_main_process():
        found = {"run": str(folder.path), "reason": reason, **first, "evaluations": of_run}
        print_json(found | {"judgement": folder.read_judgement()} | ({"voices": voices} if voices else {}))
    return INTERRUPTED if reason == "interrupted" else 0


def _find_share(folder: RunFolder, run: RunFolder) -> float:
    """Of the minutes that were given, the share of one of the runs of several voices; 1 of a run alone."""
    from epigone.voices import read_voices

    record, own = read_voices(folder.path), run.read_manifest().plan.schedule.minutes
    given = record.settings.minutes if record is not None else "none"
    return 1.0 if given == "none" or own is None else min(1.0, own / given)


def _show_next_run(planned: Planned, title: str, screen: Screen) -> None:
    """What is known of a run that follows another one."""
    from epigone.report.views import describe_plan

    plan = planned.manifest.plan
    screen.show_note("")
    screen.show_facts(title, describe_plan(plan, planned.manifest.estimate))
    screen.show_run(_make_title(planned.folder.path, planned.receipt, plan, planned.part), ())


def _show_voices(folder: RunFolder, screen: Screen) -> None:
    """How well the voices of a run are learned, and how to write in them. Raises RunDamaged."""
    from epigone.report.views import compare_voices
    from epigone.run import open_run
    from epigone.runs.listing import list_voice_folders
    from epigone.voices import measure_held_out

    voices = {path.name: open_run(path).evaluations for path in list_voice_folders(folder.path)}
    if voices:
        rows = compare_voices(voices, {name: measure_held_out(folder.path, name) for name in voices})
        screen.show_facts("Bits per byte of each voice's held-out text", rows)
        example = quote_command("epigone", "write", folder.path, "--voice", next(iter(voices)))
        screen.show_note(f"To write in one voice: {example}")


def _show_next_steps(folder: RunFolder, reason: str, screen: Screen) -> None:
    from epigone.distillation import can_teach
    from epigone.report.escape import show_name

    if reason == "interrupted":
        screen.show_note(f"Saved. To continue: {quote_command('epigone', 'resume', folder.path)}")
        return
    for line in _describe_judgement(folder):
        screen.show_note(line)
    _show_best_text(folder, screen)
    screen.show_note(f"The model is in {show_name(folder.model)}, the report in {show_name(folder.report)}.")
    _show_voices(folder, screen)
    screen.show_note(f'To write with it: {quote_command("epigone", "write", folder.path)} --prompt "…"')
    if can_teach(folder.read_manifest().plan, reason):
        screen.show_note(
            f"A second model learns this text better from it: epigone train … --teacher {quote_command(folder.path)}"
        )


def _describe_judgement(folder: RunFolder) -> list[str]:
    """The judgement that ends training, in a line or two; none where it was not judged."""
    from epigone.report.publish import read_judgement
    from epigone.report.views import describe_quick_judgement

    judgement = read_judgement(folder)
    return [] if judgement is None else describe_quick_judgement(judgement, folder.path)


def _show_best_text(folder: RunFolder, screen: Screen) -> None:
    """The beginning of the text that was chosen for show, if one was; the report has the whole."""
    from epigone.report.share_card import cut_quotation

    if showcase := folder.read_showcase():
        screen.show_note(f"\nFrom the best of {showcase.n_candidates} texts that it wrote without a prompt:\n")
        screen.show_note(cut_quotation(showcase.text) + "\n")


class StopSignals:
    """Says whether to stop. Once training has begun, the first signal stops after the step, the second at once.

    Before, a signal ends the process as usual. When the terminal closes training also stops after the step, however
    often the signal comes; under nohup it goes on.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen, self._caught = screen, False

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self._caught

    @contextmanager
    def caught(self) -> Iterator[StopSignals]:
        """Catch the signals until the end of the block."""
        hangups = [number for number in HANGUPS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, self._catch) for number in (*SIGNALS, *hangups)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _catch(self, number: int, _frame: object) -> None:
        from epigone.training.distributed import count_processes

        again, self._caught = self._caught, True
        for other in SIGNALS:  # the next one ends the process
            signal.signal(other, signal.SIG_DFL)
        if not again and (number != signal.SIGTERM or count_processes() == 1):  # torchrun says why it ends them
            with suppress(RuntimeError):  # the signal came while a line was being written
                self._screen.show_end("Stopping after this step; press Ctrl-C again to stop at once.")
