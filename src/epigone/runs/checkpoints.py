"""Checkpoints: a trainer's state as a folder that is written atomically, and verified by the hashes of its files.

A checkpoint is written under a temporary name, flushed, given a manifest with the hashes of its files last, and then
renamed; it counts only if the manifest is there and every hash matches. An older one is deleted when a newer one is
verified, never before. It also holds copies of the run's small files, to repair those.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from epigone.errors import FileUnreadable, OutputError, RunDamaged
from epigone.files import (
    MISSING,
    check_room,
    create_file,
    exists,
    flush,
    hash_file,
    list_names,
    make_folder,
    read_bytes,
    reading,
    remove,
    replace,
    save_with_umask,
    write_json,
)
from epigone.training.state import TrainerState

MANIFEST, STATE = "manifest.json", "state.json"
KEPT = 2
"""Checkpoints: the newest, and the one before it in case a disk damages the newest. The best step's is kept as well."""
MOST_AT_ONCE = KEPT + 2
"""Including the best step's and the one that is being written."""
TENSORS = ("weights", "optimizer", "random")
AGAIN = ".again"
"""Suffix of a checkpoint that is to replace an intact one of the same step."""
LEFT_OVER = (".partial", ".gone")
"""Suffixes of folders that a crash may leave: half written and half deleted."""


def save_checkpoint(
    folder: Path, step: int, packed: TrainerState, extra: dict[str, Any], copied: Sequence[Path] = ()
) -> Path:
    """Write a checkpoint, with copies of some files, to `folder`, and delete older ones.

    Raises OutputError; then the older ones stay.
    """
    place = folder / f"step-{step:06d}"
    known = _find_sound(folder, step)
    if known is not None and _holds(known, extra):
        return known
    check_room(folder, _measure(packed, copied), f"The checkpoint {place}")
    target = place if known is None else place.with_name(place.name + ("" if known.name.endswith(AGAIN) else AGAIN))
    beside = folder / f"{place.name}.partial"
    try:
        _clear(folder)
        make_folder(folder)
        beside.mkdir()
        _write_files(beside, packed, extra, copied)
        if target.exists():
            _remove(target) if find_fault(target) is None else _set_aside(target)
        replace(beside, target)
        flush(folder)
        _verify(target)
        _drop_older(folder, target, step, packed)
        return _rename(target, place)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The checkpoint {place} cannot be written: {error}.",
            hint="The one before it is kept. Free some space, then continue with epigone resume.",
        ) from None


def _find_sound(folder: Path, step: int) -> Path | None:
    """The intact checkpoint of a step; of two the later one."""
    return next((one for one in list_checkpoints(folder) if read_step(one) == step and find_fault(one) is None), None)


def _measure(packed: TrainerState, copied: Sequence[Path]) -> int:
    tensors = [tensor for name in TENSORS for tensor in getattr(packed, name).values()]
    return int(sum(tensor.nbytes for tensor in tensors)) + sum(path.stat().st_size for path in copied if exists(path))


def _holds(checkpoint: Path, extra: dict[str, Any]) -> bool:
    kept = json.loads(read_bytes(checkpoint / STATE))
    return all(kept.get(name) == value for name, value in extra.items())


def _write_files(folder: Path, packed: TrainerState, extra: dict[str, Any], copied: Sequence[Path]) -> None:
    for name in TENSORS:
        tensors: dict[str, torch.Tensor] = getattr(packed, name)
        save_with_umask(partial(save_file, tensors), folder / f"{name}.safetensors")
    write_json(folder / STATE, packed.facts | extra)
    for path in copied:
        if path.exists():
            create_file(folder / path.name, path.read_bytes())
    files = sorted(folder.iterdir())
    for file in files:
        flush(file)
    hashes = {file.name: {"sha256": hash_file(file), "size_bytes": file.stat().st_size} for file in files}
    write_json(folder / MANIFEST, {"format": 1, "files": hashes})


def _verify(checkpoint: Path) -> None:
    fault = find_fault(checkpoint)
    if fault is not None:
        raise OutputError(f"The checkpoint {checkpoint} was not written correctly: {fault}.", hint="Check the disk.")


