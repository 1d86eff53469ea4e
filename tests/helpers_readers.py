"""What tests of readers share: files as texts, what was left out of them, and how long reading takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from epigone.corpus.corpus import Corpus, read_corpus
from epigone.errors import EpigoneError
from epigone.settings import ReadSettings

Write = Callable[[str, str | bytes], str]
"""Writes a file with this name and content and returns its path: the fixture `write`."""


def read(*paths: str, **settings: object) -> Corpus:
    """The corpus of these files, however short."""
    return read_corpus(paths, ReadSettings.model_validate(settings), smallest_bytes=1)


def read_text(path: str, **settings: object) -> str:
    """The text of the only document."""
    (document,) = read(path, **settings).documents
    return str(document.text)


def read_texts(path: str, **settings: object) -> list[str]:
    """The text of each document."""
    return [str(document.text) for document in read(path, **settings).documents]


def list_dropped(path: str) -> dict[str, tuple[int, str]]:
    """How many parts of each kind were left out of a file, and an example."""
    (file,) = read(path).files
    return {part.what: (part.count, part.example) for part in file.dropped}


def measure_reading(path: str) -> float:
    """Seconds of processor time in which a file is read or refused."""
    begin = time.process_time()
    with contextlib.suppress(EpigoneError):
        read(path)
    return time.process_time() - begin
