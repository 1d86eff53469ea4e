"""Scrivener projects: which of their many files are the manuscript, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

from epigone.corpus.readers.limits import Limits
from epigone.corpus.readers.reader import find_suffix
from epigone.corpus.readers.xml import XmlDamaged, parse_xml
from epigone.errors import TextUnreadable

BINDER = ".scrivx"
MANUSCRIPT = "DraftFolder"


def is_project(folder: Path) -> bool:
    """Whether a folder is a Scrivener project."""
    return find_binder(folder) is not None


def find_binder(folder: Path) -> Path | None:
    """The file of a project that says what its parts are."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if find_suffix(entry.name) == BINDER)
    return next((path for path in map(folder.joinpath, names) if path.is_file()), None)


def list_manuscript(folder: Path) -> list[Path]:
    """The texts of the manuscript in their order, without notes, research and what was thrown away.

    Raises TextUnreadable if the project is damaged.
    """
    path = find_binder(folder)
    if path is None:
        return []
    binder = _Binder()
    try:
        with path.open("rb") as file:
            limits = Limits(path.name, path.stat().st_size)
            parse_xml(limits.read_pieces(file), binder, limits)
    except (XmlDamaged, OSError) as error:
        raise TextUnreadable(
            f"{path.name} is damaged: {error}.", hint="In Scrivener: File > Export, or compile it as .txt or .docx."
        ) from None
    return [found for name in binder.names if (found := _find_text(folder / "Files", name)) is not None]


def _find_text(files: Path, name: str) -> Path | None:
    """The text of a part: where version 3 has it, or earlier ones."""
    places = (
        files / "Data" / name / "content.rtf",
        files / "Docs" / f"{name}.rtf",
        files / "Data" / name / "content.txt",
    )
    return next((place for place in places if place.is_file()), None)


class _Binder:
    """Collects the parts of the manuscript."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._types: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "BinderItem":
            self._types.append(attributes.get("Type", ""))
            name = attributes.get("UUID") or attributes.get("ID", "")
            if MANUSCRIPT in self._types and name.replace("-", "").isalnum():
                self.names.append(name)

    def end(self, tag: str) -> None:
        if tag == "BinderItem" and self._types:
            self._types.pop()

    def data(self, text: str) -> None: ...
