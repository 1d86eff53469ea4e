"""The command: flags in, words and files out, and an exit code: 0 done, 2 the user's mistake, 130 interrupted."""

# Annotations stay objects here: tyro reads those of functions that are made in a function.
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

import tyro
from pydantic import ValidationError
from tyro.conf import Positional

from epigone import __version__
from epigone.cli.judge import judge as _judge
from epigone.cli.judge import score as _score
from epigone.cli.train import INTERRUPTED
from epigone.cli.train import plan as _plan
from epigone.cli.train import resume as _resume
from epigone.cli.train import train as _train
from epigone.cli.write import QuizOptions, choose_model, choose_output_mode
from epigone.cli.write import quiz as _quiz
from epigone.cli.write import report as _report
from epigone.cli.write import write as _write
from epigone.errors import EpigoneError, OutOfMemory, SettingsError, first_line
from epigone.report.escape import show_controls
from epigone.settings import (
    Frozen,
    JudgeSettings,
    TrainSettings,
    WriteSettings,
    explain,
    flag_name,
    make_settings,
    nearest,
    read_settings,
)


@dataclass(frozen=True, slots=True)
class Verb:
    """What may follow a verb. `kind` are the settings whose values are checked."""

    name: str
    flags: frozenset[str]
    switches: frozenset[str]
    """Flags without a value."""
    short: Mapping[str, str]
    """The name of the flag that a short one such as -i stands for."""
    kind: type[Frozen]
    needs: tuple[str, ...]
    """Words that must be there."""


def check_words(words: Sequence[str], verbs: Mapping[str, Callable[..., object]]) -> None:
    """Refuse an unknown verb, an unknown flag, or a value that a setting cannot have. Raises SettingsError."""
    if not words or words[0].startswith("-") or {"-h", "--help"} & set(words):
        return
    if words[0] not in verbs:
        hint = "".join(f" Did you mean {verb}?" for verb in nearest(words[0], verbs))
        raise SettingsError(f"There is no verb {words[0]}.", hint=f"There are {', '.join(verbs)}.{hint}")
    verb = _describe(words[0], verbs[words[0]])
    others = 0
    for name, value in _read_flags(words[1:], verb):
        others += not name
        if name:
            _check_flag(verb, name, value)
    if others < len(verb.needs):
        raise SettingsError(f"{verb.name} needs a {verb.needs[others]}.", hint=f"See: epigone {verb.name} --help")


def _describe(name: str, function: Callable[..., object]) -> Verb:
    parameters = inspect.signature(function).parameters.values()
    kind = next((type(item.default) for item in parameters if isinstance(item.default, Frozen)), None)
    plain = [item for item in parameters if item.kind is item.KEYWORD_ONLY and not isinstance(item.default, Frozen)]
    fields = kind.model_fields if kind else {}
    switches = {item.name for item in plain if _strip(item.annotation) is bool}
    switches |= {field for field, info in fields.items() if info.annotation is bool}
    return Verb(
        name=name,
        flags=frozenset({item.name for item in plain} | set(fields)),
        switches=frozenset(switches),
        short={short: item.name for item in plain for short in _list_short(item.annotation)},
        kind=kind or TrainSettings,
        needs=tuple(item.name for item in parameters if item.default is item.empty),
    )


def _strip(annotation: object) -> object:
    """The type itself, without what tyro is told beside it."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _list_short(annotation: object) -> Iterator[str]:
    """The other names that tyro is told of."""
    for told in getattr(annotation, "__metadata__", ()):
        yield from getattr(told, "aliases", None) or ()


def _read_flags(words: Sequence[str], verb: Verb) -> Iterator[tuple[str, str | None]]:
    """Each flag's name and its value, which is None where none follows; a word that is no flag has the name ""."""
    rest = iter(words)
    for word in rest:
        flag, equals, value = (flag_name(verb.short[word]) if word in verb.short else word).partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or not name:
            yield "", word
        elif equals:
            yield name, value
        else:
            yield name, None if name in verb.switches else next(rest, None)


def _check_flag(verb: Verb, name: str, value: str | None) -> None:
    if name not in verb.flags:
        hint = " ".join(f"Did you mean {flag_name(other)}?" for other in nearest(name, verb.flags))
        raise SettingsError(
            f"{verb.name} has no flag {flag_name(name)}.", hint=hint or f"See: epigone {verb.name} --help"
        )
    if name in verb.switches:
        return
    if value is None:
        raise SettingsError(f"{flag_name(name)} needs a value.", hint=f"See: epigone {verb.name} --help")
    if name in verb.kind.model_fields:
        many = isinstance(verb.kind.model_fields[name].default, tuple)
        try:
            verb.kind.model_validate({name: (value,) if many else value}, strict=False)
        except ValidationError as error:
            raise explain(verb.kind, error) from None


