"""What is called copied stands in the text that was learned from, and nothing else is; a guard lets none through."""

from __future__ import annotations

import codecs
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epigone.writing import copying
from epigone.writing.copying import (
    CopyGuard,
    CopyIndex,
    Shared,
    find_longest_shared,
    locate_characters,
    measure_copied,
    normalise,
)
from helpers_front import sonnets

LETTERS = "aabbAs\u00dfS\u0130i\u0307\u017f\u00e9\u6f22\U0001f98a \n\t\u00a0"
"""Few, so that passages recur: with cases, foldings that are longer, a combining dot, emoji, kinds of white space."""
texts = st.text(st.sampled_from(LETTERS), max_size=24)
documents = st.lists(texts, max_size=4)
sizes = st.integers(1, 6)
SECRET = "Nobody may say these words again, neither soon nor late."


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


def decode(data: bytes) -> str:
    """All characters that are complete."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


@pytest.fixture(params=["hashes", "collisions", "blocks"])
def hashing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hashes as they are; such that nearly all windows have the same; and in blocks of three windows."""
    if request.param == "collisions":
        monkeypatch.setattr(copying, "BASE", 1)
    if request.param == "blocks":
        monkeypatch.setattr(copying, "WINDOWS_AT_ONCE", 3)
    yield


# -- normalising


def test_every_character_is_folded_and_every_white_space_is_a_space() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    expected = "x".join(" " if character.isspace() else character.casefold() for character in characters)
    assert normalise("x".join(characters)) == expected


@given(texts)
def test_runs_of_white_space_are_one_space(text: str) -> None:
    assert normalise(text) == normalise_slowly(text)


@given(texts, texts)
def test_what_is_normalised_stays_when_more_follows(text: str, more: str) -> None:
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


# -- the index


@pytest.mark.usefixtures("hashing")
@settings(deadline=None)
@given(documents, texts, st.integers(0, 5))
def test_the_index_knows_the_windows_of_the_documents_and_no_others(
    written: list[str], text: str, n_characters: int
) -> None:
    index = CopyIndex(written, n_characters)
    known = [window for document in written for window in list_windows(normalise_slowly(document), index.size)]
    assert all(index.contains(window) for window in known)
    for window in list_windows(normalise_slowly(text), index.size):
        assert index.contains(window) == (window in known)


def test_no_window_goes_over_two_documents() -> None:
    index = CopyIndex(["one two", "three"], 4)
    assert index.contains("e two") and index.contains("three")
    assert not index.contains("twoth") and not index.contains("wo th") and not index.contains("wo\nth")


def test_one_text_is_one_document() -> None:
    assert CopyIndex("one two", 4).contains("e two")
    assert find_longest_shared("e two", "one two") == find_longest_shared("e two", ["one two"])


def test_a_window_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="5 characters; this one has 3"):
        CopyIndex(["one two"], 4).contains("one")
    with pytest.raises(ValueError, match="-1"):
        CopyIndex(["one two"], -1)


def test_a_real_text_is_known_throughout() -> None:
    text = normalise(sonnets(20_000))
    index = CopyIndex([sonnets(20_000)], 30)
    assert all(index.contains(window) for window in list_windows(text, 31)[::50])
    assert not any(index.contains(window) for window in list_windows(text[::-1], 31)[::50])


# -- the guard


def forbids_slowly(said: bytes, token: bytes, written: Sequence[str], n_characters: int) -> bool:
    before, after = (normalise_slowly(decode(data)) for data in (said, said + token))
    ends = range(max(len(before), n_characters) + 1, len(after) + 1)
    return any(stands_in(after[end - n_characters - 1 : end], written) for end in ends)


pieces = st.one_of(texts.map(str.encode), st.binary(max_size=3), st.sampled_from(["\U0001f98a".encode()[:2], b"\xa4"]))


