"""Checkpoints: a trainer's state as a folder that is written atomically, and verified by the hashes of its files.

A checkpoint is written under a temporary name, flushed, given a manifest with the hashes of its files last, and then
renamed; it counts only if the manifest is there and every hash matches. An older one is deleted when a newer one is
verified, never before. It also holds copies of the run's small files, to repair those.

Where processes divide the model, each writes and verifies the files of its part, and the first one all else; only their
hashes are sent. Any number of processes can go on from it: the parts of a tensor are its rows, in order.
"""

from __future__ import annotations

import json
import os
import re
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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

T = TypeVar("T")
MANIFEST, STATE = "manifest.json", "state.json"
KEPT = 2
"""Checkpoints: the newest, and the one before it in case a disk damages the newest. The best step's is kept as well."""
MOST_AT_ONCE = KEPT + 2
"""Including the best step's and the one that is being written."""
TENSORS = ("weights", "optimizer", "random")
DIVIDED = TENSORS[:2]
"""Each is one file, or where processes divide the model, as many as there are processes."""
RANDOM = f"{TENSORS[2]}.safetensors"
Facts = dict[str, Any]
AGAIN = ".again"
"""Suffix of a checkpoint that is to replace an intact one of the same step."""
LEFT_OVER = (".partial", ".gone")
"""Suffixes of folders that a crash may leave: half written and half deleted."""


def save_checkpoint(
    folder: Path, step: int, packed: TrainerState, extra: dict[str, Any], copied: Sequence[Path] = ()
) -> Path:
    """Write a checkpoint, with copies of some files, to `folder`, and delete older ones.

    Where processes divide the model, all call this. Raises OutputError; then the older ones stay.
    """
    place = folder / f"step-{step:06d}"
    beside, is_first = folder / f"{place.name}.partial", packed.part == 0
    try:
        target, is_new = _tell_all(packed, _begin(place, beside, packed, extra, copied) if is_first else ("", False))
        if not is_new:
            return folder / target
        found = _gather(packed, _write_tensors(beside, packed))
        if is_first:
            _write_rest(beside, packed, extra, copied, hashes=dict(ChainMap(*found)))
            _put_in_place(beside, folder / target)
        _tell_all(packed, None)  # it has its name
        _verify(folder / target, packed)
        if is_first:
            _drop_older(folder, folder / target, step, packed)
            _rename(folder / target, place)
        return place
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"The checkpoint {place} cannot be written: {error}.",
            hint="The one before it is kept. Free some space, then continue with epigone resume.",
        ) from None


def _begin(place: Path, beside: Path, packed: TrainerState, extra: Facts, copied: Sequence[Path]) -> tuple[str, bool]:
    """Make the folder to write into. Returns the checkpoint's name at first, and whether it is to be written at all."""
    folder, known = place.parent, _find_sound(place.parent, read_step(place))
    if known is not None and _holds(known, extra):
        return known.name, False
    check_room(folder, _measure(packed, copied), f"The checkpoint {place}")
    _clear(folder)
    make_folder(folder)
    beside.mkdir()
    return place.name + (AGAIN if known is not None and not known.name.endswith(AGAIN) else ""), True


def _put_in_place(beside: Path, target: Path) -> None:
    if target.exists():
        _remove(target) if find_fault(target) is None else _set_aside(target)
    replace(beside, target)
    flush(target.parent)


def _gather(packed: TrainerState, value: T) -> list[T]:
    """The values of all that divide the model. It waits for them, outside of torch."""
    if packed.n_parts == 1:
        return [value]
    from epigone.training.distributed import gather_strings  # imports accelerate, which writing does not need

    return [json.loads(found) for found in gather_strings(json.dumps(value))]


def _wait_until_seen(path: Path, packed: TrainerState) -> None:
    if packed.part > 0:
        from epigone.training.distributed import wait_until_seen

        wait_until_seen(path)


def _tell_all(packed: TrainerState, value: T) -> T:
    """The first process's value, for all."""
    return _gather(packed, value)[0]


def _find_sound(folder: Path, step: int) -> Path | None:
    """The intact checkpoint of a step; of two the later one."""
    return next((one for one in list_checkpoints(folder) if read_step(one) == step and find_fault(one) is None), None)


def _measure(packed: TrainerState, copied: Sequence[Path]) -> int:
    """Bytes of all parts, of which the first one is the largest."""
    tensors = [tensor for kind in DIVIDED for tensor in getattr(packed, kind).values()]
    n_copied = sum(path.stat().st_size for path in copied if exists(path))
    return int(packed.n_parts * sum(tensor.nbytes for tensor in tensors)) + n_copied


def _holds(checkpoint: Path, extra: dict[str, Any]) -> bool:
    kept = json.loads(read_bytes(checkpoint / STATE))
    return all(kept.get(name) == value for name, value in extra.items())


