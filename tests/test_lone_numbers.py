"""Numbers that stand alone on a line in the training text, as of pages and poems, are not written by small models."""

from __future__ import annotations

import re

import pytest

from epigone.generation.lone_numbers import LONE, LoneNumberGuard, Numbering, find_numbering
from epigone.run import open_generator
from epigone.settings import WriteSettings
from helpers_front import shared_run, sonnets

PIECES = [b"\n", b"1", b"2", b" ", b"I", b"II", b"X", b".", b" love", b"Love", b"\xc3", b"\xa9", b"12\n", b"me\n3"]
BOTH = Numbering(arabic=True, roman=True)


def forbidden(text: list[bytes], numbering: Numbering = BOTH, prompt: str = "") -> set[bytes]:
    guard = LoneNumberGuard(numbering, PIECES, prompt)
    for piece in text:
        guard.advance(PIECES.index(piece))
    return {piece for token, piece in enumerate(PIECES) if guard.forbids(token)}


def test_no_line_begins_with_a_number_that_would_stand_alone() -> None:
    assert forbidden([]) == forbidden([b"\n"]) == forbidden([b" "]) == {b"1", b"2", b"II", b"12\n", b"me\n3"}
    assert forbidden([b"\n"], Numbering(arabic=False, roman=True)) == {b"II"}
    assert forbidden([b"\n"], Numbering(arabic=False, roman=False)) == set()


def test_i_is_a_word_and_may_begin_a_line_but_not_be_all_of_it() -> None:
    assert b"I" not in forbidden([b"\n"])
    assert {b"\n", b"X", b"II"} <= forbidden([b"\n", b"I"]) and b" love" not in forbidden([b"\n", b"I"])
    assert b"\n" in forbidden([b"\n", b"I", b"."])


def test_numbers_within_a_line_and_after_a_prompt_s_own_may_be_written() -> None:
    assert forbidden([b"Love", b" "]) == {b"me\n3"}
    assert forbidden([], prompt="XII") == {b"me\n3"} == forbidden([b"\xc3", b"\xa9"])
    assert b"1" in forbidden([b"\n"], prompt="XII")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\n\nA line.\n\n2\n\nA line.\n" * 3, Numbering(arabic=True, roman=False)),
        ("I\n\nA line.\n\n  XIV.\n\nA line.\n" * 3, Numbering(arabic=False, roman=True)),
        ("1\n\nA line.\n" * 4, Numbering(arabic=False, roman=False)),
        ("1\n" * 5 + "3 apples\n" * 6, Numbering(arabic=False, roman=False)),
        ("Mix it.\nCIVIL\nI.e. this\nI, too.\n" * 9, Numbering(arabic=False, roman=False)),
    ],
)
def test_the_author_s_text_shows_which_numbers_stand_alone(text: str, expected: Numbering) -> None:
    assert find_numbering([text]) == expected


def test_sonnets_are_written_without_their_numbers() -> None:
    generator = open_generator(shared_run().path)
    assert find_numbering([sonnets(9_000)]).arabic
    settings = WriteSettings(length=300, count=8, temperature=1.2, stop_at="anywhere")

    def count(words: str) -> int:
        texts = generator.write("\n", settings.model_copy(update={"words": words}))
        texts = [text.rpartition("\n")[0] for text in texts]  # the last line is cut off
        return sum(len(LONE.findall(text)) + len(re.findall(r"^\d", text, re.M)) for text in texts)

    assert count("any") > 0, "the negative control: this model writes numbers"
    assert count("known") == 0