@pytest.mark.usefixtures("hashing")
@settings(deadline=None)
@given(documents, st.lists(pieces, min_size=1, max_size=6), st.integers(0, 5), st.data())
def test_the_guard_forbids_what_completes_a_copy_and_nothing_else(
    written: list[str], vocabulary: list[bytes], n_characters: int, data: st.DataObject
) -> None:
    """The tokens that are taken may be forbidden ones: the guard goes on knowing."""
    guard, said = CopyGuard(CopyIndex(written, n_characters), vocabulary), b""
    for taken in data.draw(st.lists(st.integers(0, len(vocabulary) - 1), max_size=5)):
        for token, piece in enumerate(vocabulary):
            assert guard.forbids(token) == forbids_slowly(said, piece, written, n_characters)
        guard.take(taken)
        said += vocabulary[taken]


@settings(deadline=None)
@given(texts, st.lists(st.integers(0, 80), max_size=12), st.integers(1, 5))
def test_however_a_copy_is_cut_into_tokens_its_first_window_is_its_last(
    text: str, cuts: list[int], n_characters: int
) -> None:
    data = text.encode()
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    tokens = [data[start:end] for start, end in pairwise(edges)]
    guard = CopyGuard(CopyIndex([text], n_characters), tokens)
    for token in range(len(tokens)):
        n_said = len(normalise_slowly(decode(data[: edges[token + 1]])))
        n_before = len(normalise_slowly(decode(data[: edges[token]])))
        assert guard.forbids(token) == (n_said > max(n_characters, n_before))
        guard.take(token)


def test_white_space_over_several_tokens_is_one_space() -> None:
    tokens = [b"one", b" ", b"\n", b"\t two", b"\t two ", b"x"]
    guard = CopyGuard(CopyIndex(["one two three"], 7), tokens)
    for token in (0, 1, 2):
        assert not guard.forbids(token)
        guard.take(token)
    assert not guard.forbids(3), "seven characters are allowed"
    assert guard.forbids(4) and not guard.forbids(5)
    guard.take(3)
    assert guard.forbids(1) and guard.forbids(2)
    guard.take(5)
    assert not guard.forbids(1)


def test_the_token_that_completes_a_character_is_the_forbidden_one() -> None:
    fox = "\U0001f98a".encode()
    guard = CopyGuard(CopyIndex(["red \U0001f98a"], 4), [b"RED ", fox[:2], fox[2:], b"x"])
    for token in (0, 1):
        assert not guard.forbids(token)
        guard.take(token)
    assert guard.forbids(2) and not guard.forbids(3)


def write_as_a_copier(guard: CopyGuard | None, tokens: Sequence[bytes], chance: random.Random) -> str:
    """A text whose source goes on in the secret wherever it may, in any case and with white space put in."""
    said, place = b"", 0
    for _ in range(400):
        wanted = [token for token, piece in enumerate(tokens) if SECRET.encode().startswith(piece.lower(), place)]
        token = chance.choice(wanted or range(len(tokens)))
        for _ in range(1_000):
            if guard is None or not guard.forbids(token):
                break
            token = chance.randrange(len(tokens))
        else:
            pytest.fail("nothing is allowed")
        if guard is not None:
            guard.take(token)
        said += tokens[token]
        place = (place + len(tokens[token])) % len(SECRET) if token in wanted else chance.randrange(len(SECRET))
    return decode(said)


@pytest.mark.parametrize("n_characters", [1, 3, 10, 30])
def test_a_guarded_copier_never_copies_too_far(n_characters: int) -> None:
    chance = random.Random(n_characters)
    parts = [SECRET[start : start + chance.randint(1, 5)] for start in range(len(SECRET))]
    tokens = [part.encode() for part in {*parts, *(part.upper() for part in parts)}] + [b" ", b"\n", b"\n ", b"?"]
    tokens += ["\u00fc".encode(), "\u00fc".encode()[:1], "\u00fc".encode()[1:]]
    guarded = write_as_a_copier(CopyGuard(CopyIndex([SECRET], n_characters), tokens), tokens, chance)
    found = find_longest_shared(guarded, [SECRET])
    assert found is not None and found.n_characters == n_characters, "what is allowed is used"
    free = find_longest_shared(write_as_a_copier(None, tokens, chance), [SECRET])
    assert free is not None and free.n_characters > 30


