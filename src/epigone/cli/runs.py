"""Which run is meant, by its name or as the newest one, and the command list."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from epigone.cli.options import JSON, PATH, Argument, Command
from epigone.errors import BaseError, RunNotFound, SettingsError, quote_command
from epigone.runs.listing import (
    RUNS,
    VOICES,
    RunOverview,
    has_model,
    is_voice,
    list_run_folders,
    list_runs,
    list_voice_folders,
    looks_like_run,
    run_name,
)
from epigone.settings import parse_mix
from epigone.training.events import Grade

NO_RUN = "To make one: epigone train TEXT"
VERDICTS: Mapping[tuple[str, Grade], str] = {
    ("sounds_like", "good"): "sounds like the author",
    ("sounds_like", "fair"): "sounds somewhat like the author",
    ("sounds_like", "bad"): "does not sound like the author",
    ("makes_sense", "good"): "sentences like the author's",
    ("makes_sense", "fair"): "sentences somewhat like the author's",
    ("makes_sense", "bad"): "sentences unlike the author's",
    ("copies", "good"): "does not copy",
    ("copies", "fair"): "copies a little",
    ("copies", "bad"): "copies",
    ("repeats", "fair"): "repeats itself a little",
    ("repeats", "bad"): "repeats itself",
}
"""What the list says of a grade; nothing of what is as it should be, or was not measured."""
AGES = ((86_400, "days"), (3_600, "h"), (60, "min"))


# -- which run


def choose_run(name: str | Path | None, *, to_resume: bool = False, quiet: bool = False) -> Path:
    """The run of this name, in runs/ or elsewhere; without one the newest, which is then named on standard error.

    Raises RunNotFound, SettingsError.
    """
    if name is not None:
        named = Path(find_model(str(name), to_resume=to_resume))
        if not named.exists():
            raise RunNotFound(f"There is no run {name}.", hint=name_newest() or NO_RUN)
        return named
    runs = list_run_folders(RUNS)
    found = next((run for run in runs if to_resume or has_model(run)), runs[0] if runs else None)
    if found is None:
        raise RunNotFound(f"There is no run in {RUNS}/ yet.", hint=NO_RUN)
    if not quiet:
        click.echo(f"Using the newest run: {found}", err=True)
    return Path(find_model(str(found), to_resume=to_resume))


@contextmanager
def using_model() -> Iterator[None]:
    """Leave out of errors about a model what helps only where one is trained, and name the runs."""
    from epigone.model.hub import SCRATCH

    try:
        yield
    except BaseError as error:
        hint = error.hint.replace("give a folder with --base", "give its folder")
        hint = hint.replace(f", {SCRATCH}", ".").replace(f"; {SCRATCH}", ".")
        error.hint = f"{hint} {name_newest()}".strip()
        raise


def find_model(name: str, *, to_resume: bool = False) -> str:
    """The run in runs/ or the model that is meant.

    Raises RunNotFound for a run that is not there or has not come to its own model, SettingsError for a text or a part
    of a run.
    """
    from epigone.model.hub import PREFIX
    from epigone.runs.folder import RunFolder

    if name.startswith(PREFIX):
        return name
    path, named, no_run = Path(name), RUNS / name, name_newest() or NO_RUN
    if in_first := next((place for place in (path, named) if RunFolder.is_in_first(place)), None):
        if to_resume:
            return str(in_first)
        raise RunNotFound(
            f"{in_first} is still in the first of its two runs.",
            hint=f"{quote_command('epigone', 'resume', in_first)} goes on with it. The model of the first run is in "
            f"{in_first / 'first'}.",
        )
    is_model = RunFolder.is_run(path) or (path / "config.json").exists()
    if not is_model and (found := _find_run(path)):  # where the texts are in a folder of the run's name, too
        return str(found)
    outer = next((above for above in path.parents if path.exists() and RunFolder.is_run(above)), None)
    if outer is not None and not is_model:
        raise SettingsError(f"{name} is a part of a run.", hint=f"Use the run itself: {outer}")
    if path.is_file():
        raise SettingsError(
            f"{name} is a file; a run or a model is a folder.",
            hint=f"To train on a text: {quote_command('epigone', 'train', path)}",
        )
    if path.parent.name == "checkpoints" and path.is_dir():
        raise SettingsError(f"{name} is a checkpoint inside a run.", hint=f"Use the run itself: {path.parent.parent}")
    alike = "" if path.exists() else find_alike(path.name)
    if not path.exists() and (path.parent == RUNS or alike):
        raise RunNotFound(f"There is no run {name}.", hint=f"Did you mean {alike}? " * bool(alike) + no_run)
    if path.is_dir() and not is_model:
        raise RunNotFound(f"{name} holds neither a run nor a model.", hint=no_run)
    return name


def _find_run(name: Path) -> Path | None:
    """The run in runs/ with this name, or the voice of a run that is named as RUN/VOICE."""
    from epigone.runs.folder import RunFolder

    named = RUNS / name
    places = (named, name.parent / VOICES / name.name, named.parent / VOICES / name.name)
    found = next((place for place in places if RunFolder.is_run(place)), None)
    run = None if found else find_run_of_voice(name)
    return found if run is None else Path(choose_voice(str(run), name.name))


def find_run_of_voice(name: Path) -> Path | None:
    """The run whose voice a name such as RUN/VOICE asks for, whether it has such a voice or not; None for any other."""
    if name.parent == Path() or name.exists() or (RUNS / name).exists():
        return None
    return next((run for run in (RUNS / name.parent, name.parent) if list_voice_folders(run)), None)


def choose_voice(run: str, voice: str) -> str:
    """The run of a run's voice. Raises SettingsError."""
    from epigone.voices import find_voice

    return str(find_voice(Path(run), voice))


