"""Prose that is wrapped at a width is told from verse, and what a text is made of decides where a written one ends."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from epigone.corpus.line_layout import find_unit, find_wrap_width
from epigone.pipeline import plan
from helpers_front import shared_run, sonnets

PROSE = " ".join(
    f"Sentence {number} of this text has {'some ' * (number % 7)}words, and then it ends." for number in range(90)
)
DATA = Path(__file__).resolve().parents[2] / "shared/data"


def wrap(width: int, *, n_paragraphs: int = 9, indent: str = "") -> str:
    size = len(PROSE) // n_paragraphs
    parts = (PROSE[start : start + size] for start in range(0, len(PROSE), size))
    blank = "\n" if indent else "\n\n"
    return blank.join(textwrap.fill(part.strip(), width, initial_indent=indent) for part in parts)


@pytest.mark.parametrize("width", [50, 72, 80])
@pytest.mark.parametrize("indent", ["", "    "])
def test_the_width_of_wrapped_prose_is_found(width: int, indent: str) -> None:
    found = find_wrap_width(wrap(width, indent=indent))
    assert found is not None and width - 3 <= found <= width


def test_verse_long_lines_and_short_texts_are_not_wrapped() -> None:
    for text in (sonnets(90_000), PROSE, PROSE.replace(". ", ".\n"), wrap(72)[:300], "", "\n\n \n"):
        assert find_wrap_width(text) is None


def test_prose_is_made_of_sentences_and_verse_of_lines() -> None:
    assert find_unit(PROSE) == find_unit(wrap(72)) == find_unit(PROSE.replace(". ", ".\n\n")) == "sentence"
    assert find_unit(sonnets(90_000)) == "line"
    assert find_unit("10:02 <ann> no idea\n10:03 <bob> me neither\n" * 40) == "line"


def test_the_plan_says_where_a_text_ends(tmp_path: Path) -> None:
    for text, end in ((sonnets(20_000), "line"), (wrap(72), "sentence")):
        (tmp_path / "text.txt").write_text(text)
        assert plan(tmp_path / "text.txt", base="none", size="1x32", samples=0).plan.stop_at == end


def test_a_written_text_ends_where_the_author_s_lines_do() -> None:
    text = shared_run().write("", length=20, seed=3)[0]
    assert not text.endswith("\n") and len(text) > 20
    longer = shared_run().write("", length=len(text) + 40, unit="characters", stop_at="anywhere", seed=3)[0]
    assert longer.startswith(text) and longer[len(text)] == "\n"


@pytest.mark.skipif(not DATA.exists(), reason="the texts that people bring are not here")
def test_texts_that_people_bring_are_told_apart() -> None:
    texts = {path.name: path.read_text("utf-8") for path in DATA.rglob("*.txt") if path.name in WRAPPED | MADE_OF_LINES}
    found = {name: (find_wrap_width(text), find_unit(text)) for name, text in texts.items()}
    assert {name for name, (width, _) in found.items() if width} == WRAPPED
    assert {name for name, (_, unit) in found.items() if unit == "line"} == MADE_OF_LINES


WRAPPED = {"ibsen-drama.txt", "nesbit-novel.txt", "thoreau-letters.txt", "wilde-drama.txt", "wilde-novel.txt"}
WRAPPED |= {"russian_bulgakov.txt"}
MADE_OF_LINES = {"tinyshakespeare.txt", "sonnets-check.txt", "wilde-verse.txt", "irc_rust.txt"}