def _drop_older(folder: Path, newest: Path, step: int, packed: TrainerState) -> None:
    """Delete older checkpoints, except the previous one and the best step's."""
    best = packed.facts.get("progress", {}).get("best_step")
    others = [other for other in list_checkpoints(folder) if other != newest]
    same = [other for other in others if read_step(other) == step]
    older = [other for other in others if other not in same][KEPT - 1 :]
    for other in same + [other for other in older if read_step(other) != best]:
        _remove(other)


def _remove(checkpoint: Path) -> None:
    gone = checkpoint.with_name(f"{checkpoint.name}.gone")
    checkpoint.replace(gone)  # first, atomically: a half-deleted folder must not look like a checkpoint
    remove(gone)


def _clear(folder: Path) -> None:
    for name in list_names(folder):
        if name.startswith("step-") and name.endswith(LEFT_OVER):
            remove(folder / name)


def _rename(checkpoint: Path, place: Path) -> Path:
    """Give a checkpoint that replaced another its final name."""
    if checkpoint == place:
        return place
    checkpoint.replace(place)
    flush(place.parent)
    return place


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first, intact or not. Raises FileUnreadable."""
    names = [name for name in list_names(folder) if re.fullmatch(rf"step-\d+({re.escape(AGAIN)})?", name)]
    found = [folder / name for name in names]
    return sorted(found, key=lambda path: (read_step(path), path.name), reverse=True)


def read_step(checkpoint: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(checkpoint.name[5:].removesuffix(AGAIN))


def find_fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None. Raises FileUnreadable, as what cannot be read now may be intact."""
    try:
        files = json.loads(read_bytes(checkpoint / MANIFEST))["files"]
        for name in (*(f"{tensors}.safetensors" for tensors in TENSORS), STATE):
            if name not in files:
                return f"{name} is not in its manifest"
        for name, facts in files.items():
            path = checkpoint / Path(name).name
            with reading(path):
                if hash_file(path) != facts["sha256"]:
                    return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (*MISSING, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"it holds something else ({error})"
    return None


def find_checkpoint(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The newest intact checkpoint, and a line about each newer one that was damaged and has been renamed.

    None if none was ever written, or only one and that is damaged: training again from the start then costs little.
    Raises RunDamaged if there are several and all are damaged, and FileUnreadable if one that would be used cannot be
    read now; then all stay as they are.
    """
    faults: dict[Path, str] = {}
    found = None
    checkpoints = list_checkpoints(folder)
    for checkpoint in checkpoints:
        try:
            fault = find_fault(checkpoint)
        except FileUnreadable as error:
            if checkpoint != checkpoints[-1]:
                error.hint += f" To continue from an older checkpoint instead, move {checkpoint} out of the run."
            raise
        if fault is None:
            found = checkpoint
            break
        faults[checkpoint] = fault
    if faults and found is None and (len(faults) > 1 or any(".broken" in name for name in list_names(folder))):
        listed = "; ".join(f"{path.name}: {why}" for path, why in faults.items())
        raise RunDamaged(
            f"All checkpoints in {folder} are damaged ({listed}).",
            hint="The best model is untouched: epigone write still works. To start again, train into another folder.",
        )
    return found, tuple(
        f"{path.name} is damaged ({why}) and was renamed to {_set_aside(path).name}" for path, why in faults.items()
    )


def _set_aside(checkpoint: Path) -> Path:
    aside = checkpoint.with_name(f"{checkpoint.name}.broken")
    while os.path.lexists(aside):
        aside = aside.with_name(f"{aside.name}+")
    return checkpoint.replace(aside)


def load_checkpoint(checkpoint: Path) -> TrainerState:
    """Read a checkpoint that `find_checkpoint` returned. Raises RunDamaged, FileUnreadable."""
    try:
        with reading(checkpoint):
            tensors = {name: load_file(checkpoint / f"{name}.safetensors") for name in TENSORS}
        facts = json.loads(read_bytes(checkpoint / STATE))
        if not isinstance(facts, dict):
            raise ValueError(f"{STATE} does not hold a JSON object")
        return TrainerState(**tensors, facts=facts)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise RunDamaged(f"The checkpoint {checkpoint} cannot be read: {error}.") from None
