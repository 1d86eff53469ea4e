"""The command `epigone`: its commands, its errors and its exit codes.

Exit codes: 0 done, 1 out of memory, diverged or a bug, 2 the user's mistake, 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from errno import EBADF, EDQUOT, EFBIG, EIO, ENAMETOOLONG, ENOSPC
from functools import partial
from types import TracebackType
from typing import NoReturn

import click
from click.shell_completion import get_completion_class, shell_complete

from epigone import __version__
from epigone.cli.attribute import attribute
from epigone.cli.export import export
from epigone.cli.judge import judge, report, score
from epigone.cli.mix import mix
from epigone.cli.options import Argument, Command, Commands, complete
from epigone.cli.publish import publish
from epigone.cli.quiz import quiz
from epigone.cli.runs import list_command
from epigone.cli.serve import serve
from epigone.cli.train import INTERRUPTED, plan, prepare, resume, train
from epigone.cli.write import write
from epigone.errors import EpigoneError, OutOfMemory, OutputError, SettingsError, first_line
from epigone.report.escape import show_controls, show_name

COMPLETION = "_EPIGONE_COMPLETE"
"""Variable through which the shell's script asks for completions."""
BUG = (
    "This is a bug in epigone. Please report it with the lines above. "
    "What was saved stays: epigone resume continues a run."
)
UNWRITABLE = (EBADF, EDQUOT, EFBIG, ENOSPC)
"""Closed, or full."""
SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    address_space=0,
    examples='eval "$(epigone completion bash)"\nepigone completion fish | source',
)
@click.argument("shell", cls=Argument, text="bash, zsh or fish.", metavar="SHELL", shell_complete=complete(SHELLS))
def completion(shell: str) -> int:
    """Print the script that lets a shell complete commands and options."""
    if shell not in SHELLS:
        raise SettingsError(f'There is no completion for "{shell}".', hint=f"There is one for {', '.join(SHELLS)}.")
    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(cli, {}, "epigone", COMPLETION).source())
    return 0


@click.command(cls=Command, address_space=0, name="help", examples="epigone help train")
@click.argument(
    "command",
    cls=Argument,
    required=False,
    text="Name of a command.",
    metavar="COMMAND",
    shell_complete=lambda *asked: complete([*cli.commands])(*asked),
)
def show_help(command: str | None) -> int:
    """Show the help of a command."""
    return run([command, "--help"] if command else ["--help"])


@click.command(cls=Command, address_space=0)
def version() -> int:
    """Show the version."""
    return run(["--version"])