# -- the longest passage


def find_slowly(text: str, written: Sequence[str]) -> tuple[int, int, int] | None:
    """The size of the longest passage, the first document that has it, and how far into it normalised."""
    text = normalise_slowly(text)
    for size in range(len(text), 0, -1):
        windows = list_windows(text, size)
        for number, document in enumerate(map(normalise_slowly, written)):
            places = [document.find(window) for window in windows if window in document]
            if places:
                return size, number, min(places)
    return None


def check_shared(shared: Shared, text: str, written: Sequence[str]) -> None:
    document = written[shared.document]
    assert shared.passage in text
    assert document[shared.offset :].startswith(shared.original)
    ours, theirs = normalise_slowly(shared.passage), normalise_slowly(shared.original)
    assert any(window in theirs for window in list_windows(ours, shared.n_characters))
    assert max(len(ours), len(theirs)) <= shared.n_characters + 2, "no more than the rest of a folded character"
    visible = document[: shared.offset + len(shared.original) - len(shared.original.lstrip())]
    assert shared.line == len(visible.split("\n"))


@pytest.mark.usefixtures("hashing")
@settings(deadline=None)
@given(texts, documents)
@example("", ["a"])
@example("a", [])
@example("STRASSE", ["stra\u00dfe"])
@example("x\u0130", ["i\u0307"])
def test_the_longest_shared_passage_is_found(text: str, written: list[str]) -> None:
    found, expected = find_longest_shared(text, written), find_slowly(text, written)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (found.n_characters, found.document) == expected[:2]
        assert found.offset == locate_characters(written[found.document])[expected[2]]
        check_shared(found, text, written)


def test_a_passage_is_shown_as_it_stands_on_both_sides() -> None:
    poem = "First line\n\nShall  I compare\nthee, STRASSE?\n"
    found = find_longest_shared("He said: shall i\tcompare thee, Stra\u00dfe!", ["nothing of it", poem])
    assert found == Shared(
        passage=" shall i\tcompare thee, Stra\u00dfe",
        original="\n\nShall  I compare\nthee, STRASSE",
        n_characters=30,
        document=1,
        offset=10,
        line=3,
    )


def test_a_long_passage_is_found_in_a_real_text() -> None:
    poems = sonnets(60_000)
    copied = poems[31_000:33_500]
    found = find_longest_shared("\U0001f98a" + copied.upper() + "\U0001f98a", [poems[:30_000], poems[30_000:]])
    assert found is not None and found.document == 1 and found.original.split() == copied.split()
    assert 1_000 - 3 <= found.offset <= 1_000
    assert (
        found.line == poems[30_000:31_000].count("\n") + copied.count("\n", 0, len(copied) - len(copied.lstrip())) + 1
    )


# -- the share


def measure_slowly(text: str, written: Sequence[str], n_characters: int) -> float:
    text = normalise_slowly(text)
    covered: set[int] = set()
    for start, window in enumerate(list_windows(text, n_characters)):
        if stands_in(window, written):
            covered.update(range(start, start + n_characters))
    return len(covered) / max(1, len(text))


@pytest.mark.usefixtures("hashing")
@settings(deadline=None)
@given(texts, documents, sizes)
def test_the_share_is_that_of_the_covered_characters(text: str, written: list[str], n_characters: int) -> None:
    assert measure_copied(text, written, n_characters) == pytest.approx(measure_slowly(text, written, n_characters))


def test_shares_of_known_texts() -> None:
    assert measure_copied("", ["a"], 1) == 0
    assert measure_copied("short", [SECRET], 6) == 0
    assert measure_copied(SECRET.upper(), ["other", SECRET], 20) == 1
    assert measure_copied("0123456789" + "may say\nTHESE" + "0123456", [SECRET], 13) == pytest.approx(13 / 30)
    with pytest.raises(ValueError, match="-1"):
        measure_copied("a", ["a"], 0)
