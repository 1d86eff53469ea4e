"""The command: flags in, words and files out, and an exit code: 0 done, 2 the user's mistake, 130 interrupted."""

# Annotations stay objects here: tyro reads those of functions that are made in a function.

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import tyro
from pydantic import ValidationError
from tyro.conf import Positional

from epigone import __version__
from epigone.errors import EpigoneError, TextNotFound
from epigone.flags import check_words
from epigone.settings import Settings, WritingSettings, explain, make_settings, read_settings
from epigone.using import choose_manner
from epigone.using import score as _score
from epigone.using import write as _write

if TYPE_CHECKING:  # these load torch, which takes seconds: each verb imports what it needs
    from epigone.display import Screen
    from epigone.runs.folder import RunFolder
    from epigone.training.events import Event

INTERRUPTED = 130
SAMPLE = "sample:sonnets"
Learning = Annotated[Settings, tyro.conf.arg(name="")]
Writing = Annotated[WritingSettings, tyro.conf.arg(name="")]
Device = Literal["auto", "cpu", "cuda", "mps"]
Interactive = Annotated[bool, tyro.conf.arg(aliases=["-i"])]
WRITING = WritingSettings()
LISTS = {name for name, field in Settings.model_fields.items() if isinstance(field.default, tuple)}
"""Settings that may be given several times; what is given replaces what the file says."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(run(arguments))
    except EpigoneError as error:
        _report(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def run(arguments: list[str]) -> int:
    """The verb's exit code. Raises EpigoneError."""
    if arguments in (["--version"], ["-V"]):
        print(f"epigone {__version__}")
        return 0
    try:
        command, verbs = make_verbs(_read_settings_file(arguments))
        check_words(arguments, verbs)
        return int(command.cli(args=arguments or ["--help"], prog="epigone", description=__doc_for_help__, config=_HOW))
    except ValidationError as error:
        kind = WritingSettings if error.title == WritingSettings.__name__ else Settings
        raise explain(kind, error) from None


__doc_for_help__ = "Learn to write on in the voice of a text. Begin with: epigone train my.txt"
_HOW = (tyro.conf.FlagCreatePairsOff, tyro.conf.UseAppendAction)


