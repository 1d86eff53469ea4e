"""Cache of parsed documents: a file whose content is known is not parsed again.

An entry is found by what its text depends on: the file's content, the format, the settings of reading, and the program
code of the readers. It has a checksum, and one that is damaged is parsed again; so is everything if the cache cannot be
read or written. Entries are in the user's cache, `parsed/` in $EPIGONE_CACHE, readable for the user alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

from epigone import __version__, corpus
from epigone.corpus.encoding import as_piece
from epigone.corpus.readers.reader import Dropped, Format, ParsedDocument, ReadContext
from epigone.files import cache_folder, remove

SMALLEST_BYTES = 1 << 15
"""Of a file: smaller ones are many, and kept together, in `small_file_cache.py`."""
MOST_BYTES = 1 << 26
"""Of an entry's texts."""
MOST_CACHED_BYTES, KEPT_BYTES = 1 << 29, 3 << 27
"""When all entries have more than the first, those that were not used for longest go, until they have the second."""
PRUNE_EVERY_BYTES = 1 << 26
CHECKSUM, LENGTH = 64, 12
"""Bytes of the checksum that an entry begins with, and of the length of what stands before its texts."""
KEYS = {"documents", "dropped", "notes", "decoded"}
_state = {"n_written": PRUNE_EVERY_BYTES, "broken": 0}
"""Bytes that this process has written since it last looked at the size of the cache; and whether writing failed."""


def parse(known: Format, file: BinaryIO, context: ReadContext, sha256: str) -> Iterator[ParsedDocument]:
    """The documents in a file, as `known.read` yields them, with all that it notes in the context. Raises as it does.

    `sha256`: of the file's bytes.
    """
    settings = context.settings
    if context.limits.n_bytes < SMALLEST_BYTES or settings.speaker or settings.anonymize:
        yield from known.read(file, context)
        return
    path = _find_path(known, context, sha256)
    entry = _load(path) if path else None
    if entry is not None:
        yield from _restore(entry, context)
        return
    documents: list[ParsedDocument] | None = []
    n_characters = 0
    for document in known.read(file, context):
        n_characters += len(document.text)
        if documents is not None and n_characters <= MOST_BYTES:
            documents.append(document)
        else:
            documents = None
        yield document
    if path and documents is not None and not context.speakers.counts:  # who spoke is counted over all files
        _store(path, _describe(documents, context))


def _find_path(known: Format, context: ReadContext, sha256: str) -> Path | None:
    """Where the entry of a file is, if there is one."""
    code = hash_code(*(("pypdfium2",) if known.name == "pdf" else ()))
    parts = [sha256, known.name, known.version, code, context.settings.model_dump(mode="json")]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    folder = find_folder()
    return folder / f"{key}.parsed" if folder else None


def find_folder() -> Path | None:
    """The folder of all entries; None if there is none, since the home of this user is unknown."""
    try:
        return cache_folder() / "parsed"
    except RuntimeError:
        return None


@cache
def hash_code(*libraries: str) -> str:
    """Changes with the program code of everything that reads texts, with Python's and with that of these libraries."""
    digest = hashlib.sha256(f"{__version__} {sys.version}".encode())
    for folder in corpus.__path__:
        for path in sorted(Path(folder).rglob("*.py")):
            with suppress(OSError):
                digest.update(path.read_bytes())
    for library in ("charset-normalizer", *libraries):
        with suppress(PackageNotFoundError):
            digest.update(version(library).encode())
    return digest.hexdigest()


def _load(path: Path) -> dict[str, Any] | None:
    """An entry; None if there is none, or if it is damaged."""
    try:
        data = memoryview(path.read_bytes())
        checksum, start = bytes(data[:CHECKSUM]), CHECKSUM + 1
        if hashlib.sha256(data[start:]).hexdigest().encode() != checksum:
            return None
        length = int(bytes(data[start : start + LENGTH]))
        start += LENGTH
        entry = json.loads(bytes(data[start : start + length]).decode("utf-8", "surrogatepass"))
        start += length
        for document in entry["documents"]:
            end = start + document.pop("n_bytes")
            document["text"] = str(data[start:end], "utf-8", "surrogatepass")
            start = end
        os.utime(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return entry if isinstance(entry, dict) and entry.keys() == KEYS else None


def _describe(documents: list[ParsedDocument], context: ReadContext) -> dict[str, Any]:
    found = context.decoded[0] if context.decoded else None
    return {
        "documents": [asdict(document) for document in documents],
        "dropped": [asdict(part) for part in context.drops.list()],
        "notes": context.notes,
        "decoded": {"encoding": found.encoding, "reason": found.reason, "warning": found.warning} if found else None,
    }


def _restore(entry: dict[str, Any], context: ReadContext) -> Iterator[ParsedDocument]:
    for part in entry["dropped"]:
        context.drops.add_counted(Dropped(**part))
    context.notes.extend(entry["notes"])
    if entry["decoded"]:
        context.decoded.append(replace(as_piece("")[1], **entry["decoded"]))
    for document in entry["documents"]:
        yield ParsedDocument(**document)


def _store(path: Path, entry: dict[str, Any]) -> None:
    """Write an entry. Its texts stand after the rest as they are, so that a long one is in memory only once more."""
    texts = [document.pop("text").encode("utf-8", "surrogatepass") for document in entry["documents"]]
    for document, text in zip(entry["documents"], texts, strict=True):
        document["n_bytes"] = len(text)
    head = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    parts = [f"{len(head):<{LENGTH}}".encode(), head, *texts]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    write_entry(path, [digest.hexdigest().encode() + b"\n", *parts])


def write_entry(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file of the cache, whole or not at all; where that fails, this process does not try again."""
    if _state["broken"]:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:  # which only the user may read
            try:
                file.writelines(parts)
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                remove(Path(file.name))
                raise
        _state["n_written"] += sum(map(len, parts))
        if _state["n_written"] >= PRUNE_EVERY_BYTES:
            _state["n_written"] = 0
            _prune(path.parent)
    except OSError:
        _state["broken"] = 1


def _prune(folder: Path) -> None:
    """Remove the entries that were not used for longest if all together are too large. Raises OSError."""
    with os.scandir(folder) as entries:
        found = [(entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in entries if entry.is_file()]
    n_bytes = sum(size for _, size, _ in found)
    if n_bytes <= MOST_CACHED_BYTES:
        return
    for _, size, name in sorted(found):
        if n_bytes <= KEPT_BYTES:
            return
        remove(Path(name))
        n_bytes -= size
