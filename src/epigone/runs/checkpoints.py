"""A packed learner in, a verified folder on the disk out, and back.

A checkpoint is written beside its place, flushed, given a manifest with the hashes of its files last, and then
renamed; it counts only when the manifest is there and every hash matches. An older one goes when a newer one is
verified, never before.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from epigone.errors import OutputError, RunDamaged
from epigone.files import flush, hash_file, write_json
from epigone.training.state import Packed

MANIFEST = "manifest.json"
KEPT = 2
"""Checkpoints: the newest, and the one before it in case a disk spoils the newest."""
TENSORS = ("weights", "optimizer", "random")


def save_checkpoint(folder: Path, step: int, packed: Packed, extra: dict[str, Any]) -> Path:
    """Write a checkpoint into `folder` and drop the older ones. Raises OutputError; then the older ones stay."""
    place = folder / f"step-{step:06d}"
    sound = place.exists() and find_fault(place) is None
    if sound and _holds(place, extra):
        return place
    beside = folder / f"{place.name}.partial"
    try:
        if beside.exists():
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        _write_files(beside, packed, extra)
        aside = [_set_aside(place)] if place.exists() else []
        beside.replace(place)
        flush(folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The checkpoint {place} cannot be written: {error}.",
            hint="The one before it is kept. Make room, then go on with epigone resume.",
        ) from None
    fault = find_fault(place)
    if fault is not None:
        raise OutputError(f"The checkpoint {place} was not written as it should be: {fault}.", hint="Check the disk.")
    earlier = aside if sound else []  # of the same step: a resumed run may first evaluate where it was stopped
    for older in earlier + [other for other in list_checkpoints(folder) if other != place][KEPT - 1 :]:
        shutil.rmtree(older, ignore_errors=True)
    return place


def _holds(checkpoint: Path, extra: dict[str, Any]) -> bool:
    kept = json.loads((checkpoint / "state.json").read_text("utf-8"))
    return all(kept.get(name) == value for name, value in extra.items())


def _write_files(folder: Path, packed: Packed, extra: dict[str, Any]) -> None:
    for name in TENSORS:
        tensors: dict[str, torch.Tensor] = getattr(packed, name)
        save_file(tensors, folder / f"{name}.safetensors")
    write_json(folder / "state.json", packed.facts | extra)
    files = sorted(folder.iterdir())
    for file in files:
        flush(file)
    hashes = {file.name: {"sha256": hash_file(file), "size_bytes": file.stat().st_size} for file in files}
    write_json(folder / MANIFEST, {"format": 1, "files": hashes})


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first, sound or not."""
    steps = {int(path.name[5:]): path for path in folder.glob("step-*") if path.name[5:].isdecimal()}
    return [steps[step] for step in sorted(steps, reverse=True)]


def find_fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        for name, facts in manifest["files"].items():
            if hash_file(checkpoint / Path(name).name) != facts["sha256"]:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"it cannot be read ({error})"
    return None


def find_checkpoint(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The newest sound checkpoint, and a line about each newer one that was broken and is now set aside.

    None if none was ever written. Raises RunDamaged if there are some and all are broken; then they stay as they are.
    """
    faults: dict[Path, str] = {}
    for checkpoint in list_checkpoints(folder):
        fault = find_fault(checkpoint)
        if fault is None:
            return checkpoint, tuple(
                f"{path.name} is broken ({why}) and lies aside as {_set_aside(path).name}"
                for path, why in faults.items()
            )
        faults[checkpoint] = fault
    if faults:
        listed = "; ".join(f"{path.name}: {why}" for path, why in faults.items())
        raise RunDamaged(
            f"No checkpoint in {folder} is sound ({listed}).",
            hint="The best model is untouched: epigone write still works. To learn again, train into another folder.",
        )
    return None, ()


def _set_aside(checkpoint: Path) -> Path:
    aside = checkpoint.with_name(f"{checkpoint.name}.broken")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}+")
    return checkpoint.replace(aside)


def load_checkpoint(checkpoint: Path) -> Packed:
    """Read a checkpoint that `find_checkpoint` found sound. Raises RunDamaged."""
    try:
        tensors = {name: load_file(checkpoint / f"{name}.safetensors") for name in TENSORS}
        facts = json.loads((checkpoint / "state.json").read_text("utf-8"))
        if not isinstance(facts, dict):
            raise ValueError("state.json holds no JSON object")
        return Packed(**tensors, facts=facts)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise RunDamaged(f"The checkpoint {checkpoint} cannot be read: {error}.") from None
