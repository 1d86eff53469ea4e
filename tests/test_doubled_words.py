"""No word is written twice in a row, unless the author does so with that word."""

from __future__ import annotations

import pytest

from epigone.generation.doubled_words import FEWEST, DoubledWordGuard, Doubling, find_doubling

PIECES = [b"the", b" the", b" The", b" ca", b"t", b" cat", b" ", b".", b"\n", b"n", b" caf\xc3\xa9", b" 1", b"\xc3"]


def follow(text: list[bytes], words: frozenset[str] = frozenset(), prompt: str = "") -> set[bytes]:
    """The pieces that are forbidden behind these."""
    guard = DoubledWordGuard(Doubling(True, words), PIECES, prompt)
    for piece in text:
        guard.advance(PIECES.index(piece))
    return {piece for token, piece in enumerate(PIECES) if guard.forbids(token)}


def test_the_last_word_does_not_follow_whatever_its_case_and_pieces() -> None:
    assert follow([b"the"]) == {b" the", b" The"}
    assert follow([b" cat", b" ca"]) == {b"t", b" ca"}
    assert follow([b" ca", b"t"]) == {b" cat"}
    assert follow([b"the", b" "]) == {b"the"}
    assert follow([b" caf\xc3\xa9"]) == {b" caf\xc3\xa9"}


@pytest.mark.parametrize("between", [b".", b"\n", b" 1", b"\xc3"])
def test_a_word_may_follow_itself_behind_anything_but_a_space(between: bytes) -> None:
    assert follow([b"the", between]) == set()


def test_part_of_a_word_is_not_that_word() -> None:
    assert follow([b"the", b"n"]) == set(), "then the"


def test_what_the_author_or_the_prompt_doubles_may_be_doubled() -> None:
    assert follow([b"the"], frozenset({"the"})) == set()
    assert follow([b" the"], prompt="The the") == set()
    assert follow([], prompt="in the") == {b" the", b" The"}
    assert follow([], prompt="the ca") == {b" ca"} and follow([], prompt="cat ca") == {b"t", b" ca"}


def test_the_author_says_which_words_are_doubled() -> None:
    text = "He had had it. Nous nous en allons; that. That then the theatre. "
    assert find_doubling([text]).words == {"had", "nous"}
    assert not find_doubling([text]).is_known
    assert find_doubling([text * FEWEST]).is_known
