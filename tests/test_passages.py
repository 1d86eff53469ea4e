"""All shared passages are found, each at its place in both texts, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from epigone.corpus import large_text
from epigone.corpus.large_text import DiskText, TextSpooler, read_beginning, read_blocks, read_end, read_some
from epigone.text_reuse import hashing as hashing_module
from epigone.text_reuse import matches
from epigone.text_reuse.copy_guard import CopyIndex
from epigone.text_reuse.hashing import locate_characters, normalise
from epigone.text_reuse.matches import Match, MatchReport, find_longest_shared, find_matches, measure_longest
from helpers_copies import SECRET, documents, hashing, list_windows, normalise_slowly, sizes, stands_in, texts
from helpers_front import sonnets

__all__ = ["hashing"]


def find_slowly(text: str, written: Sequence[str]) -> tuple[int, int, int] | None:
    """The length of the longest passage, the first document that has it, and its place in the normalised document."""
    text = normalise_slowly(text)
    for size in range(len(text), 0, -1):
        windows = list_windows(text, size)
        for number, document in enumerate(map(normalise_slowly, written)):
            places = [document.find(window) for window in windows if window in document]
            if places:
                return size, number, min(places)
    return None


def check_shared(shared: Match, text: str, written: Sequence[str]) -> None:
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


def test_a_passage_is_quoted_from_both_texts() -> None:
    poem = "First line\n\nShall  I compare\nthee, STRASSE?\n"
    found = find_longest_shared("He said: shall i\tcompare thee, Stra\u00dfe!", ["nothing of it", poem])
    assert found == Match(
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


# -- all passages


def measure_slowly(text: str, written: Sequence[str], n_characters: int) -> float:
    text = normalise_slowly(text)
    covered: set[int] = set()
    for start, window in enumerate(list_windows(text, n_characters)):
        if stands_in(window, written):
            covered.update(range(start, start + n_characters))
    return len(covered) / max(1, len(text))


def find_all_slowly(text: str, written: Sequence[str], n_characters: int) -> list[tuple[int, int]]:
    """The beginning and end of each maximal passage in the normalised text."""
    text = normalise_slowly(text)
    spans = [(start, end) for start in range(len(text)) for end in range(start + n_characters, len(text) + 1)]
    spans = [span for span in spans if stands_in(text[slice(*span)], written)]
    return [span for span in spans if not any(a <= span[0] and span[1] <= b and (a, b) != span for a, b in spans)]


def check_passages(found: MatchReport, text: str, written: Sequence[str]) -> None:
    """Check that each passage is where the report says, in both texts."""
    for passage in found.passages:
        ours = normalise_slowly(text[passage.start : passage.end])
        theirs = normalise_slowly(written[passage.document][passage.offset :])
        windows = list_windows(ours, passage.n_characters)
        assert any(theirs.find(window) in (0, 1) for window in windows), "a folded character may begin before it"


@pytest.mark.usefixtures("hashing")
@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=3), documents, sizes)
@example(["aaaaaaaaaa"], ["aaaa", "aa"], 2)
@example(["aaaa"], ["a" * 40], 2)
@example(["abab"], ["ab" * 20], 3)
@example(["", "a"], ["a"], 1)
def test_all_maximal_passages_are_found(judged: list[str], written: list[str], n_characters: int) -> None:
    all_found = find_matches(judged, written, n_characters)
    for text, found in zip(judged, all_found, strict=True):
        expected = find_all_slowly(text, written, n_characters)
        origins = locate_characters(text).tolist()
        shown = [(origins[start], origins[end - 1] + 1, end - start) for start, end in expected]
        assert [(passage.start, passage.end, passage.n_characters) for passage in found.passages] == shown
        assert found.share == pytest.approx(measure_slowly(text, written, n_characters))
        assert found.longest == find_longest_shared(text, written)
        check_passages(found, text, written)


@pytest.mark.usefixtures("hashing")
@pytest.mark.parametrize("n_before", range(20))
def test_a_passage_is_found_anywhere_among_similar_text(n_before: int) -> None:
    found = find_matches(["aab"], ["b" * n_before + "aab" + "b" * 20], 1)[0]
    assert [(one.n_characters, one.offset) for one in found.passages] == [(3, n_before)]


def test_one_text_is_one_document() -> None:
    assert find_longest_shared("e two", "one two") == find_longest_shared("e two", ["one two"])
    assert find_matches(["e two"], "one two", 3) == find_matches(["e two"], iter(["one two"]), 3)


def test_shares_of_known_texts() -> None:
    def share(text: str, written: list[str], n_characters: int) -> float:
        return find_matches([text], written, n_characters)[0].share

    assert share("", ["a"], 1) == 0
    assert share("short", [SECRET], 6) == 0
    assert share(SECRET.upper(), ["other", SECRET], 20) == 1
    assert share("0123456789" + "may repeat\nTHESE" + "0123456", [SECRET], 16) == pytest.approx(16 / 33)
    with pytest.raises(ValueError, match="0 characters"):
        share("a", ["a"], 0)


# -- texts that lie on the disk


def store(text: str, monkeypatch: pytest.MonkeyPatch) -> DiskText:
    monkeypatch.setattr(large_text, "MARKED_CHARACTERS", 3)
    keeper = TextSpooler(held_characters=0)
    for piece in read_blocks(text, 5):
        keeper.add(piece)
    stored = keeper.finish()
    assert isinstance(stored, DiskText)
    return stored


@pytest.mark.usefixtures("hashing")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts, min_size=1, max_size=3), st.lists(texts.filter(bool), max_size=4), sizes)
@example(["ab" * 9 + "a"], ["x" + "ab" * 20, "ba" * 7], 2)
@example(["a  b\u00dfa b"], ["b a \n b", " ssa\u00a0", "\n b"], 3)
def test_a_text_on_disk_is_searched_like_one_in_memory(
    judged: list[str], written: list[str], n_characters: int
) -> None:
    """Also if a passage crosses the edges of pieces and is longer than several of them."""
    with pytest.MonkeyPatch.context() as patch:
        stored = [store(document, patch) for document in written]
        assert find_matches(judged, stored, n_characters) == find_matches(judged, written, n_characters)
        held = measure_longest(judged, written, n_characters)
        assert measure_longest(judged, stored, n_characters) == held
        index, other = CopyIndex(written, n_characters), CopyIndex(stored, n_characters)
        for text in map(normalise, judged):
            for window in list_windows(text, n_characters + 1):
                assert other.contains(window) == index.contains(window)


def shuffle_lines(n_characters: int) -> str:
    """Text of the sonnets' words in lines of eight, with curly quotes and no repeated line."""
    generator, words, lines = random.Random(1), sonnets(100_000).replace("'", "\u2019").split(), [""]
    while sum(map(len, lines)) < n_characters:
        generator.shuffle(words)
        lines += [" ".join(words[start : start + 8]) for start in range(0, len(words) - 7, 8)]
    return "\n".join(lines)[:n_characters]