cli: Commands = Commands(
    name="epigone",
    help="Fine-tune or train a GPT-2 on a text, write in its style, and measure how close it comes.",
    examples="""
        epigone train novel.docx                   train; the run is in runs/novel
        epigone write novel --prompt "It was"      write with the trained model
        epigone judge novel                        does it sound like the author? does it copy?
        epigone train sample:sonnets --minutes 2   try it without a text of your own
    """,
    groups={
        "Train": (train, plan, prepare, resume),
        "Write": (write, mix, serve, export),
        "Evaluate": (judge, quiz, score, attribute),
        "Runs": (list_command, report, publish),
        "More": (completion, show_help, version),
    },
    notes={
        "Exit codes": [
            ("0", "Done."),
            ("1", "Out of memory, the training diverged, or one of several processes was lost."),
            ("2", "Something is wrong with the options, the text, the model or the run."),
            ("130", "Interrupted; what was trained is saved."),
        ],
        "Environment": [
            (
                "EPIGONE_CACHE",
                "Folder for downloaded texts and for documents that were parsed. [default: ~/.cache/epigone]",
            ),
            ("EPIGONE_KERNEL", "off: write without the C kernel, which a C compiler makes once where there is one."),
            ("EPIGONE_TOKEN", "What clients of epigone serve have to send as their API key."),
            ("HF_HOME", "Folder for downloaded models. [default: ~/.cache/huggingface]"),
            ("HF_TOKEN", "Your token for private models on the Hugging Face Hub."),
            ("HF_HUB_OFFLINE", "Set to 1 to download no models."),
            ("OMP_NUM_THREADS", "Processor threads to train on. [default: one for each core]"),
            ("NO_COLOR", "Set to show no colours."),
            ("TERM", "Set to dumb to show plain lines instead of the live view."),
        ],
    },
    epilog="Options of a command, with examples: epigone COMMAND --help",
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    sys.excepthook = partial(_report_crash, as_json=as_json)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it complains where HOME cannot be written to
    if os.environ.get("WORLD_SIZE", "1") != "1":
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # of a lost connection torch shows its stack
    open_closed_streams()
    try:
        code = run(arguments)
        sys.stdout.flush()
        sys.exit(code)
    except EpigoneError as error:
        if _may_show_error(arguments):
            _show_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except (RuntimeError, MemoryError) as error:
        _show_error(_out_of_memory(error), as_json=as_json)
        sys.exit(OutOfMemory.exit_code)
    except KeyboardInterrupt:
        if as_json:
            _print_json("Interrupted.", "", "KeyboardInterrupt")
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `head`, has ended
        _drop_output()
        sys.exit(0)
    except OSError as error:
        if not (found := _explain(error)):
            raise
        _show_error(found, as_json=as_json and not isinstance(found, OutputError))
        sys.exit(found.exit_code)


def _explain(error: OSError) -> EpigoneError | None:
    """The error for a name that is too long, or for an output that cannot be written to, which is then dropped.

    Errors of files have the file's name, or are an OutputError by now.
    """
    if error.errno == ENAMETOOLONG:
        return SettingsError(f"{error.strerror}: {error.filename}", hint="Give a shorter one.")
    if error.filename is None and (error.errno in UNWRITABLE or (error.errno == EIO and sys.stdout.isatty())):
        _drop_output()
        return OutputError(f"Standard output cannot be written to: {error.strerror}.")
    return None


def open_closed_streams() -> None:
    """Where standard input, output or error is closed, open one that is empty, that fails, or that is lost.

    Otherwise the next file that is opened would take its place, and get what a library prints.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number, which is this one
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _drop_output() -> None:
    """Lose what is still in the buffer, which Python would write when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command. Raises EpigoneError."""
    if instruction := os.environ.get(COMPLETION):
        return shell_complete(cli, {}, "epigone", COMPLETION, instruction)
    if list(arguments) in (["--version"], ["-V"]):
        print(f"epigone {__version__}")
        return 0
    try:
        with cli.make_context("epigone", list(arguments) or ["--help"]) as context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as end:  # the help was shown
        return end.exit_code


def _out_of_memory(error: Exception) -> OutOfMemory:
    """The error for memory that ran out. Raises `error` if it is something else."""
    from epigone.hardware import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    return OutOfMemory(
        f"Memory ran out: {first_line(error)}",
        hint="Close other programs, or use a smaller --size, --batch-size or --count. What was saved stays: "
        "epigone resume continues a run.",
    )


def _show_error(error: EpigoneError, *, as_json: bool) -> None:
    if as_json:
        _print_json(str(error), error.hint, type(error).__name__)
    message, hint = show_name(error), show_name(error.hint)  # files' names may contain control characters
    print(f"error: {message}" + f"\n  {hint}" * bool(hint), file=sys.stderr)


def _may_show_error(arguments: Sequence[str]) -> bool:
    """Whether this process shows its errors: of several that train together and fail alike only one does."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or not {"train", "plan", "resume"} & set(arguments[:1]):
        return True
    from epigone.training.distributed import may_show_error

    return may_show_error()


def _report_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, *, as_json: bool
) -> None:
    """Say that an error that was not expected is ours, after its traceback."""
    if as_json:
        _print_json(f"Internal error: {first_line(error)}", BUG, kind.__name__)
    sys.__excepthook__(kind, error, trace)
    print(f"internal error: {show_controls(BUG)}", file=sys.stderr)


def _print_json(message: str, hint: str, kind: str) -> None:
    print(json.dumps({"error": message, "hint": hint, "kind": kind}))
