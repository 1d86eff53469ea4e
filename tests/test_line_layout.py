"""Prose that is wrapped at a width is told from verse, and what a text is made of decides where a written one ends."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from epigone.cli.terminal import WordWrapper
from epigone.corpus.corpus import Corpus, read_corpus, unwrap_corpus
from epigone.corpus.line_layout import LineJoiner, Wrapping, find_unit, find_wrap_width
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


# -- joining


def join(text: str, width: int = 72, *, size: int | None = None) -> str:
    pieces = [text[start : start + size] for start in range(0, len(text), size)] if size else [text]
    return "".join(LineJoiner(Wrapping(width, is_padded=False)).join(pieces))


@pytest.mark.parametrize("width", [50, 72, 80])
@pytest.mark.parametrize("indent", ["", "    "])
@pytest.mark.parametrize("size", [1, 7, 1000, None])
def test_wrapped_paragraphs_are_joined_however_the_text_is_divided(width: int, indent: str, size: int | None) -> None:
    text = wrap(width, indent=indent)
    found = join(text, width, size=size)
    assert found.split() == text.split()
    assert [line for line in found.split("\n") if line] == [indent + part for part in PARAGRAPHS]


def paragraphs() -> list[str]:
    size = len(PROSE) // 9
    return [PROSE[start : start + size].strip() for start in range(0, len(PROSE), size)]


PARAGRAPHS = paragraphs()
FULL = "This line of prose is so long that no other word of any size fits in it"
"""71 characters."""


@pytest.mark.parametrize(
    "following",
    [
        "- an item of a list",
        "* another kind of item, with a star",
        "12. a numbered item of a list",
        "| a row | of a table |",
        "## A heading",
        "-----------------------------",
        "```",
        "a column      and another column",
        "    an indented line, which begins a paragraph",
        "",
    ],
)
def test_what_stands_on_a_line_of_its_own_is_not_joined(following: str) -> None:
    assert join(f"{FULL}\n{following}\nand more") == f"{FULL}\n{following}\nand more"


def test_program_text_is_not_joined() -> None:
    code = "    let the_value = compute_the_value(first_argument, second_argument, 3);\n    let other = the_value + 1;"
    assert join(code) == code
    assert join(f"```\n{FULL}\nnext\n```\n{FULL}\nnext") == f"```\n{FULL}\nnext\n```\n{FULL} next"


def test_joints_are_as_the_author_would_write_them() -> None:
    start = FULL[:-3]
    assert join(f"{start} a-\nb") == f"{start} a-b"
    assert join(f"{start} a\N{EM DASH}\nb") == f"{start} a\N{EM DASH}b"
    assert join(f"{FULL}  \nand") == f"{FULL} and"


def test_short_lines_stay() -> None:
    text = "It is short.\nSo is this one,\nand this.\n"
    assert join(text) == text and join(sonnets(20_000), 60).count("\n") >= 0.97 * sonnets(20_000).count("\n")


def test_lines_that_were_padded_lose_their_padding() -> None:
    joiner = LineJoiner(Wrapping(72, is_padded=True))
    padded = FULL.replace(" so ", "   so ").replace("long that", "long  that").replace(" any size", "")
    assert (
        "".join(joiner.join([f"    {padded}\nand  goes  on here"]))
        == f"    {' '.join(padded.split())} and goes on here"
    )


def corpus_of(tmp_path: Path, **texts: str) -> Corpus:
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text, "utf-8")
    return read_corpus([str(tmp_path)])


def test_joined_lines_are_counted_in_the_receipt(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, prose=wrap(72), verse=sonnets(5_000))
    prose, verse = unwrap_corpus(corpus, "auto").documents
    assert verse == corpus.documents[1]
    receipt, before = prose.receipt, corpus.documents[0].receipt
    assert receipt.n_lines_joined == wrap(72).count("\n") - str(prose.text).count("\n") > 50
    assert receipt.n_lines == before.n_lines - receipt.n_lines_joined
    assert receipt.n_characters == len(prose.text) == receipt.n_bytes_utf8 and receipt.longest_line > 72
    assert receipt.wrap_width is not None and (receipt.sha256, receipt.n_bytes) == (before.sha256, before.n_bytes)


def test_a_short_file_is_joined_as_the_others_are(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, a=wrap(72), b=wrap(72)[:400], c=sonnets(400))
    found = unwrap_corpus(corpus, "auto").documents
    assert [document.receipt.n_lines_joined > 0 for document in found] == [True, True, False]


def test_unwrapping_can_be_turned_off_and_forced(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, mixed=f"{sonnets(9_000)}\n\n{wrap(72)[:1_500]}")
    assert unwrap_corpus(corpus, "no") is corpus and unwrap_corpus(corpus, "auto") is corpus
    (found,) = unwrap_corpus(corpus, "yes").documents
    assert 12 <= found.receipt.n_lines_joined <= 25


def test_a_text_on_disk_is_joined_as_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path, prose="\n\n".join([wrap(72)] * 3))
    expected = unwrap_corpus(corpus, "auto")
    monkeypatch.setattr("epigone.corpus.large_text.HELD_CHARACTERS", 1_000)
    on_disk = unwrap_corpus(read_corpus([str(tmp_path)]), "auto")
    assert not isinstance(on_disk.documents[0].text, str)
    assert (on_disk.fingerprint, on_disk.documents[0].receipt) == (expected.fingerprint, expected.documents[0].receipt)


def test_the_plan_learns_whole_paragraphs_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(wrap(72))
    found = plan(tmp_path / "text.txt", base="none", size="1x32", samples=0)
    assert found.corpus.documents[0].receipt.longest_line > 400
    assert "wrapped lines were joined" in found.plan.reasons["unwrap"] and found.plan.stop_at == "sentence"
    kept = plan(tmp_path / "text.txt", base="none", size="1x32", samples=0, unwrap="no")
    assert kept.corpus.documents[0].receipt.n_lines_joined == 0 and "unwrap" not in kept.plan.reasons


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_words_are_wrapped_on_a_terminal(size: int) -> None:
    text = f"{PROSE[:500]}\n\n  Indented, {'x' * 90}.\n"
    shown = "".join(WordWrapper(40).wrap(text[start : start + size] for start in range(0, len(text), size)))
    assert shown.split() == text.split() and shown.count("\n\n") == 1 and shown.endswith(".\n")
    assert all(len(line) <= 40 for line in shown.split("\n") if "x" not in line)
    assert "".join(WordWrapper(9_999).wrap([text])) == text