def test_a_passage_longer_than_the_pieces_is_found_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (hashing_module, matches):
        monkeypatch.setattr(module, "BLOCK_CHARACTERS", 8_192)
    curly = shuffle_lines(25_000)
    whole = curly[3_000:24_000]  # it goes over the edges of three blocks
    keeper = TextSpooler(held_characters=0)
    keeper.add(curly)
    stored = keeper.finish()
    for passage in (whole, curly[7_000:9_500], curly[16_300:16_500]):
        (found,) = find_matches(["\u00a7" + passage + "\u00a7"], [stored], 50)
        (held,) = find_matches(["\u00a7" + passage + "\u00a7"], [curly], 50)
        assert found == held and found.longest is not None
        assert found.longest.original.split() == passage.split()
        assert found.longest.line == curly.count("\n", 0, curly.find(passage.strip())) + 1


def test_a_long_text_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    held = ["ab" * 50, "cd" * 50]
    monkeypatch.setattr(large_text, "BLOCK_CHARACTERS", 20)
    assert read_some(held) == held and read_some(held, 60) == ["ab" * 10, "ab" * 5, "cd" * 5, "cd" * 10]
    assert read_end(held, "\n", 3) == "dcd" and read_end(held, "\n", 104).startswith("bab\ncd")
    assert read_beginning(held, "\n", 3) == "aba" and read_beginning(held, "\n", 104).endswith("ab\ncdc")
