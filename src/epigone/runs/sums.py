"""A run's files in; whether each is still what was last written, out.

safetensors takes a file in which bits have changed without a word, and so does JSON as often as not.
"""

from __future__ import annotations

import json
from pathlib import Path

from epigone.files import hash_file, write_json


class Sums:
    """sums.json of a run: the sha256 of some of its files, by their names there."""

    def __init__(self, run: Path) -> None:
        self.run, self.path = run, run / "sums.json"

    def announce(self, path: Path, sha256: str) -> None:
        """Say what a file will be before it takes its place. Until it does, what it was counts as sound too.

        Raises OutputError.
        """
        sums, name = self._read(), path.relative_to(self.run).as_posix()
        before = sums.get(name, [])[:1]
        if before != [sha256]:
            write_json(self.path, sums | {name: [sha256, *before]})

    def find_fault(self, path: Path) -> str | None:
        """What is wrong with a file, or None; also where nothing is known of it."""
        name = path.relative_to(self.run).as_posix()
        expected = self._read().get(name)
        if expected is None:
            return None
        try:
            return None if hash_file(path) in expected else f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"

    def _read(self) -> dict[str, list[str]]:
        try:
            sums = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(sums, dict):
            return {}
        return {name: known for name, known in sums.items() if isinstance(known, list)}
