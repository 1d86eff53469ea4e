"""Finds the checked folder of a model by the name of its run, of a folder, or on the Hugging Face Hub."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from epigone.errors import BaseError, RunDamaged, RunNotFound, quote_command
from epigone.files import exists
from epigone.model.hub import WEIGHTS, find_base
from epigone.runs.folder import RunFolder
from epigone.runs.repair import CONFIG_AND_TOKENIZER

PathOrName = str | PathLike[str]


def find_model_folder(name: PathOrName, *, progress: bool = False) -> Path:
    """The checked folder with the model of a run, or with any GPT-2. Raises RunNotFound, RunDamaged, BaseError."""
    path = Path(name)
    if RunFolder.is_run(path):
        return _check_model(RunFolder.find(path))
    return find_base(str(path), progress=progress).folder


def _check_model(run: RunFolder) -> Path:
    """The folder of a run's best model. Raises RunNotFound, RunDamaged."""
    if not exists(run.model / WEIGHTS) and run.checksums.find_damage(run.model / WEIGHTS) is None:
        raise no_model_yet(run.path)
    if fault := next(
        filter(None, map(run.checksums.find_damage, (run.model / name for name in (WEIGHTS, *CONFIG_AND_TOKENIZER)))),
        None,
    ):
        raise _run_damaged(run, fault)
    try:
        return find_base(str(run.model)).folder
    except BaseError as error:
        raise _run_damaged(run, str(error)) from None


def _run_damaged(run: RunFolder, fault: str) -> RunDamaged:
    return RunDamaged(
        f"{run.path}: {fault.rstrip('.')}.", hint=f"{quote_command('epigone', 'resume', run.path)} restores it."
    )


def no_model_yet(run: PathOrName) -> RunNotFound:
    """The error for a run that has not come to its first evaluation."""
    return RunNotFound(
        f"{run} holds no model yet: it stopped before its first evaluation.",
        hint=f"Go on with it: {quote_command('epigone', 'resume', Path(run))}",
    )
