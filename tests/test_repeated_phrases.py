"""No phrase comes again and again, unless the author does so."""

from __future__ import annotations

import re

from epigone.generation.repeated_phrases import (
    FEWEST,
    UNKNOWN,
    WINDOW,
    RepeatedPhraseGuard,
    Repetition,
    find_repetition,
)

PIECES = [b"our", b" our", b" lead", b"ers", b" leaders", b" leader", b",", b"\n", b" and", b" other", b" 1", b"\xc3"]
TWICE = Repetition((2, 1), {})
LEADERS = {b" leaders", b" leader"}
"""A plural is not another word."""


def follow(text: list[bytes], repetition: Repetition = TWICE, prompt: str = "") -> set[bytes]:
    """The pieces that are forbidden behind these."""
    guard = RepeatedPhraseGuard(repetition, PIECES, prompt)
    for piece in text:
        guard.advance(PIECES.index(piece))
    return {piece for token, piece in enumerate(PIECES) if guard.forbids(token)}


def test_a_phrase_comes_no_oftener_than_it_may() -> None:
    leaders = [b" our", b" leaders", b" and"]
    assert follow([*leaders * 2, b" our"]) == set(), "it stood twice before"
    assert follow([*leaders * 3, b" our"]) == LEADERS
    assert follow([*leaders * 3, b" our", b" lead"]) == {b"ers"}


def test_a_phrase_of_three_words_is_counted_too() -> None:
    phrase, once = [b" our", b" other"], Repetition((9, 1), {})
    assert follow([*phrase, b" leaders", b" and", *phrase], once) == set()
    assert follow([*phrase, b" leaders", b" and"] * 2 + phrase, once) == LEADERS


def test_punctuation_and_lines_between_words_do_not_count() -> None:
    assert follow([b" our", b",", b"\n", b" leaders", b" and", b" other"] * 3 + [b" our", b",", b"\n"]) == LEADERS


def test_what_lies_far_back_is_forgotten() -> None:
    far = [b" other", b",", b" and", b" 1"] * (WINDOW // 2)
    assert follow([b" our", b" leaders"] * 3 + [*far, b" our"], Repetition((2, 99), {})) == set()


def test_the_prompt_counts_and_may_end_within_a_word() -> None:
    prompt = "Our leaders, our leaders and our leaders, our"
    assert follow([], prompt=prompt) == LEADERS
    assert follow([], prompt=prompt + " lead") == {b"ers"}
    assert follow([], prompt=prompt + " ") == LEADERS


def test_the_author_may_repeat_a_phrase_of_their_own() -> None:
    own = Repetition((2, 1), {("our", "leader"): 9})
    assert follow([b" our", b" leaders", b" and"] * 3 + [b" our"], own) == LEADERS, "and our leaders"
    assert follow([b" our", b" leaders", b","] * 3 + [b" our"], Repetition((2, 9), own.own)) == set()


def make_text(n_words: int) -> str:
    """Words of letters, none of them twice."""
    numbers = [f"{number:05d}" for number in range(n_words)]
    return " ".join("x" + "".join(chr(97 + int(digit)) for digit in number) for number in numbers)


def test_how_often_comes_from_the_authors_text() -> None:
    plain = make_text(4 * FEWEST)
    assert find_repetition([plain]) == Repetition((1, 1), {})
    refrain = plain + " sing on" * 6
    found = find_repetition([refrain])
    assert found.most[0] < 5 and found.own[("sing", "on")] == 5
    often = re.sub(r"((?:\w+ ){9}\w+)", r"\1 of the sea", plain)
    assert find_repetition([often]).most == (7, 7), "one in thirteen words begins it; a window of 100 holds seven more"


def test_a_short_text_does_not_say_how_often() -> None:
    assert find_repetition([make_text(FEWEST - 1)]) == UNKNOWN
    assert follow([b" our", b" leaders"] * 20 + [b" our"], UNKNOWN) == set()
