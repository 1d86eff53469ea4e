"""A text in; how much of it stands in the books that the small base has read, out, without those books.

Of all passages of 50 characters in them, those whose hash ends in a certain way are kept in a filter (Bloom 1970): the
same ones are looked at in a text, so the share of them that it knows is the share of the text that is copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from epigone.files import write_bytes
from epigone.text.folding import normalise
from epigone.text.hashes import Hashes, hash_windows

BUNDLE = "library.safetensors"
PASSAGE_CHARACTERS = 50
"""Shorter ones are shared by chance: the longest that the last tenth of eight novels has of the rest is of 42."""
ONE_IN = 64
"""Of the passages are kept and looked at."""
N_BITS = 25
"""The filter has 2^25 bits, 4 MB."""
N_PLACES = 8
"""Bits that each passage sets."""


@dataclass(frozen=True, slots=True)
class Library:
    """What is kept of the books."""

    bits: npt.NDArray[np.uint8]
    """[2^22]: a filter of 2^25 bits."""
    n_passages: int

    @property
    def chance(self) -> float:
        """That a passage which stands in none of the books seems to."""
        return float(np.unpackbits(self.bits).mean()) ** N_PLACES

    def measure_share(self, text: str) -> tuple[float, int]:
        """The share of a text's passages that stand in the books, and how many were looked at."""
        passages = choose_passages(text)
        if not len(passages):
            return 0.0, 0
        known = np.ones(len(passages), np.bool_)
        for places in list_places(passages):
            known &= (self.bits[places >> np.uint64(3)] >> (7 - (places & np.uint64(7))).astype(np.uint8) & 1) == 1
        share = (float(known.mean()) - self.chance) / (1 - self.chance)
        return max(0.0, float(share)), len(passages)


def choose_passages(text: str) -> Hashes:
    """The hashes of the passages of a text that count."""
    hashes = hash_windows(normalise(text), PASSAGE_CHARACTERS)
    chosen: Hashes = hashes[hashes % np.uint64(ONE_IN) == 0]
    return chosen


def list_places(passages: Hashes) -> Iterable[Hashes]:
    """Which bits each passage sets: N_PLACES arrays, made of two halves of the hash (Kirsch and Mitzenmacher 2006)."""
    first, second = passages >> np.uint64(32), (passages >> np.uint64(6)) | np.uint64(1)
    return (((first + np.uint64(number) * second) & np.uint64((1 << N_BITS) - 1)) for number in range(N_PLACES))


def read_library(books: Iterable[str]) -> Library:
    """The filter of some books."""
    bits = np.zeros(1 << N_BITS, np.bool_)
    n_passages = 0
    for book in books:
        passages = choose_passages(book)
        n_passages += len(passages)
        for places in list_places(passages):
            bits[places] = True
    return Library(np.packbits(bits), n_passages)


def write_library(library: Library, path: Path) -> None:
    """Write it to a file. Raises OutputError."""
    write_bytes(path, save({"bits": library.bits}, metadata={"n_passages": str(library.n_passages)}))


@cache
def open_library() -> Library:
    """That which comes with the package."""
    with safe_open(Path(str(files("epigone.judging") / BUNDLE)), "numpy") as found:
        return Library(found.get_tensor("bits"), int(found.metadata()["n_passages"]))
