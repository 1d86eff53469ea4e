"""Words and n-grams are counted, others' and an author's, and chains are learned from them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from epigone.evaluation.baselines import FunctionWordMask, NgramModel, sample_ngram_text, shuffle, split_words
from epigone.evaluation.style import find_same_author
from epigone.evaluation.stylometry import (
    WINDOW,
    DeltaSpace,
    Features,
    choose_features,
    choose_length,
    cut_evenly,
    load_authors,
    measure_distance,
    normalise_for_counting,
    read_authors,
    subsample_counts,
    write_authors,
)
from helpers_front import sonnets
from helpers_style import write_invented

# -- counting


def test_words_and_grams_are_counted_as_a_counter_counts_them() -> None:
    text = normalise_for_counting(sonnets(20_000))
    features = choose_features([text], 50, 80)
    (row,) = features.count([text])
    words = Counter(split_words(text))
    grams = Counter(text[place : place + 4] for place in range(len(text) - 3))
    assert row[:50].tolist() == [words[word] for word in features.words]
    assert row[50:130].tolist() == [grams[gram] for gram in features.grams]
    assert row[-1] == grams.total() and min(row[:50]) >= max(
        words[word] for word in words if word not in features.words if word[0].isalpha()
    )


def test_a_character_beyond_16_bits_is_counted_whole() -> None:
    (row,) = Features(("\U0001f98a",), ("\U0001f98a\U0001f98a",)).count(["\U0001f98a" * 5])
    assert row[1] == 4


def test_how_an_edition_prints_makes_no_difference() -> None:
    assert normalise_for_counting("\u201cIt\u2019s _so_,\u201d\n\n 1842 -- he\u2014said") == normalise_for_counting(
        '"it\'s so," 1999 - he-said'
    )


def test_pieces_are_the_text() -> None:
    pieces = cut_evenly("abcdefghijk", 3)
    assert "".join(pieces) == "abcdefghijk" and [len(piece) for piece in pieces] == [3, 4, 4]
    assert cut_evenly("ab", 3) == ["ab"]


def test_two_characters_are_an_n_gram_where_a_character_is_a_word() -> None:
    assert choose_length("\u6f22\u5b57\u306f\u3044\u3044") == 2 and choose_length("letters") == 4
    assert len(split_words("\u6f22\u5b57 and")) == 3


# -- other authors


def test_the_bundle_holds_sixty_authors_and_is_small() -> None:
    authors = load_authors()
    assert len(authors.names) >= 60 and "Jane Austen" in authors.names
    assert (authors.features.n_words, len(authors.features.grams)) == (800, 1000)
    sizes = authors.counts[:, -1]
    assert np.median(sizes) == pytest.approx(WINDOW, rel=0.1) and sizes.max() < 1.2 * WINDOW


def test_equal_authors_make_equal_bytes(tmp_path: Path) -> None:
    texts = {"one": [sonnets(9_000)], "two": [sonnets(18_000)[9_000:]]}
    for name in ("a", "b"):
        write_authors(read_authors(texts), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_bundle_serves_english_and_no_other_language() -> None:
    french = (
        "il est dans la maison et les enfants ne sont pas avec lui mais elle a dit que tout va bien pour nous " * 50
    )
    assert load_authors().serves(normalise_for_counting(sonnets(20_000)))
    assert not load_authors().serves(french) and not load_authors().serves(write_invented(1, 2_000))
    assert not load_authors().serves("")


def test_an_author_who_is_left_out_is_gone() -> None:
    fewer = load_authors().without(["Jane Austen"])
    assert "Jane Austen" not in fewer.names and len(fewer.names) == len(load_authors().names) - 1
    assert max(fewer.owners) == len(fewer.names) - 1 and len(fewer.owners) == len(fewer.counts)


@pytest.mark.parametrize(
    ("scores", "same"),
    [
        ({"a": 130.0, "b": 110.0, "c": 20.0}, ["a", "b"]),
        ({"a": 60.0, "b": 30.0, "c": 20.0}, ["a"]),
        ({"a": 60.0, "b": 50.0, "c": 20.0}, []),
        ({"a": 40.0, "b": 0.0, "c": -20.0}, []),
    ],
)
def test_the_author_himself_is_found_among_the_others(scores: dict[str, float], same: list[str]) -> None:
    assert find_same_author(scores) == same


# -- nearness


def test_each_author_s_windows_are_nearest_to_him() -> None:
    authors = load_authors()
    for columns in (slice(0, 800), slice(800, 1800)):
        space = DeltaSpace(authors, columns, WINDOW, np.random.default_rng(0))
        nearest = measure_distance(space.windows, space.centres).argmin(1)
        assert (nearest == space.owners).mean() > 0.98


def test_a_thinned_text_has_the_same_frequencies_and_more_noise() -> None:
    counts = load_authors().counts
    thinned = subsample_counts(counts, 12_500, np.random.default_rng(0))
    assert np.allclose(thinned[:, -1], 12_500)
    assert (thinned[:, :-2] / 12_500).mean() == pytest.approx((counts[:, :-2] / counts[:, -1:]).mean(), rel=0.01)
    assert (subsample_counts(counts, 1e6, np.random.default_rng(0)) == counts).all()


# -- chains


def test_a_chain_s_chances_add_up_to_one_and_it_knows_what_it_read() -> None:
    symbols = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2] * 5)
    chain = NgramModel(symbols, 3, 4)
    for context in ([0, 1], [3, 3], [2, 0]):
        chances = [2 ** -chain.measure_bits(np.array([*context, last]))[:, -1] for last in range(4)]
        assert np.allclose(np.sum(chances, 0), 1)
    bits = chain.measure_bits(symbols).mean(1)
    assert bits[2] < bits[1] < bits[0] < 2


def test_a_written_chain_has_only_pairs_of_the_text() -> None:
    words = split_words(normalise_for_counting(sonnets(20_000)))
    written = sample_ngram_text(words, 2_000, 1, np.random.default_rng(0))
    assert set(pairwise(written)) <= set(pairwise(words)) and len(written) == 2_001
    assert sorted(shuffle(words, np.random.default_rng(0))) == sorted(words)


def test_a_skeleton_knows_common_words_and_the_kinds_of_others() -> None:
    skeleton = FunctionWordMask(["the"] * 9 + [f"word{place}" for place in range(100)])
    the, walking, running, house, mark = skeleton.number(["the", "walking", "running", "house", ";"])
    assert walking == running and len({the, walking, house, mark}) == 4
    assert max(the, walking, house, mark) < skeleton.n_symbols
