"""Books and invented languages for the tests of style."""

from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path

import pytest

from epigone.evaluation.style import Texts, judge_style
from epigone.evaluation.verdict import Verdict

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
BOOKS = DATA / "gutenberg"
needs_data = pytest.mark.skipif(not BOOKS.is_dir(), reason="no texts at EPIGONE_TEST_DATA")
LIBRARY = Path(os.environ.get("EPIGONE_LIBRARY", DATA / "library"))
needs_library = pytest.mark.skipif(not LIBRARY.is_dir(), reason="no unpacked library at EPIGONE_LIBRARY")


@cache
def read_book(name: str) -> str:
    return (BOOKS / f"{name}.txt").read_text("utf-8-sig")


def judge(text: str, book: str, others: Texts | None = None) -> Verdict:
    """Judge a text against a book whose last tenth is held out."""
    own = read_book(book)
    edge = len(own) * 9 // 10
    return judge_style(text, [own[:edge]], own[edge:], others)


def write_invented(seed: int, n_characters: int) -> str:
    """Sentences in an invented language without spaces: six frames of five kinds of words."""
    source = random.Random(seed)
    letters = [chr(0x4E00 + place) for place in source.sample(range(3000), 800)]
    words = [["".join(source.choices(letters[:400], k=source.randint(1, 2))) for _ in range(120)] for _ in range(5)]
    frames = [source.sample(range(5), 5) for _ in range(6)]
    odds = [1 / place for place in range(1, 121)]
    text = ""
    while len(text) < n_characters:
        frame = source.choice(frames)
        halves = ("".join(source.choices(words[kind], odds)[0] for kind in frame) for _ in range(2))
        text += "\uff0c".join(halves) + "\u3002"
    return text
