"""Repair of a run's damaged or missing files from the copies in its newest intact checkpoint, found by checksums."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from epigone.files import MISSING, exists, hash_file, read_bytes, reading, write_bytes, write_json
from epigone.model.hub import CONFIG, GENERATION
from epigone.runs.records import FORMAT, Manifest, other_version, read_format, read_record


class Checksums:
    """sums.json of a run: the sha256 of some of its files, by name."""

    def __init__(self, run: Path) -> None:
        self.run, self.path = run, run / "sums.json"

    def record_checksum(self, path: Path, sha256: str) -> None:
        """Record the sha256 that a file will have, before it is replaced. Its previous one counts as intact too.

        Raises OutputError, FileUnreadable.
        """
        sums, name = self._read(), path.relative_to(self.run).as_posix()
        before = sums.get(name, [])[:1]
        if before != [sha256]:
            write_json(self.path, sums | {name: [sha256, *before]})

    def find_damage(self, path: Path) -> str | None:
        """What is wrong with a file, or None; also None if it has no checksum. Raises FileUnreadable."""
        name = path.relative_to(self.run).as_posix()
        expected = self._read().get(name)
        if expected is None:
            return None
        try:
            with reading(path):
                return None if hash_file(path) in expected else f"{name} is not what was written"
        except MISSING:
            return f"{name} is missing"

    def _read(self) -> dict[str, list[str]]:
        try:
            sums = json.loads(read_bytes(self.path))
        except (*MISSING, ValueError, RecursionError):
            return {}
        if not isinstance(sums, dict):
            return {}
        return {name: known for name, known in sums.items() if isinstance(known, list)}


METRICS = "metrics.jsonl"
MANIFEST = "run.json"
CONFIG_AND_TOKENIZER = (CONFIG, "tokenizer.json", "tokenizer_config.json")
"""The files of model/ that do not change during training and without which the weights are useless."""


def list_copied(run: Path) -> list[Path]:
    """The files that each checkpoint holds copies of."""
    own = [run / name for name in (MANIFEST, "settings.toml", "receipt.json", METRICS)]
    return [*own, *(run / "model" / name for name in (*CONFIG_AND_TOKENIZER, GENERATION))]


def repair(run: Path, checkpoint: Path, sums: Checksums) -> Iterator[str]:
    """Restore files that are missing or changed, except the best weights. Raises OutputError, FileUnreadable.

    metrics.jsonl is restored to its state at the checkpoint: training writes the rest again.
    """
    for path in list_copied(run):
        copy = checkpoint / path.name
        if not exists(copy):
            continue  # a checkpoint of an earlier version
        if path.name == METRICS:
            yield from _restore_metrics(path, copy)
        elif fault := sums.find_damage(path) or (not _find_invalid(copy) and _find_invalid(path)):
            content = read_bytes(copy)
            write_bytes(path, content)
            sums.record_checksum(path, sha256(content).hexdigest())
            yield f"{fault}; restored from {checkpoint.name}"


def _find_invalid(path: Path) -> str | None:
    """What is wrong with a file that should hold a record, JSON or TOML, or None. Raises FileUnreadable."""
    parse: Callable[[str], object] = tomllib.loads if path.suffix == ".toml" else json.loads
    try:
        data = read_bytes(path)
        parse(data.decode("utf-8-sig"))
        if path.name == MANIFEST and not _is_of_another_version(path, data):
            read_record(Manifest, data)
    except MISSING:
        return f"{path.name} is missing"
    except (ValueError, RecursionError):
        return f"{path.name} cannot be read"
    return None


def _is_of_another_version(path: Path, data: bytes) -> bool:
    """Whether a manifest may hold what this version does not know, and is not damaged because of it."""
    number, version = read_format(data) or (FORMAT, "")
    return number > FORMAT or other_version(path, version, "") is not None


def _restore_metrics(path: Path, copy: Path) -> Iterator[str]:
    kept = read_bytes(copy)
    found = read_bytes(path) if exists(path) else b""
    if found != kept:
        write_bytes(path, kept)
    if not found.startswith(kept):
        yield f"{path.name} is not what was written; restored from {copy.parent.name}"