Learning = Annotated[TrainSettings, tyro.conf.arg(name="")]
Writing = Annotated[WriteSettings, tyro.conf.arg(name="")]
Judging = Annotated[JudgeSettings, tyro.conf.arg(name="")]
Device = Literal["auto", "cpu", "cuda", "mps"]
Interactive = Annotated[bool, tyro.conf.arg(aliases=["-i"])]
WRITING = WriteSettings()
JUDGING = JudgeSettings()
LISTS = {name for name, field in TrainSettings.model_fields.items() if isinstance(field.default, tuple)}
"""Settings that may be given several times; what is given replaces what the file says."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(run(arguments))
    except EpigoneError as error:
        _complain(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)
    except (RuntimeError, MemoryError) as error:
        _complain(_explain_shortage(error), as_json="--json" in arguments)
        sys.exit(OutOfMemory.exit_code)
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
        kinds = {kind.__name__: kind for kind in (TrainSettings, WriteSettings, JudgeSettings)}
        raise explain(kinds[error.title], error) from None


__doc_for_help__ = "Learn to write on in the voice of a text. Begin with: epigone train my.txt"
_HOW = (tyro.conf.FlagCreatePairsOff, tyro.conf.UseAppendAction)


def _explain_shortage(error: Exception) -> OutOfMemory:
    """That memory ran out where nothing could be done about it. Raises the error if it is another one."""
    from epigone.hardware import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    return OutOfMemory(
        f"Memory ran out: {first_line(error)}",
        hint="End what else needs memory, or ask for less at once. What is saved stays: epigone resume goes on.",
    )


def _complain(error: EpigoneError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": str(error), "hint": error.hint, "kind": type(error).__name__}))
    lines = f"error: {error}" + (f"\n  {error.hint}" if error.hint else "")
    print(show_controls(lines), file=sys.stderr)  # a file's name may hold anything


def _read_settings_file(arguments: Sequence[str]) -> TrainSettings:
    """The settings in the file after --settings, or the defaults: what flags are then set against."""
    values: dict[str, Any] = {}
    for place, argument in enumerate(arguments):
        name, _, path = argument.partition("=")
        if name == "--settings":
            values = read_settings(Path(path or next(iter(arguments[place + 1 :]), "")), TrainSettings)
        if name.removeprefix("--").replace("-", "_") in LISTS:
            values.pop(name.removeprefix("--").replace("-", "_"), None)
    return make_settings(TrainSettings, values)


# -- the verbs and their flags


def make_verbs(defaults: TrainSettings) -> tuple[tyro.extras.SubcommandApp, dict[str, Callable[..., int]]]:
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

    others = (write, score, resume, judge, report, quiz)
    for verb in others:
        verbs.command(verb)
    return verbs, {"train": train, "plan": plan} | {verb.__name__: verb for verb in others}


def write(  # noqa: PLR0913  # its arguments are its flags
    run: Positional[str] = "",
    *,
    base: str = "",
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
        base: Instead of a run: a base that learned nothing from you. "small" comes along.
        prompt: What the text follows.
        out: Write to this new file instead of the screen. A .jsonl file gets a line for each text, with all
            that is known of it, and is gone on with if it was stopped.
        writing: How to write.
        interactive: Write in turns with the model: it goes on, you choose, undo and add.
        show_source: Say after each text which passage of it is the longest that was copied, and from where.
        quiet: Print the text alone.
        json: Print one JSON object on standard output, and nothing else there.
    """
    manner = choose_output_mode(json=json, interactive=interactive, show_source=show_source)
    return _write(choose_model(run, base), prompt, out, writing, manner, quiet=quiet)


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


def resume(  # noqa: PLR0913  # its arguments are its flags
    run: Positional[Path],
    *,
    epochs: float | None = None,
    minutes: float | None = None,
    patience: int | Literal["none"] | None = None,
    learning_rate: float | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Go on with a run after a crash, a Ctrl-C, or for longer.

    Args:
        run: The run's folder.
        epochs: Passes over the text in all, counted from the start.
        minutes: Minutes of training in all, counted from the start.
        patience: Stop after this many evaluations without a better one; "none" never does.
        learning_rate: Another peak step size from here on, for a run that went astray.
        quiet: Say nothing but errors.
        json: Print one JSON object on standard output, and nothing else there.
    """
    asked = {"epochs": epochs, "minutes": minutes, "patience": patience, "learning_rate": learning_rate}
    changes = {name: value for name, value in asked.items() if value is not None}
    return _resume(run, changes, quiet=quiet, as_json=json)


def judge(text: Positional[str], *, judging: Judging = JUDGING, json: bool = False) -> int:
    """Say whether it sounds like the author, copies him, repeats itself, and what was learned.

    Args:
        text: The folder of a run, which writes what is judged; or any text, together with --against.
        judging: How to judge.
        json: Print one JSON object on standard output.
    """
    return _judge(text, judging, json=json)


def report(run: Positional[Path], *, out: Path | None = None) -> int:
    """Write one page about a run: curves, samples, verdicts, what was read, the plan.

    Args:
        run: The run's folder.
        out: Write to this file instead of report.html in the run's folder.
    """
    return _report(run, out)


def quiz(
    run: Positional[Path],
    *,
    count: int = 20,
    length: int = 60,
    seed: int = 0,
    page: Path | None = None,
    device: Device = "auto",
) -> int:
    """Ask whether you can tell the author's held-out text from the model's.

    Args:
        run: The run's folder.
        count: Passages to show, half of them the author's.
        length: Words of each passage, about.
        seed: Start of all random numbers; the same seed makes the same quiz.
        page: Write the quiz to this file, as one page for a browser, instead of asking here.
        device: What computes.
    """
    return _quiz(run, QuizOptions(count, length, seed, device), page)