def _report(error: EpigoneError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": str(error), "hint": error.hint, "kind": type(error).__name__}))
    print(f"error: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)


def _read_settings_file(arguments: Sequence[str]) -> Settings:
    """The settings in the file after --settings, or the defaults: what flags are then set against."""
    values: dict[str, Any] = {}
    for place, argument in enumerate(arguments):
        name, _, path = argument.partition("=")
        if name == "--settings":
            values = read_settings(Path(path or next(iter(arguments[place + 1 :]), "")), Settings)
        if name.removeprefix("--").replace("-", "_") in LISTS:
            values.pop(name.removeprefix("--").replace("-", "_"), None)
    return make_settings(Settings, values)


# -- the verbs and their flags


def make_verbs(defaults: Settings) -> tuple[tyro.extras.SubcommandApp, dict[str, Callable[..., int]]]:
    """The verbs, with `defaults` as what train and plan do when nothing else is said."""
    verbs = tyro.extras.SubcommandApp()

    @verbs.command
    def train(
        text: Positional[tuple[str, ...]] = (),
        *,
        out: Path | None = None,
        settings: Path | None = None,
        learning: Learning = defaults,
        quiet: bool = False,
        json: bool = False,
    ) -> int:
        """Learn the style of a text: plan, learn, watch, keep the best.

        Args:
            text: Files, folders, globs, addresses (https://…), "-" for standard input, or sample:sonnets.
            out: Folder for the run; runs/NAME by default.
            settings: A TOML file with settings; flags go before it.
            learning: How to learn.
            quiet: Say nothing but errors.
            json: Print one JSON object on standard output, and nothing else there.
        """
        return _train(text, out, learning, quiet=quiet, as_json=json)

    @verbs.command
    def plan(
        text: Positional[tuple[str, ...]] = (),
        *,
        settings: Path | None = None,
        learning: Learning = defaults,
        quiet: bool = False,
        json: bool = False,
    ) -> int:
        """Show what would be read and done, with the reasons, and train nothing.

        Args:
            text: Files, folders, globs, addresses (https://…), "-" for standard input, or sample:sonnets.
            settings: A TOML file with settings; flags go before it.
            learning: How to learn.
            quiet: Say nothing but errors.
            json: Print one JSON object on standard output, and nothing else there.
        """
        return _plan(text, learning, quiet=quiet, as_json=json)

    for verb in (write, score, resume):
        verbs.command(verb)
    return verbs, {"train": train, "plan": plan, "write": write, "score": score, "resume": resume}


def write(  # noqa: PLR0913  # its arguments are its flags
    run: Positional[str],
    *,
    prompt: str = "",
    out: Path | None = None,
    writing: Writing = WRITING,
    interactive: Interactive = False,
    show_source: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Write with the best model of a run, or with any GPT-2.

    Args:
        run: A run's folder, a model's folder, or a name on the Hugging Face hub.
        prompt: What the text follows.
        out: Write to this new file instead of the screen. A .jsonl file gets a line for each text, with all
            that is known of it, and is gone on with if it was stopped.
        writing: How to write.
        interactive: Write in turns with the model: it goes on, you choose, undo and add.
        show_source: Say after each text which passage of it is the longest that was copied, and from where.
        quiet: Print the text alone.
        json: Print one JSON object on standard output, and nothing else there.
    """
    manner = choose_manner(json=json, interactive=interactive, show_source=show_source)
    return _write(run, prompt, out, writing, manner, quiet=quiet)


def score(
    run: Positional[str],
    file: Positional[str],
    *,
    encoding: str = "auto",
    keep_boilerplate: bool = False,
    device: Device = "auto",
    json: bool = False,
) -> int:
    """Say how likely a model finds a text: as a whole, and its worst lines.

    Args:
        run: A run's folder, a model's folder, or a name on the Hugging Face hub.
        file: The text: a file, an address (https://…), or "-" for standard input.
        encoding: Encoding of the text, for example "cp1252".
        keep_boilerplate: Keep Project Gutenberg's header and licence instead of cutting them.
        device: What computes.
        json: Print one JSON object on standard output, with the log-probability of each token.
    """
    return _score(run, file, device, encoding, keep_boilerplate=keep_boilerplate, json=json)


def resume(
    run: Positional[Path],
    *,
    epochs: float | None = None,
    minutes: float | None = None,
    patience: int | Literal["none"] | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Go on with a run after a crash, a Ctrl-C, or for longer.

    Args:
        run: The run's folder.
        epochs: Passes over the text in all, counted from the start.
        minutes: Minutes of training in all, counted from the start.
        patience: Stop after this many evaluations without a better one; "none" never does.
        quiet: Say nothing but errors.
        json: Print one JSON object on standard output, and nothing else there.
    """
    asked = {"epochs": epochs, "minutes": minutes, "patience": patience}
    changes = {name: value for name, value in asked.items() if value is not None}
    return _resume(run, changes, quiet=quiet, as_json=json)


# -- what they do


def _require_text(text: Sequence[str]) -> list[str]:
    if not text:
        raise TextNotFound(
            "No text was given.",
            hint=f"Give one: epigone train my.txt. Or try the bundled sonnets of Shakespeare: epigone train {SAMPLE}",
        )
    return list(text)


def _train(text: Sequence[str], out: Path | None, settings: Settings, *, quiet: bool, as_json: bool) -> int:
    names = _require_text(text)
    from epigone import api
    from epigone.reporting.facts import describe_plan, describe_receipt

    folder = api.begin(names, out)
    with _open_screen(quiet, as_json) as screen, api.hold(folder), catch_signals(screen) as was_stopped:
        preparation = api.prepare_run(folder, names, settings, progress=not quiet)
        _show_warnings(screen, preparation.receipt)
        screen.show_facts("Read", describe_receipt(preparation.receipt))
        screen.show_facts("Plan", describe_plan(preparation.plan, preparation.estimate))
        return _watch(folder, api.learn(folder, preparation, should_stop=was_stopped), screen, as_json)


def _plan(text: Sequence[str], settings: Settings, *, quiet: bool, as_json: bool) -> int:
    names = _require_text(text)
    from epigone import api
    from epigone.display import print_json
    from epigone.reporting.facts import describe_plan, describe_receipt

    with _open_screen(quiet, as_json) as screen:
        found = api.plan(*names, settings=settings)
        _show_warnings(screen, found.receipt)
        screen.show_facts("Read", describe_receipt(found.receipt))
        screen.show_facts("Plan", describe_plan(found.plan, found.estimate))
    if as_json:
        print_json({"plan": asdict(found.plan), "estimate": asdict(found.estimate), "receipt": found.receipt})
    return 0


def _resume(run: Path, changes: dict[str, Any], *, quiet: bool, as_json: bool) -> int:
    from epigone import api

    folder = api.open_run(run).folder
    with _open_screen(quiet, as_json) as screen, api.hold(folder), catch_signals(screen) as was_stopped:
        events = api.go_on(folder, changes, should_stop=was_stopped, on_note=screen.show_warning)
        return _watch(folder, events, screen, as_json)


# -- showing


@contextmanager
def _open_screen(quiet: bool, as_json: bool) -> Iterator["Screen"]:
    from epigone.display import open_screen
    from epigone.training.state import is_main_process

    with open_screen(quiet=quiet or not is_main_process(), json=as_json) as screen:
        yield screen


def _show_warnings(screen: "Screen", receipt: dict[str, Any]) -> None:
    for file in [*receipt["files"], *receipt["held_out_files"]]:
        if file["warning"]:
            screen.show_warning(f"{file['name']}: {file['warning']}")


def _watch(folder: "RunFolder", events: Iterator["Event"], screen: "Screen", as_json: bool) -> int:
    """Show the events, then where everything lies; or all of it as JSON."""
    from epigone.display import print_json
    from epigone.training.events import Evaluated, Finished
    from epigone.training.state import is_main_process

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
        screen.show_note(f"The model is in {folder.model}, its curves in {folder.path / 'curves.png'}.")
        screen.show_note(f'Write with it: epigone write {folder.path} --prompt "…"')
    if as_json and is_main_process():
        print_json({"run": str(folder.path), "reason": reason, "evaluations": evaluations})
    return INTERRUPTED if reason == "interrupted" else 0


@contextmanager
def catch_signals(screen: "Screen") -> Iterator[Any]:
    """Gives what says whether somebody asked to stop. The first signal asks, the second ends the process at once."""
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)
        screen.show_note("Stopping after this step; once more stops at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
