"""Pages and parts of pages that repeat the code, or what was measured; `PAGES` lists them. Are any stale?"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api_page import write_api
from epigone.cli.main import cli
from epigone.settings import Frozen, JudgeSettings, TrainSettings, WriteSettings, flag_name, write_toml
from gallery_page import fill_readme, write_gallery

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "epigone"
ROOMS = (
    *("errors", "files", "leases", "settings", "backend", "hardware", "corpus", "tokens", "text_reuse", "model"),
    *("planning", "training", "runs", "generation", "evaluation", "report", "starting_point", "bulk_preparation"),
    *("distillation", "voices", "preparation", "mixing", "run", "pipeline", "resumption", "export", "serving", "cli"),
)
"""From the ground up: a room imports only from itself and from those before it."""
WARNING = "<!-- Written by tools/docs.py from the code: change that and run `make docs`. -->"
COLUMNS = 100


def main() -> int:
    """Write the pages, or with --check only compare them: 1 if any is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale")
    check = parser.parse_args().check
    stale = 0
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        stale += 1
        print(f"{name} {'is stale: run make docs' if check else 'written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8", newline="\n")
    return int(check and stale > 0)


# -- settings


def write_settings() -> str:
    """Every setting with its flag, values, default and help, and an example of a settings file."""
    lines = [WARNING, "", "# Settings", "", _SETTINGS_HEAD, ""]
    for title, kind in (("Training", TrainSettings), ("Writing", WriteSettings), ("Judging", JudgeSettings)):
        lines += [f"## {title}", "", _describe(kind), ""]
        for group, names in group_fields(kind).items():
            lines += [f"### {group}", "", *_draw_table(kind, names), ""]
        lines += ["Other names that are understood:", "", *_draw_synonyms(kind), ""]
    lines += ["## A settings file", "", _FILE_HEAD, "", "```toml", write_toml(TrainSettings()).rstrip(), "```"]
    return "\n".join(lines) + "\n"


_SETTINGS_HEAD = """\
A setting has the same name as a flag (`--batch-size 8`), in a settings file (`batch_size = 8`) and in Python
(`epigone.train("my.txt", batch_size=8)`). A flag overrides the file, and the file overrides the default. An unknown
name is an error. The names that transformers' scripts use, and those of earlier versions, are understood as well."""
_FILE_HEAD = """\
For `--settings FILE`. This one has every training setting with its default; a file only needs those that it changes.
Each run keeps one as `settings.toml`."""


def _describe(kind: type[Frozen]) -> str:
    verbs = {TrainSettings: "`epigone train` and `epigone plan`", WriteSettings: "`epigone write`"}
    return f"{inspect.getdoc(kind)} Flags of {verbs.get(kind, '`epigone judge`')}."


def group_fields(kind: type[Frozen]) -> dict[str, list[str]]:
    """The names of the fields under the headings of their class."""
    groups: dict[str, list[str]] = {}
    group = ""
    for name in kind.model_fields:
        group = kind.groups.get(name, group)
        groups.setdefault(group, []).append(name)
    return groups


def _draw_table(kind: type[Frozen], names: list[str]) -> Iterator[str]:
    yield "| name | flag | value | default | what it does |"
    yield "| --- | --- | --- | --- | --- |"
    schema = kind.model_json_schema()["properties"]
    for name in names:
        field = schema[name]
        cells = [f"`{name}`", f"`{flag_name(name)}`", describe_value(field), f"`{json.dumps(field['default'])}`"]
        cells.append(" ".join(field["description"].split()))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _draw_synonyms(kind: type[Frozen]) -> Iterator[str]:
    yield "| other name | here |"
    yield "| --- | --- |"
    for other, name in sorted(kind.synonyms.items()):
        yield f"| `{flag_name(other)}` | `{flag_name(name)}` |"


def describe_value(schema: dict[str, Any]) -> str:
    """What a setting may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(describe_value(one) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in schema.get("enum", [schema.get("const")]))
    words = {"number": "number", "integer": "whole number", "string": "text", "boolean": "`true` or `false`"}
    if schema["type"] == "array":
        return f"list of {words[schema['items']['type']]}s"
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[bound]:,.10g}" for bound, word in bounds.items() if bound in schema]
    return " ".join([words[schema["type"]], *limits])


# -- commands


def write_commands() -> str:
    """The help of `epigone` and of each command, and what holds for all of them."""
    lines = [WARNING, "", "# Commands", "", *_fence("epigone --help", ask_for_help())]
    for title, rows in cli.notes.items():
        lines += ["", f"## {title}", "", "| | |", "| --- | --- |", *(f"| `{name}` | {text} |" for name, text in rows)]
    lines += ["", _COMMANDS_HEAD]
    for verb, command in cli.commands.items():
        asked = "--help-all" if getattr(command, "folded", ()) and verb not in SHORT_HELP else "--help"
        lines += ["", f"## {verb}", "", *_fence(f"epigone {verb} {asked}", ask_for_help(verb, asked=asked))]
        lines += ["", SHORT_HELP[verb]] if verb in SHORT_HELP else []
    return "\n".join(lines) + "\n"


SHORT_HELP = {"plan": "All other options are those of [train](#train)."}
"""Commands whose page has only the common options, and what it says instead."""
_COMMANDS_HEAD = """\
An error is two lines on standard error: what is wrong, and what to do about it. With `--json` it is an object on
standard output: `{"error": …, "hint": …, "kind": …}`.

