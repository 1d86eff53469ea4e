"""The index has the passages of the documents and no others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epigone.text_reuse.copy_guard import CopyIndex
from epigone.text_reuse.hashing import normalise
from helpers_copies import documents, hashing, list_windows, normalise_slowly, texts
from helpers_front import sonnets

__all__ = ["hashing"]


@pytest.mark.usefixtures("hashing")
@settings(deadline=None)
@given(documents, texts, st.integers(0, 5))
def test_the_index_has_exactly_the_windows_of_the_documents(written: list[str], text: str, n_characters: int) -> None:
    index = CopyIndex(written, n_characters)
    known = [window for document in written for window in list_windows(normalise_slowly(document), index.size)]
    assert all(index.contains(window) for window in known)
    for window in list_windows(normalise_slowly(text), index.size):
        assert index.contains(window) == (window in known)


def test_no_window_spans_two_documents() -> None:
    index = CopyIndex(["one two", "three"], 4)
    assert index.contains("e two") and index.contains("three")
    assert not index.contains("twoth") and not index.contains("wo th") and not index.contains("wo\nth")


def test_one_text_is_one_document() -> None:
    assert CopyIndex("one two", 4).contains("e two")


def test_a_window_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="5 characters; this one has 3"):
        CopyIndex(["one two"], 4).contains("one")
    with pytest.raises(ValueError, match="-1"):
        CopyIndex(["one two"], -1)


def test_every_window_of_a_real_text_is_in_the_index() -> None:
    text = normalise(sonnets(20_000))
    index = CopyIndex([sonnets(20_000)], 30)
    assert all(index.contains(window) for window in list_windows(text, 31)[::50])
    assert not any(index.contains(window) for window in list_windows(text[::-1], 31)[::50])
