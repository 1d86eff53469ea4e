"""Stop conditions: a text ends at its length, before a stop string, or with a sentence, line, paragraph or speech."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from epigone.generation.stopping import LONGER, StopDetector, count_most_tokens
from epigone.settings import WriteSettings

PROSE = 'Mr. A. Smith came in. "Who is there?" he cried. Nobody spoke… Then a door fell shut!\nA new line.\n\nThe end.'
PLAY = "ROMEO:\nIs the day so young?\nBut new.\n\nBENVOLIO:\nBut new struck nine.\nROMEO: Ay me!\nSad hours.\n"


def take(text: str, n_bytes: int = 3, **how: Any) -> tuple[str, list[str], StopDetector]:
    """What a detector gives of a text that comes in tokens of so many bytes: joined, in pieces, and the detector."""
    detector, raw = StopDetector(WriteSettings(**how)), text.encode()
    pieces = [detector.take(raw[start : start + n_bytes]) for start in range(0, len(raw), n_bytes)]
    pieces.append(detector.finish())
    return "".join(pieces), pieces, detector


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 7, 50])
@pytest.mark.parametrize(
    ("text", "how", "kept"),
    [
        (PROSE, {"stop_at": "sentence", "length": 1}, "Mr. A. Smith came in."),
        (PROSE, {"stop_at": "sentence", "length": 21}, "Mr. A. Smith came in."),
        (PROSE, {"stop_at": "sentence", "length": 22}, 'Mr. A. Smith came in. "Who is there?"'),
        (PROSE, {"stop_at": "sentence", "length": 40}, 'Mr. A. Smith came in. "Who is there?" he cried.'),
        (PROSE, {"stop_at": "line", "length": 60}, PROSE[: PROSE.index("\n")]),
        (PROSE, {"stop_at": "paragraph", "length": 60}, PROSE[: PROSE.index("\n\n")]),
        (PLAY, {"stop_at": "speech", "length": 30}, PLAY[: PLAY.index("\n\n")]),
        (PLAY, {"stop_at": "speech", "length": 50}, PLAY[: PLAY.index("\nROMEO: Ay")]),
        ("行きます。はい。さようなら。", {"stop_at": "sentence", "length": 6}, "行きます。はい。"),
        ("one two three four", {"unit": "words", "length": 3}, "one two three"),
        ("one  two\nthree four", {"unit": "words", "length": 2}, "one  two"),
        ("Größe 🦊 ok", {"unit": "characters", "length": 7}, "Größe 🦊"),
    ],
)
def test_a_text_ends_where_it_should(text: str, how: dict[str, Any], kept: str, n_bytes: int) -> None:
    written, _, detector = take(text, n_bytes, **{"unit": "characters"} | how)
    assert (written, detector.stopped) == (kept, True)


@pytest.mark.parametrize("end", ["sentence", "line", "paragraph", "speech"])
def test_a_text_without_an_end_is_cut(end: str) -> None:
    written, _, detector = take("word " * 100, 5, stop_at=end, length=100, unit="characters")
    assert detector.stopped and 100 <= len(written) <= LONGER * 100 + 205


def test_without_a_wish_it_has_exactly_its_tokens() -> None:
    written, pieces, detector = take("abc" * 30, 3, length=7)
    assert written == "abc" * 7 and detector.stopped and len([piece for piece in pieces if piece]) == 7


def test_where_the_model_ends_a_text_it_ends() -> None:
    detector = StopDetector(WriteSettings(stop_at="document", length=50))
    assert [detector.take(b"ab"), detector.take(b"c"), detector.take(b"", last=True), detector.take(b"d")] == [
        "ab",
        "c",
        "",
        "",
    ]
    assert detector.stopped


def test_nothing_that_might_begin_a_stop_string_is_shown_before_it_is_sure() -> None:
    _, pieces, _ = take("one STOX two STOP three", 1, length=100, stop=("STOP",))
    assert "".join(pieces) == "one STOX two "
    shown = ""
    for piece in pieces:
        shown += piece
        assert not shown.endswith(("S", "ST", "STO")) or shown.endswith("STOX")


WISHES = st.fixed_dictionaries(
    {"length": st.integers(1, 60)},
    optional={
        "unit": st.sampled_from(["tokens", "words", "characters"]),
        "stop_at": st.sampled_from(["anywhere", "sentence", "line", "paragraph", "speech", "document"]),
        "stop": st.lists(st.text(min_size=1, max_size=4), max_size=2).map(tuple),
    },
)


@given(st.text(max_size=120), st.integers(1, 9), WISHES)
@hypothesis_settings(max_examples=300, deadline=None)
def test_whatever_comes_and_is_asked_a_beginning_of_the_text_is_written(
    text: str, n_bytes: int, how: dict[str, Any]
) -> None:
    written, _, detector = take(text, n_bytes, **how)
    assert text.startswith(written)
    assert detector.stopped or written == text
    for stop in how.get("stop", ()):
        assert stop not in written


@given(st.text(max_size=60), st.text(min_size=1, max_size=4), st.text(max_size=60), st.integers(1, 9))
def test_a_stop_string_ends_the_text_at_its_first_place(before: str, stop: str, after: str, n_bytes: int) -> None:
    text = before + stop + after
    written, _, detector = take(text, n_bytes, length=1_000, stop=(stop,))
    assert detector.stopped and written == text[: text.index(stop)]


@given(WISHES, st.sampled_from([b"ab ", b"a. ", b"\n\n", b"word"]))
def test_a_text_of_any_length_has_ended_by_the_most_tokens_that_are_counted(how: dict[str, Any], token: bytes) -> None:
    settings = WriteSettings(**how | {"stop": ()})
    detector = StopDetector(settings)
    for _ in range(count_most_tokens(settings)):
        detector.take(token)
    if settings.unit == "words" and token in (b"\n\n", b"word"):
        assert not detector.stopped, "the control: without the end of a word there is no length in words"
    else:
        assert detector.stopped