## Names of runs

A run is named by its folder (`runs/novel`, or any other) or, if it is in `runs/`, by its name (`novel`). Without a
name, `write`, `judge`, `quiz`, `score`, `report` and `resume` take the newest run and say so on standard error;
`epigone list` lists them.

## Output

`write` prints the text on standard output and nothing else. `train` shows its progress there: a live view on a
terminal, plain lines without colours in a pipe. With `--json` one JSON object is printed, with `--quiet` nothing but
errors, which go to standard error.

## Completion

The <kbd>Tab</kbd> key completes commands, options, their values and the names of runs. One line for the shell that
you use:

| shell | line | file |
| --- | --- | --- |
| bash | `eval "$(epigone completion bash)"` | `~/.bashrc` |
| zsh | `eval "$(epigone completion zsh)"` | `~/.zshrc`, after `compinit` |
| fish | `epigone completion fish \\| source` | `~/.config/fish/config.fish` |"""


def ask_for_help(*verb: str, asked: str = "--help") -> str:
    """The help as it is shown where COLUMNS letters fit in a line and there is no colour."""
    coloured = {"FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    environment = {name: value for name, value in os.environ.items() if name not in coloured}
    environment |= {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "epigone", *verb, asked]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=True
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def _fence(command: str, text: str) -> list[str]:
    return ["```text", f"$ {command}", text, "```"]


# -- the map


def write_map() -> str:
    """The rooms from the ground up, and in each of them every module with the first line of its docstring."""
    lines = [WARNING, "", "# Map of the source", "", _MAP_HEAD, "", "| room | what it does |", "| --- | --- |"]
    rooms = list_rooms()
    for room, modules in rooms.items():
        target = f"#{room}" if len(modules) > 1 else f"../../{modules[0].relative_to(ROOT).as_posix()}"
        lines.append(f"| [{room}]({target}) | {read_first_line(modules[0])} |")
    for room, modules in rooms.items():
        if len(modules) > 1:
            lines += ["", f"## {room}", "", *map(_link, modules[1:])]
    lines += ["", "## The package itself", "", *map(_link, sorted(SOURCE.glob("__*__.py")))]
    return "\n".join(lines) + "\n"


_MAP_HEAD = """\
Rooms in `src/epigone`, from the ground up. A room imports only from itself and from rooms above it in this table;
`tests/test_house.py` keeps it so."""


def list_rooms() -> dict[str, list[Path]]:
    """The modules of each room that is built, a package's `__init__.py` first."""
    rooms = {}
    for room in ROOMS:
        if (SOURCE / room).is_dir():
            rooms[room] = sorted((SOURCE / room).rglob("*.py"), key=lambda path: (path.name != "__init__.py", path))
        elif (SOURCE / f"{room}.py").exists():
            rooms[room] = [SOURCE / f"{room}.py"]
    mapped = {module for modules in rooms.values() for module in modules} | set(SOURCE.glob("__*__.py"))
    unknown = sorted(set(SOURCE.rglob("*.py")) - mapped)
    if unknown:
        raise SystemExit(f"{unknown[0].relative_to(ROOT)} is in no room: add it to ROOMS in tools/docs.py")
    return rooms


def _link(module: Path) -> str:
    name = module.relative_to(SOURCE).as_posix()
    return f"- [`{name}`](../../{module.relative_to(ROOT).as_posix()}): {read_first_line(module)}"


def read_first_line(module: Path) -> str:
    """The first line of a module's docstring. Ends the program where there is none."""
    docstring = ast.get_docstring(ast.parse(module.read_text("utf-8")))
    if not docstring:
        raise SystemExit(f"{module.relative_to(ROOT)} has no docstring")
    return docstring.splitlines()[0]


PAGES = {
    "docs/settings.md": write_settings,
    "docs/commands.md": write_commands,
    "docs/api.md": lambda: f"{WARNING}\n\n{write_api()}",
    "docs/gallery.md": lambda: f"{WARNING}\n\n{write_gallery()}",
    "docs/dev/map.md": write_map,
    "README.md": fill_readme,
}


if __name__ == "__main__":
    sys.exit(main())
