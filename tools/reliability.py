"""Writes docs/dev/reliability.md from build/reliability.json, the results of the fault-injection tests."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from textwrap import wrap
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "build" / "reliability.json"
PAGE = ROOT / "docs" / "dev" / "reliability.md"
WARNING = "<!-- Written by tools/reliability.py from what the tests found: run `make faults`. -->"
HEAD = """\
Which faults were injected into runs, how often, and what happened. A fault is survived if it is enough to give the
command again and the run ends with the same result, bit for bit unless said otherwise; what is under "lost" is trained
again.

`make faults` tries all of it again and writes this page. A part of it: `pytest -m faults --rows tests/test_faults.py`,
then `python tools/reliability.py`."""

COLUMNS = ("fault", "tried", "survived", "lost")


@dataclass(frozen=True, slots=True)
class Section:
    """What a table's rows have in common, and what its columns are called."""

    words: str
    columns: tuple[str, ...] = COLUMNS


SECTIONS = {
    "A model gone astray": Section(
        "A loss or gradient that is NaN or infinite ends the training with one error before anything damaged is "
        "saved; the best model and the last intact checkpoint stay. Survived means that it stops like that, and "
        "that a resume then ends with the result that the run would have had."
    ),
    "Code in files": Section(
        "Each was a file that makes another one as soon as it is opened as a pickle or run as a program, so that a "
        "single one would have been seen. To be survived was that none was, while the commands did their work.",
        ("what lay there", "tried", "never run"),
    ),
    "Damaged files": Section(
        "The tokens are made again from the text. If that is missing or changed as well, survived means one error "
        "that says so, nothing lost, and the same result once the text is back."
    ),
    "Memory": Section(
        "Where memory runs out the step is computed again in parts, with the same tokens and the same random numbers, "
        "and comes to the same but for the order in which sums are added; where not one block fits it is one error. "
        "What a long text takes is the anonymous memory (RssAnon) of all its processes, seen from outside."
    ),
    "Odd and hostile input": Section(
        "Nothing is to be survived here: what is given is read, or it is refused with one error that says what to do. "
        'The two add up to what was tried where nothing ended in a traceback. What is called "any" or "spoilt" was '
        "made in great number, most of it by chance, and each that was made counts.",
        ("what was given", "tried", "read", "refused"),
    ),
    "Runs of others": Section(
        "What someone else has put into a run, or allows others to read, changes nothing outside it and loses nothing "
        "in it. Survived means that everything is as it was, with one error that names the file where it is needed."
    ),
    "Runs that moved": Section(
        "To another machine or another version of epigone. Survived means that the run does what it would have done "
        "here, and says in one line what has changed."
    ),
    "Several processes and hosts": Section(
        "Started by torchrun, or on two network namespaces of one machine with a cable between them. Survived means "
        "that every process that is left ends within a minute, with one line that names what is lost and the command "
        "that resumes, and that this ends with the result of two processes to which nothing happened."
    ),
    "The server": Section(
        "What may happen to `epigone serve`. Survived means that every other request gets the answer that it gets "
        "alone, that the one concerned gets one error, and that nothing is left open or lost by it.",
        ("what happened", "tried", "survived"),
    ),
    "What a fuzzer finds": Section(
        "atheris makes input that takes branches which nothing took before, a minute for each row. What was read and "
        "what was refused is not counted apart.",
        ("what was given", "tried", "read or refused"),
    ),
    "Without a network": Section(
        "The commands ran where every socket fails, Python's and the system library's, and each that was asked for is "
        "written down. They are quiet where they did their work and nothing was written down.",
        ("commands", "tried", "quiet"),
    ),
}


def main() -> None:
    """Write the page."""
    PAGE.write_text(write_page(json.loads(ROWS.read_text("utf-8"))), "utf-8", newline="\n")
    print(f"{PAGE.relative_to(ROOT)} written")


def write_page(rows: Iterable[Mapping[str, Any]]) -> str:
    """The page: a table for each group, its lines in the order in which they came, equal ones added up."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        lines = tables.setdefault(row["group"], {})
        line = lines.setdefault(row["fault"], {"tried": 0, "survived": 0, "refused": 0, "lost": []})
        line["tried"] += row["tried"]
        line["survived"] += row["survived"]
        line["refused"] += row.get("refused", 0)
        if row["lost"] not in line["lost"]:
            line["lost"].append(row["lost"])
    parts = [WARNING, "", "# Reliability", "", HEAD, "", _describe_machine(), ""]
    for group in sorted(tables):
        section = SECTIONS.get(group, Section(""))
        parts += [f"## {group}", ""] + [*wrap(section.words, 120), ""] * bool(section.words)
        parts += [f"| {' | '.join(section.columns)} |", f"| {' | '.join(map(_align, section.columns))} |"]
        for fault, line in tables[group].items():
            parts.append(f"| {' | '.join([fault, *(_spell(line, column) for column in section.columns[1:])])} |")
        parts.append("")
    return "\n".join(parts)


def _align(column: str) -> str:
    return (
        "---:" if column in ("tried", "survived", "read", "refused", "read or refused", "never run", "quiet") else "---"
    )


def _spell(line: Mapping[str, Any], column: str) -> str:
    if column == "lost":
        return _list_losses(line["lost"])
    n_survived = line["survived"]
    counts = {"tried": line["tried"], "refused": line["refused"], "read": n_survived - line["refused"]}
    return f"{counts.get(column, n_survived):,}"


def _list_losses(lost: list[str]) -> str:
    """Each once; "nothing" only where there is nothing else."""
    return "; ".join(one for one in lost if one != "nothing") or "nothing"


def _describe_machine() -> str:
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "safetensors"))
    return f"Last tried on {today}, {platform.system()}, Python {platform.python_version()}, {packages}."


if __name__ == "__main__":
    main()
