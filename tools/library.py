"""The books of a library (a folder of folders, or an archive of one), each work once and without credits."""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epigone.text_reuse.hashing import hash_windows, normalise

PASSAGE = 60
"""Normalised characters: books that share many passages of this length are the same work."""
ONE_IN = 64
"""One in so many passages is compared."""
KNOWN = 0.2
"""A book with a larger share than this in longer books is left out."""
CREDITS = re.compile(
    r"(?i)produced by|e-?text|e-?book|gutenberg|proofread|transcrib|scanned|html version|public domain"
    r"|distributed|archive\.org|typographical|(obsolete|inconsistent) spelling|replicate this text|\[illustration"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Book:
    """A book, and the share of it that is in other books of the library."""

    name: str
    """AUTHOR/NUMBER."""
    text: str
    shared: float


@contextmanager
def open_library(library: Path) -> Iterator[Path]:
    """The library's folder, unpacked for as long as it is needed."""
    if library.is_dir():
        yield library
        return
    with tempfile.TemporaryDirectory() as folder, tarfile.open(library) as archive:
        archive.extractall(folder, filter="data")
        (found,) = Path(folder).iterdir()
        yield found


def read_books(library: Path) -> list[Book]:
    """All books by name; of several editions of one work the longest."""
    texts = {f"{path.parent.name}/{path.stem}": strip_credits(path.read_text("utf-8", errors="replace"))
             for path in sorted(library.glob("*/*.txt"))}  # fmt: skip
    marks = {name: sample_passages(text) for name, text in texts.items()}
    times = Counter(passage for mine in marks.values() for passage in mine)
    known: set[int] = set()
    books = []
    for name in sorted(texts, key=lambda name: (-len(texts[name]), name)):
        mine = marks[name]
        if mine and len(mine & known) <= KNOWN * len(mine):
            shared = sum(times[passage] > 1 for passage in mine) / len(mine)
            books.append(Book(name=name, text=texts[name], shared=shared))
            known |= mine
    return sorted(books, key=lambda book: book.name)


def strip_credits(text: str) -> str:
    """The text without paragraphs about its making among the first ones."""
    text = text.replace("\r\n", "\n").lstrip("\ufeff").strip()
    parts = re.split(r"\n{2,}", text, maxsplit=12)
    kept = [part for part in parts[:-1] if len(part) > 600 or not CREDITS.search(part)]
    return "\n\n".join([*kept, parts[-1]]).strip() + "\n"


def sample_passages(text: str) -> set[int]:
    """The hashes of one in ONE_IN of the passages of a text: enough to tell whether it is the same work as another."""
    hashes = hash_windows(normalise(text), PASSAGE)
    return set(hashes[hashes % np.uint64(ONE_IN) == 0].tolist())