def find_mixed(mix: Sequence[str], run: str) -> tuple[str, ...]:
    """The setting `mix` with the runs in runs/ that are meant, or the voices of the same run.

    Raises RunNotFound, SettingsError.
    """
    from epigone.model.base_profile import BASES
    from epigone.model.hub import WELL_KNOWN
    from epigone.voices import match_voice

    around = Path(run).resolve().parent.parent if is_voice(Path(run)) else Path(run)
    voices = {path.name: str(path) for path in list_voice_folders(around)}
    parts = []
    for name, share in map(parse_mix, mix):
        meant = voices.get(match_voice(name, voices) or "") or find_model(name)
        if voices and "/" not in meant and not (Path(meant).exists() or meant in (*BASES, *WELL_KNOWN)):
            raise RunNotFound(f"There is no run or voice {name} to mix.", hint=f"Voices: {', '.join(voices)}.")
        parts.append((meant, share))
    return tuple(name if share is None else f"{name}:{share:g}" for name, share in parts)


def find_alike(name: str) -> str:
    """The run in runs/ with a similar name, unless a base has that name; else ""."""
    from epigone.model.hub import WELL_KNOWN

    alike = difflib.get_close_matches(name, [path.name for path in RUNS.glob("*") if path.is_dir()], n=1, cutoff=0.7)
    return str(RUNS / alike[0]) if alike and name not in WELL_KNOWN else ""


def name_newest() -> str:
    """The newest runs in runs/, as a sentence; "" if there are none."""
    newest = list_run_folders(RUNS)[:3]
    return f"Runs here: {', '.join(map(str, newest))}." if newest else ""


# -- the list


@click.command(
    cls=Command,
    address_space=0,
    name="list",
    examples="""
        epigone list
        epigone list ~/books/runs --json
    """,
)
@click.argument(
    "folder", cls=Argument, required=False, type=PATH, default=RUNS, text="Folder with runs. [default: runs]"
)
@JSON
def list_command(folder: Path, *, as_json: bool) -> int:
    """List your runs, the newest first: age, base, size, loss and verdicts."""
    from epigone.cli.terminal import print_json, print_rows

    folder = RUNS / folder if not folder.exists() and looks_like_run(RUNS / folder) else folder
    if looks_like_run(folder):
        runs = [run for run in list_runs(folder.parent) if folder in (run.path, run.path.parent.parent)]
    elif folder.is_file():
        raise RunNotFound(f"{folder} is a file; list shows the runs in a folder.", hint=name_newest() or NO_RUN)
    elif not folder.is_dir() and folder != RUNS:
        raise RunNotFound(f"There is no folder {folder}.", hint=name_newest() or NO_RUN)
    else:
        runs = list_runs(folder)
    if as_json:
        print_json({"runs": [describe_as_json(run) for run in runs]})
    elif runs:
        print_rows(("run", "trained", "base", "size", "loss", "verdicts"), [describe_run(run) for run in runs])
    else:
        print_rows((), [(f"There are no runs in {folder}/ yet. {NO_RUN}",)])
    return 0


def describe_as_json(run: RunOverview) -> dict[str, Any]:
    """A run of the list for programs; None for what is not known."""
    best = run.best
    return {
        "run": str(run.path),
        "state": run.state,
        "seconds_ago": round(max(0.0, time.time() - run.changed)),
        "base": run.base,
        "parameters": run.n_parameters,
        "loss": None if best is None else best.loss,
        "bits_per_byte": None if best is None else best.bits_per_byte,
        "verdicts": dict(run.grades),
        "has_model": run.has_model,
    }


def describe_run(run: RunOverview) -> tuple[str, ...]:
    """A run of the list for people: name, age, base, size, loss and verdicts."""
    age = describe_age(time.time() - run.changed)
    trained = {"learning": "is training", "stopped": f"stopped {age}", "finished": age}[run.state]
    said = [VERDICTS[topic, grade] for topic, grade in run.grades.items() if (topic, grade) in VERDICTS]
    verdicts = ", ".join(said) if said else "cannot tell" if run.grades else "not judged" if run.has_model else ""
    return (
        run_name(run.path),
        trained,
        run.base or "?",
        format_size(run.n_parameters),
        "" if run.best is None else f"{run.best.loss:.3f}",
        verdicts,
    )


def format_size(n_parameters: int | None) -> str:
    """A number of parameters as people say it: "850K", "5.9M", "1.5B"."""
    if n_parameters is None:
        return "?"
    for size, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")):
        if n_parameters >= size:
            share = n_parameters / size
            return f"{share:.1f}{letter}" if share < 99.95 else f"{share:.0f}{letter}"
    return str(n_parameters)


def describe_age(seconds: float) -> str:
    """How long ago something was: "just now", "5 min ago", "3 days ago"."""
    for size, unit in AGES:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count:,} {'day' if unit == 'days' and count == 1 else unit} ago"
    return "just now"
