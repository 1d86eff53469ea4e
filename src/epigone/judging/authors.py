"""Other authors' texts, or the tables that come with the package, in; how often each uses each word or n-gram out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from epigone.files import write_whole
from epigone.judging.frequencies import WORD, Counts, Features, choose_features, cut_evenly, normalise

BUNDLE = "authors.safetensors"
WINDOW = 50_000
"""Characters that are counted together: the size at which the ruler has been shown to be right."""
WINDOWS = 8
"""Of each author, from as many of his books as there are."""
N_WORDS = 800
N_GRAMS = 1_000
COMMONEST = 100
STEPS = 8.0
"""A count is kept as its root in eighths, in a byte: small ones are exact, and large ones nearer than chance."""
LEAST_SHARED = 0.35
"""Of a text's words, as many as this are among the hundred commonest of others in its language: half is usual."""


@dataclass(frozen=True, slots=True)
class Authors:
    """Several authors, and how often each feature stands in windows of their texts."""

    names: tuple[str, ...]
    features: Features
    counts: Counts
    """[window, feature + 2], as Features.count gives them."""
    owners: tuple[int, ...]
    """Of each window, the place of its author in `names`."""

    def without(self, names: Sequence[str]) -> Authors:
        """The same without some."""
        kept = [name for name in self.names if name not in names]
        rows = [row for row, owner in enumerate(self.owners) if self.names[owner] in kept]
        owners = tuple(kept.index(self.names[self.owners[row]]) for row in rows)
        return Authors(tuple(kept), self.features, self.counts[rows], owners)

    def serves(self, text: str) -> bool:
        """Whether a normalised text is in the language of these authors, by its commonest words."""
        words = WORD.findall(text[:200_000])
        common = set(self.features.words[:COMMONEST])
        return sum(word in common for word in words) >= LEAST_SHARED * len(words) > 0


def read_authors(texts: Mapping[str, Sequence[str]]) -> Authors:
    """Choose what to count in the texts, given by their author's name, and count it. Texts may be short."""
    windows = {name: pick_windows(several) for name, several in texts.items()}
    features = choose_features(("\n".join(several) for several in windows.values()), N_WORDS, N_GRAMS)
    counts = features.count(window for several in windows.values() for window in several)
    owners = tuple(place for place, several in enumerate(windows.values()) for _ in several)
    return Authors(tuple(windows), features, counts, owners)


def pick_windows(texts: Sequence[str]) -> list[str]:
    """Up to eight windows of normalised text: of each text in turn, from its middle outwards."""
    cut = [cut_evenly(normalised, WINDOW) for text in texts if (normalised := normalise(text))]
    for windows in cut:
        middle = len(windows) // 2
        windows[:] = [window[: WINDOW + WINDOW // 10] for window in windows[middle:] + windows[:middle]]
    cut.sort(key=lambda windows: len(windows[0]) < WINDOW)
    rounds = range(max((len(windows) for windows in cut), default=0))
    return [windows[turn] for turn in rounds for windows in cut if turn < len(windows)][:WINDOWS]


@cache
def load_authors() -> Authors:
    """The authors that come with the package: English books of about sixty, as counts. See docs/attribution.md."""
    with safe_open(str(files("epigone.judging") / BUNDLE), framework="numpy") as file:
        named = json.loads(file.metadata()["names"])
        roots, totals = file.get_tensor("roots").astype(np.float64), file.get_tensor("totals").astype(np.float64)
        owners = tuple(file.get_tensor("owners").tolist())
    features = Features(tuple(named["words"]), tuple(named["grams"]))
    counts = np.hstack([np.round((roots / STEPS) ** 2), totals])
    return Authors(tuple(named["authors"]), features, counts, owners)


def write_authors(authors: Authors, path: Path) -> None:
    """Write the file that `load_authors` reads. Equal authors make equal bytes."""
    names = {"authors": authors.names, "words": authors.features.words, "grams": authors.features.grams}
    roots = np.round(np.sqrt(authors.counts[:, :-2]) * STEPS).astype(np.uint8)
    totals = authors.counts[:, -2:].astype(np.uint32)
    tables: dict[str, np.ndarray[Any, Any]] = {"roots": roots, "totals": totals}
    tables["owners"] = np.array(authors.owners, np.uint8)
    data = save(tables, {"names": json.dumps(names)})
    write_whole(path, lambda beside: beside.write_bytes(data))
