"""A guard forbids exactly the tokens that would complete a copied passage, so a guarded text has none."""

from __future__ import annotations

import codecs
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epigone.text_reuse.copy_guard import CopyGuard, CopyIndex
from epigone.text_reuse.matches import find_longest_shared
from helpers_copies import SECRET, documents, hashing, normalise_slowly, stands_in, texts

__all__ = ["hashing"]


def decode(data: bytes) -> str:
    """All complete characters."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(data)


def forbids_slowly(said: bytes, token: bytes, written: Sequence[str], n_characters: int) -> bool:
    before, after = (normalise_slowly(decode(data)) for data in (said, said + token))
    ends = range(max(len(before), n_characters) + 1, len(after) + 1)
    return any(stands_in(after[end - n_characters - 1 : end], written) for end in ends)


pieces = st.one_of(texts.map(str.encode), st.binary(max_size=3), st.sampled_from(["\U0001f98a".encode()[:2], b"\xa4"]))


@pytest.mark.usefixtures("hashing")
@settings(deadline=None)
@given(documents, st.lists(pieces, min_size=1, max_size=6), st.integers(0, 5), st.data())
def test_the_guard_forbids_exactly_what_completes_a_copy(
    written: list[str], tokenizer: list[bytes], n_characters: int, data: st.DataObject
) -> None:
    """The tokens may be forbidden ones: the guard stays correct."""
    guard, said = CopyGuard(CopyIndex(written, n_characters), tokenizer), b""
    for taken in data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=5)):
        for token, piece in enumerate(tokenizer):
            assert guard.forbids(token) == forbids_slowly(said, piece, written, n_characters)
        guard.advance(taken)
        said += tokenizer[taken]


@settings(deadline=None)
@given(texts, st.lists(st.integers(0, 80), max_size=12), st.integers(1, 5))
def test_the_first_copied_window_is_the_last_for_any_tokens(text: str, cuts: list[int], n_characters: int) -> None:
    data = text.encode()
    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    tokens = [data[start:end] for start, end in pairwise(edges)]
    guard = CopyGuard(CopyIndex([text], n_characters), tokens)
    for token in range(len(tokens)):
        n_said = len(normalise_slowly(decode(data[: edges[token + 1]])))
        n_before = len(normalise_slowly(decode(data[: edges[token]])))
        assert guard.forbids(token) == (n_said > max(n_characters, n_before))
        guard.advance(token)


def test_white_space_over_several_tokens_is_one_space() -> None:
    tokens = [b"one", b" ", b"\n", b"\t two", b"\t two ", b"x"]
    guard = CopyGuard(CopyIndex(["one two three"], 7), tokens)
    for token in (0, 1, 2):
        assert not guard.forbids(token)
        guard.advance(token)
    assert not guard.forbids(3), "seven characters are allowed"
    assert guard.forbids(4) and not guard.forbids(5)
    guard.advance(3)
    assert guard.forbids(1) and guard.forbids(2)
    guard.advance(5)
    assert not guard.forbids(1)


def test_the_token_that_completes_a_character_is_forbidden() -> None:
    fox = "\U0001f98a".encode()
    guard = CopyGuard(CopyIndex(["red \U0001f98a"], 4), [b"RED ", fox[:2], fox[2:], b"x"])
    for token in (0, 1):
        assert not guard.forbids(token)
        guard.advance(token)
    assert guard.forbids(2) and not guard.forbids(3)


def write_as_a_copier(guard: CopyGuard | None, tokens: Sequence[bytes], chance: random.Random) -> str:
    """A text from a writer that continues the secret wherever it may, in any case and with added white space."""
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
            guard.advance(token)
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