def _name_file(kind: str, part: int, n_parts: int) -> str:
    """As files of large models are named on the Hugging Face Hub."""
    return f"{kind}.safetensors" if n_parts == 1 else f"{kind}-{part + 1:05d}-of-{n_parts:05d}.safetensors"


def _list_own(packed: TrainerState) -> dict[str, Mapping[str, torch.Tensor]]:
    """The files of tensors that this process writes."""
    own = {_name_file(kind, packed.part, packed.n_parts): getattr(packed, kind) for kind in DIVIDED}
    return own | ({RANDOM: packed.random} if packed.part == 0 else {})


def _write_tensors(folder: Path, packed: TrainerState) -> dict[str, Facts]:
    """Write this process's tensors. Returns the hashes of their files."""
    _wait_until_seen(folder, packed)
    own = _list_own(packed)
    for name, tensors in own.items():
        save_with_umask(partial(save_file, dict(tensors)), folder / name)
    return _flush_and_hash([folder / name for name in own])


def _write_rest(
    folder: Path, packed: TrainerState, extra: Facts, copied: Sequence[Path], hashes: dict[str, Facts]
) -> None:
    write_json(folder / STATE, packed.facts | extra)
    others = [path for path in copied if path.exists()]
    for path in others:
        create_file(folder / path.name, path.read_bytes())
    hashes |= _flush_and_hash([folder / STATE, *(folder / path.name for path in others)])
    parts = {"parts": packed.n_parts} if packed.n_parts > 1 else {}
    write_json(folder / MANIFEST, {"format": 1, **parts, "files": dict(sorted(hashes.items()))})


def _flush_and_hash(files: Sequence[Path]) -> dict[str, Facts]:
    for file in files:
        flush(file)
    return {file.name: {"sha256": hash_file(file), "size_bytes": file.stat().st_size} for file in files}


def _verify(checkpoint: Path, packed: TrainerState) -> None:
    """Each process verifies what it has written. Raises OutputError in all of them."""
    _wait_until_seen(checkpoint / MANIFEST, packed)
    own = set(_list_own(packed))
    of_others = {_name_file(kind, part, packed.n_parts) for kind in DIVIDED for part in range(packed.n_parts)} - own
    faults = _gather(packed, find_fault(checkpoint, own if packed.part else None, of_others))
    if fault := next(filter(None, faults), None):
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


def find_fault(checkpoint: Path, only: Collection[str] | None = None, but: Collection[str] = ()) -> str | None:
    """What is wrong with a checkpoint, or None; of its files `only` some, or all `but` some, are read.

    Raises FileUnreadable, as what cannot be read now may be intact.
    """
    try:
        manifest = json.loads(read_bytes(checkpoint / MANIFEST))
        files = manifest["files"]
        for name in (*_list_divided(manifest), RANDOM, STATE):
            if name not in files:
                return f"{name} is not in its manifest"
        for name, facts in files.items():
            if name in but or (only is not None and name not in only):
                continue
            path = checkpoint / Path(name).name
            with reading(path):
                if hash_file(path) != facts["sha256"]:
                    return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (*MISSING, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"it holds something else ({error})"
    return None


def _list_divided(manifest: Facts) -> Iterator[str]:
    for kind in DIVIDED:
        yield from _list_parts(kind, manifest)


def _list_parts(kind: str, manifest: Facts) -> list[str]:
    """The files that a kind of tensors is in."""
    n_parts = manifest.get("parts", 1)
    if n_parts < 1:
        raise ValueError(f"{n_parts} parts")
    return [_name_file(kind, part, n_parts) for part in range(n_parts)]


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
        manifest = json.loads(read_bytes(checkpoint / MANIFEST))
        with reading(checkpoint):
            found = {
                kind: _Rejoined([load_file(checkpoint / name) for name in _list_parts(kind, manifest)])
                for kind in DIVIDED
            }
            random = load_file(checkpoint / RANDOM)
        facts = json.loads(read_bytes(checkpoint / STATE))
        if not isinstance(facts, dict):
            raise ValueError(f"{STATE} does not hold a JSON object")
        return TrainerState(weights=found[DIVIDED[0]], optimizer=found[DIVIDED[1]], random=random, facts=facts)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
        raise RunDamaged(f"The checkpoint {checkpoint} cannot be read: {error}.") from None


class _Rejoined(Mapping[str, torch.Tensor]):
    """Tensors whole again from their parts, each when it is asked for: all at once may be too much for a process."""

    def __init__(self, parts: Sequence[Mapping[str, torch.Tensor]]) -> None:
        self._parts = parts

    def __getitem__(self, name: str) -> torch.Tensor:
        found = [part[name] for part in self._parts if name in part]
        if not found:
            raise KeyError(name)
        return torch.cat(found) if len(found) > 1 else found[0]

    def __iter__(self) -> Iterator[str]:
        return iter({name: None for part in self._parts for name in part})

    def __len__(self) -> int:
        return len(set().union(*self._parts))
