"""Normalising ignores case and white space, and every character can be located in the original text."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigone.text_reuse import hashing
from epigone.text_reuse.hashing import locate_characters, locate_in_block, normalise, normalise_blocks
from helpers_copies import normalise_slowly, texts


@pytest.mark.parametrize("n_codes", [128, sys.maxunicode + 1])
def test_every_character_is_case_folded_and_every_white_space_is_a_space(n_codes: int) -> None:
    characters = [chr(code) for code in range(n_codes)]
    expected = "x".join(" " if character.isspace() else character.casefold() for character in characters)
    assert normalise("x".join(characters)) == expected


@given(texts)
def test_runs_of_white_space_are_one_space(text: str) -> None:
    assert normalise(text) == normalise_slowly(text)


@given(texts, texts)
def test_more_text_does_not_change_what_was_normalised(text: str, more: str) -> None:
    assert normalise(text + more).startswith(normalise(text))


@given(texts)
def test_every_normalised_character_is_located_in_the_text(text: str) -> None:
    origins = locate_characters(text).tolist()
    normalised = normalise(text)
    assert len(origins) == len(normalised) and origins == sorted(origins)
    for origin, character in zip(origins, normalised, strict=True):
        assert character in normalise(text[origin])
    skipped = set(range(len(text))) - set(origins)
    assert all(text[place].isspace() and text[place - 1].isspace() for place in skipped)


def test_a_character_that_folds_to_two_is_located_twice() -> None:
    assert normalise("a\u00df \n\u0130b") == "ass i\u0307b"
    assert locate_characters("a\u00df \n\u0130b").tolist() == [0, 1, 1, 2, 4, 4, 5]


@given(texts, st.integers(1, 5))
def test_a_text_in_blocks_is_the_same_text(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "BLOCK_CHARACTERS", size)
        blocks = list(normalise_blocks(text))
        assert "".join(blocks) == normalise_slowly(text)
        places = [(number * size, place) for number, block in enumerate(blocks) for place in range(len(block))]
        located = [locate_in_block(text, origin, place) for origin, place in places]
    assert located == locate_characters(text).tolist()
