"""Stylometry and n-gram models: features, reference authors, Delta, and what a model predicts."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from epigone.evaluation.ngram_model import FunctionWordMask, NgramModel, sample_ngram_text, shuffle, split_words
from epigone.evaluation.style import find_same_author
from epigone.evaluation.stylometry import (
    WINDOW,
    DeltaSpace,
    Features,
    choose_features,
    choose_gram_length,
    cosine_distance,
    count_authors,
    cut_evenly,
    load_authors,
    normalise_for_counting,
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


def test_how_an_edition_is_printed_makes_no_difference() -> None:
    assert normalise_for_counting("\u201cIt\u2019s _so_,\u201d\n\n 1842 -- he\u2014said") == normalise_for_counting(
        '"it\'s so," 1999 - he-said'
    )


def test_the_pieces_together_are_the_text() -> None:
    pieces = cut_evenly("abcdefghijk", 3)
    assert "".join(pieces) == "abcdefghijk" and [len(piece) for piece in pieces] == [3, 4, 4]
    assert cut_evenly("ab", 3) == ["ab"]


def test_two_characters_are_an_n_gram_where_a_character_is_a_word() -> None:
    assert choose_gram_length("\u6f22\u5b57\u306f\u3044\u3044") == 2 and choose_gram_length("letters") == 4
    assert len(split_words("\u6f22\u5b57 and")) == 3


# -- reference authors


def test_the_bundle_has_sixty_authors_at_one_size() -> None:
    authors = load_authors()
    assert len(authors.names) >= 60 and "Jane Austen" in authors.names
    assert (authors.features.n_words, len(authors.features.grams)) == (800, 1000)
    sizes = authors.counts[:, -1]
    assert np.median(sizes) == pytest.approx(WINDOW, rel=0.1) and sizes.max() < 1.2 * WINDOW


def test_equal_authors_make_equal_bytes(tmp_path: Path) -> None:
    texts = {"one": [sonnets(9_000)], "two": [sonnets(18_000)[9_000:]]}
    for name in ("a", "b"):
        write_authors(count_authors(texts), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_bundle_shares_its_language_with_english_only() -> None:
    french = (
        "il est dans la maison et les enfants ne sont pas avec lui mais elle a dit que tout va bien pour nous " * 50
    )
    assert load_authors().shares_language(normalise_for_counting(sonnets(20_000)))
    assert not load_authors().shares_language(french) and not load_authors().shares_language(write_invented(1, 2_000))
    assert not load_authors().shares_language("")


def test_an_author_can_be_left_out() -> None:
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
def test_the_author_is_found_among_the_reference_authors(scores: dict[str, float], same: list[str]) -> None:
    assert find_same_author(scores) == same


# -- Delta


def test_each_author_s_windows_are_closest_to_that_author() -> None:
    authors = load_authors()
    for columns in (slice(0, 800), slice(800, 1800)):
        space = DeltaSpace(authors, columns, WINDOW, np.random.default_rng(0))
        nearest = cosine_distance(space.windows, space.centres).argmin(1)
        assert (nearest == space.owners).mean() > 0.98


def test_subsampled_counts_have_the_same_frequencies() -> None:
    counts = load_authors().counts
    fewer = subsample_counts(counts, 12_500, np.random.default_rng(0))
    assert np.allclose(fewer[:, -1], 12_500)
    assert (fewer[:, :-2] / 12_500).mean() == pytest.approx((counts[:, :-2] / counts[:, -1:]).mean(), rel=0.01)
    assert (subsample_counts(counts, 1e6, np.random.default_rng(0)) == counts).all()


# -- n-gram models


def test_probabilities_add_up_to_one_and_known_text_takes_fewer_bits() -> None:
    symbols = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2] * 5)
    model = NgramModel(symbols, 3, 4)
    for context in ([0, 1], [3, 3], [2, 0]):
        probabilities = [2 ** -model.measure_bits(np.array([*context, last]))[:, -1] for last in range(4)]
        assert np.allclose(np.sum(probabilities, 0), 1)
    bits = model.measure_bits(symbols).mean(1)
    assert bits[2] < bits[1] < bits[0] < 2


def test_text_from_a_bigram_model_has_only_pairs_of_the_text() -> None:
    words = split_words(normalise_for_counting(sonnets(20_000)))
    sampled = sample_ngram_text(words, 2_000, 1, np.random.default_rng(0))
    assert set(pairwise(sampled)) <= set(pairwise(words)) and len(sampled) == 2_001
    assert sorted(shuffle(words, np.random.default_rng(0))) == sorted(words)


def test_a_mask_keeps_common_words_and_the_kinds_of_others() -> None:
    mask = FunctionWordMask(["the"] * 9 + [f"word{place}" for place in range(100)])
    the, walking, running, house, semicolon = mask.number(["the", "walking", "running", "house", ";"])
    assert walking == running and len({the, walking, house, semicolon}) == 4
    assert max(the, walking, house, semicolon) < mask.n_symbols
