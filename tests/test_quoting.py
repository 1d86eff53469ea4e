"""A command that is printed can be pasted into a shell, and a name can neither run anything nor pose as a message."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import Reliability
from epigone.errors import RunExists, quote_command
from epigone.report.escape import show_name
from epigone.runs.folder import RunFolder
from helpers_faults import copy, plain_pictures
from helpers_front import SOURCE, command
from test_damage import stopped

NAMES = (
    *("novel", "a b", "r ünï 😀 $(touch pwned) ; x", "it's", 'a "b"', "`id`", "a\\b", "~", "*", "!x", "#", "", "%s"),
    *(
        "a\nerror: b",
        "\x1b[31mred",
        "tab\there",
        "\x7f",
        "turned \u202e round",
        "not UTF-8 \udcff",
        "\\'\n",
        "👩\u200d👧",
    ),
)
VERBS = "train|plan|resume|write|judge|quiz|score|report|list|serve|export|publish"
UNQUOTED = re.compile(rf"epigone (?:{VERBS})\b[^\"'\n]*?{{(?!quote_command|command)")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_shell_reads_back_exactly_what_was_quoted(reliability: Reliability) -> None:
    words = quote_command("printf", "%s\\0", *NAMES)
    said = subprocess.run(["bash", "-c", words], capture_output=True, check=True).stdout.split(b"\0")
    n_same = sum(os.fsdecode(one) == name for one, name in zip(said, NAMES, strict=False))
    fault = "a name that would run a command, pasted with a printed command: the shell takes it for a name"
    reliability("Runs of others", fault, tried=len(NAMES), survived=n_same)
    assert words.isprintable() and n_same == len(NAMES) == len(said) - 1


def test_a_path_is_never_taken_for_an_option() -> None:
    assert quote_command("epigone", "resume", Path("-x"), "--epochs") == f"epigone resume .{os.sep}-x --epochs"


def test_what_is_plain_stays_as_it_is() -> None:
    assert quote_command("epigone", "resume", Path("runs/novel")) == f"epigone resume {Path('runs/novel')}"


@pytest.mark.skipif(os.name == "nt", reason="such names need a Unix")
@pytest.mark.parametrize("name", ["r ünï 😀 $(touch pwned) ; x", "a\nerror: b \x1b[31m"])
def test_commands_that_are_printed_name_the_run_and_nothing_else(tmp_path: Path, name: str) -> None:
    run = copy(stopped(), tmp_path / name)
    with plain_pictures():
        outcome = command("resume", run, "--epochs", "3")
    assert outcome.code == 0 and "\x1b" not in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if "To write with it" in line]
    assert quote_command("epigone", "write", run) in line
    if name.isprintable():
        assert shlex.split(line.partition(": ")[2])[:3] == ["epigone", "write", str(run)]
    with pytest.raises(RunExists) as caught:
        RunFolder.create(run)
    assert f"Continue it with {quote_command('epigone', 'resume', run)} or" in caught.value.hint


def test_a_name_with_line_ends_cannot_pose_as_a_second_message() -> None:
    outcome = command("judge", "./no\nerror: all is lost\n  run: other\x1b[2J")
    first, *hint = outcome.err.splitlines()
    assert outcome.code == 2 and first.startswith("error: ") and "␊error: all is lost␊" in first and "␛[2J" in first
    assert len(hint) <= 1 and "\x1b" not in outcome.err
    assert show_name("a\tb\nc") == "a␉b␊c"


def test_no_command_is_put_together_without_quoting() -> None:
    """Whatever a message names goes through `quote_command`."""
    found = [
        f"{path.name}: {match[0]}"
        for path in sorted((SOURCE / "epigone").rglob("*.py"))
        for match in UNQUOTED.finditer(path.read_text("utf-8"))
    ]
    assert not found
    assert UNQUOTED.search('hint=f"Go on: epigone resume {run.path}"')
    assert not UNQUOTED.search('f"{command} restores it" "epigone write {quote_command(path)}"')
