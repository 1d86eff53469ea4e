"""Texts in which passages recur, and the plainest ways to normalise and compare them, to hold the others against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st

import epigone
from epigone.pipeline import Run
from epigone.text_reuse import copy_guard, matches
from epigone.text_reuse import hashing as hashing_module
from helpers_front import make_once, sonnets

LETTERS = "aabbAs\u00dfS\u0130i\u0307\u017f\u00e9\u6f22\U0001f98a \n\t\u00a0"
"""Few, so that passages recur: with cases, foldings that are longer, a combining dot, emoji, kinds of white space."""
texts = st.text(st.sampled_from(LETTERS), max_size=24)
documents = st.lists(texts, max_size=4)
sizes = st.integers(1, 6)
SECRET = "No other writer may repeat these words, neither soon nor late."


def normalise_slowly(text: str) -> str:
    normalised = ""
    for character in text:
        if not character.isspace():
            normalised += character.casefold()
        elif not normalised.endswith(" "):
            normalised += " "
    return normalised


def list_windows(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(len(text) - size + 1)]


def stands_in(window: str, written: Sequence[str]) -> bool:
    return any(window in normalise_slowly(document) for document in written)


@pytest.fixture(params=["hashes", "collisions", "blocks"])
def hashing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hashes as they are; such that nearly all windows have the same; and all in blocks of a few characters."""
    if request.param == "collisions":
        monkeypatch.setattr(hashing_module, "BASE", 1)
        monkeypatch.setattr(copy_guard, "BASE", 1)
    if request.param == "blocks":
        monkeypatch.setattr(hashing_module, "WINDOWS_AT_ONCE", 3)
        monkeypatch.setattr(hashing_module, "BLOCK_CHARACTERS", 4)
        monkeypatch.setattr(matches, "BLOCK_CHARACTERS", 4)
        monkeypatch.setattr(matches, "HELD_CHARACTERS", 5)
    yield


@cache
def parrot(n_characters: int = 3_000, size: str = "1x128", epochs: float = 30.0, block_size: int = 64) -> Run:
    """A run that has memorized the beginning of the sonnets, by default 3 KB."""

    def train(place: Path) -> None:
        text = place / f"by-heart-{n_characters}.txt"
        place.mkdir()
        text.write_text(sonnets(n_characters), "utf-8")
        how = {"size": size, "epochs": epochs, "dropout": 0.0, "patience": "none", "samples": 0}
        more = {"evaluate_every": 200, "validation": str(text), "batch_size": block_size // 16, "base": "none"}
        more |= {"block_size": block_size, "precision": "fp32", "compile": "off"}
        epigone.train(text, out=place / "run", **how, **more)

    name = f"parrot-{n_characters}-{size}-{epochs}-{block_size}"
    return epigone.open_run(make_once(name, train) / "run")
