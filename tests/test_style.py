"""A text sounds like its author if it is his: not with his words shuffled, not in pairs, not if it is another's."""

from __future__ import annotations

import os
import random
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from authors import read_books
from epigone.errors import TextTooShort
from epigone.judging.authors import WINDOW, load_authors, read_authors, write_authors
from epigone.judging.chains import Chain, Skeleton, shuffle, split_words, write_chain
from epigone.judging.frequencies import Features, choose_features, choose_length, cut_evenly, normalise
from epigone.judging.nearness import Space, measure, thin
from epigone.judging.rulers import Reading, draw_sample
from epigone.judging.style import (
    LEAST,
    Texts,
    choose_size,
    decide,
    divide_own,
    find_same,
    grade,
    judge_style,
    make_yardstick,
)
from epigone.judging.verdicts import Verdict
from helpers_front import sonnets

DATA = Path(os.environ.get("EPIGONE_TEST_DATA", Path(__file__).parents[1] / "../shared/data"))
BOOKS = DATA / "gutenberg"
needs_data = pytest.mark.skipif(not BOOKS.is_dir(), reason="no texts at EPIGONE_TEST_DATA")
LIBRARY = Path(os.environ.get("EPIGONE_LIBRARY", DATA / "library"))
needs_library = pytest.mark.skipif(not LIBRARY.is_dir(), reason="no unpacked library at EPIGONE_LIBRARY")


@cache
def read_book(name: str) -> str:
    return (BOOKS / f"{name}.txt").read_text("utf-8-sig")


def judge(text: str, book: str, others: Texts | None = None) -> Verdict:
    """Hold a text against a book whose last tenth is held out."""
    own = read_book(book)
    edge = len(own) * 9 // 10
    return judge_style(text, [own[:edge]], own[edge:], others)


def write_invented(seed: int, n_characters: int) -> str:
    """Sentences of a language without spaces: six frames of five kinds of words."""
    source = random.Random(seed)
    letters = [chr(0x4E00 + place) for place in source.sample(range(3000), 800)]
    words = [["".join(source.choices(letters[:400], k=source.randint(1, 2))) for _ in range(120)] for _ in range(5)]
    frames = [source.sample(range(5), 5) for _ in range(6)]
    odds = [1 / place for place in range(1, 121)]
    text = ""
    while len(text) < n_characters:
        frame = source.choice(frames)
        halves = ("".join(source.choices(words[kind], odds)[0] for kind in frame) for _ in range(2))
        text += "\uff0c".join(halves) + "\u3002"
    return text


# -- counting


def test_words_and_grams_are_counted_as_a_counter_counts_them() -> None:
    text = normalise(sonnets(20_000))
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
    assert normalise("\u201cIt\u2019s _so_,\u201d\n\n 1842 -- he\u2014said") == normalise('"it\'s so," 1999 - he-said')


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
    assert load_authors().serves(normalise(sonnets(20_000)))
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
    assert find_same(scores) == same


# -- nearness


def test_each_author_s_windows_are_nearest_to_him() -> None:
    authors = load_authors()
    for columns in (slice(0, 800), slice(800, 1800)):
        space = Space(authors, columns, WINDOW, np.random.default_rng(0))
        nearest = measure(space.windows, space.centres).argmin(1)
        assert (nearest == space.owners).mean() > 0.98


def test_a_thinned_text_has_the_same_frequencies_and_more_noise() -> None:
    counts = load_authors().counts
    thinned = thin(counts, 12_500, np.random.default_rng(0))
    assert np.allclose(thinned[:, -1], 12_500)
    assert (thinned[:, :-2] / 12_500).mean() == pytest.approx((counts[:, :-2] / counts[:, -1:]).mean(), rel=0.01)
    assert (thin(counts, 1e6, np.random.default_rng(0)) == counts).all()


# -- chains


def test_a_chain_s_chances_add_up_to_one_and_it_knows_what_it_read() -> None:
    symbols = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2] * 5)
    chain = Chain(symbols, 3, 4)
    for context in ([0, 1], [3, 3], [2, 0]):
        chances = [2 ** -chain.measure_bits(np.array([*context, last]))[:, -1] for last in range(4)]
        assert np.allclose(np.sum(chances, 0), 1)
    bits = chain.measure_bits(symbols).mean(1)
    assert bits[2] < bits[1] < bits[0] < 2


def test_a_written_chain_has_only_pairs_of_the_text() -> None:
    words = split_words(normalise(sonnets(20_000)))
    written = write_chain(words, 2_000, 1, np.random.default_rng(0))
    assert set(pairwise(written)) <= set(pairwise(words)) and len(written) == 2_001
    assert sorted(shuffle(words, np.random.default_rng(0))) == sorted(words)


def test_a_skeleton_knows_common_words_and_the_kinds_of_others() -> None:
    skeleton = Skeleton(["the"] * 9 + [f"word{place}" for place in range(100)])
    the, walking, running, house, mark = skeleton.number(["the", "walking", "running", "house", ";"])
    assert walking == running and len({the, walking, house, mark}) == 4
    assert max(the, walking, house, mark) < skeleton.n_symbols


# -- the ruler


def test_draws_are_as_large_as_the_text() -> None:
    sample = draw_sample(normalise(sonnets(60_000)), 25_000, np.random.default_rng(0))
    _, n_windows, n_pieces = sample.draws.shape
    assert n_windows == 2 and n_pieces == len(sample.pieces) == 20
    assert (sample.draws.sum((1, 2)) == n_pieces).all() and (sample.draws[0].sum(0) == 1).all()


@pytest.mark.parametrize(
    ("n_characters", "n_held_out", "size"),
    [(25_000, 90_000, 25_000), (50_000, 30_000, 25_000), (60_000, 90_000, 30_000), (200_000, 90_000, 50_000)],
)
def test_text_and_held_out_text_are_compared_at_one_size(n_characters: int, n_held_out: int, size: int) -> None:
    assert choose_size(n_characters, n_held_out) == size


def test_a_band_and_not_only_a_score_makes_a_verdict() -> None:
    assert [grade(Reading(70, low, 90)) for low in (55, 30)] == ["good", "fair"]
    assert grade(Reading(30, 25, 60)) == "bad"


def test_too_little_text_is_said() -> None:
    verdict = judge_style(sonnets(20_000), [sonnets(90_000)], "")
    assert verdict.tone == "unsure" and not verdict.measures
    assert verdict.sentence.startswith("Not enough text to say: ") and f"{LEAST:,} are needed" in verdict.sentence
    little = judge_style(sonnets(30_000), [sonnets(30_000)], "")
    assert little.tone == "unsure" and "the author's own text has" in little.sentence and not little.measures


def test_with_too_little_held_out_the_end_of_the_text_is_held_out() -> None:
    own, held, borrowed = divide_own(["a " * 100_000], "too little")
    assert borrowed and len(own) + len(held) == 199_999 and len(held) >= LEAST
    assert not divide_own(["a " * 100_000], "b " * 20_000)[2]


def test_a_small_author_s_words_shuffled_do_not_pass() -> None:
    words = shuffle(split_words(normalise(sonnets(95_000))), np.random.default_rng(0))
    verdict = judge_style(" ".join(words)[:26_000], [sonnets(95_000)], "")
    assert verdict.tone in ("bad", "unsure")


def test_a_text_without_spaces_is_judged_by_itself() -> None:
    own, stranger = write_invented(1, 180_000), write_invented(2, 30_000)
    words = split_words(normalise(own[:120_000]))
    source = np.random.default_rng(0)
    yardstick = make_yardstick(normalise(own[:120_000]), normalise(own[120_000:150_000]), 30_000)
    texts = {
        "own": own[150_000:],
        "other": stranger,
        "pairs": "".join(write_chain(words, 30_000, 1, source)),
        "shuffled": "".join(shuffle(words, source)[:30_000]),
    }
    verdicts = {name: decide(yardstick, yardstick.read(text)) for name, text in texts.items()}
    assert {name: verdict.tone != "bad" for name, verdict in verdicts.items()} == {
        "own": True,
        "other": False,
        "pairs": False,
        "shuffled": False,
    }
    assert "do not write the language" in verdicts["own"].facts["notes"][0]


# -- real books


@needs_data
def test_an_author_s_other_book_passes_and_he_is_left_out_of_the_others() -> None:
    verdict = judge(read_book("austen-158")[30_000:80_000], "austen-1342")
    assert verdict.tone in ("good", "fair") and verdict.facts["score"] > 50
    assert verdict.facts["left_out"] == ["Jane Austen"] and "Jane Austen" not in verdict.facts["nearest"]
    assert [measure.name for measure in verdict.measures] == [
        "words",
        "character n-grams",
        "compression",
        "order of words",
    ]
    assert all(measure.low <= measure.value <= measure.high for measure in verdict.measures)  # type: ignore[operator]


@needs_data
@pytest.mark.parametrize("book", ["austen-1342", "dickens-98", "melville-15"])
def test_neither_shuffled_words_nor_a_bigram_model_nor_another_author_pass(book: str) -> None:
    own = normalise(read_book(book))
    own, held_out = own[: len(own) * 9 // 10], own[len(own) * 9 // 10 :]
    yardstick = make_yardstick(own, held_out, choose_size(50_000, len(held_out)))
    words, source = split_words(own), np.random.default_rng(0)
    texts = {
        "shuffled": " ".join(shuffle(words, source)[:12_000])[:50_000],
        "pairs": " ".join(write_chain(words, 12_000, 1, source))[:50_000],
        "stranger": read_book("twain-76")[30_000:80_000],
    }
    verdicts = {name: decide(yardstick, yardstick.read(text)) for name, text in texts.items()}
    assert {verdict.tone for verdict in verdicts.values()} == {"bad"}
    assert verdicts["shuffled"].facts["high"] < 0 and verdicts["stranger"].facts["score"] < 40
    assert {verdicts[name].facts["least"] for name in ("shuffled", "pairs")} == {"order of words"}
    assert next(measure.value for measure in verdicts["pairs"].measures if measure.name == "words") > 60


@needs_data
def test_held_out_text_is_a_hundred() -> None:
    own = read_book("melville-15")
    edge = len(own) * 9 // 10
    verdict = judge_style(own[edge:], [own[:edge]], own[edge:])
    assert verdict.tone == "good"
    assert all(measure.value == pytest.approx(100, abs=15) for measure in verdict.measures)


@needs_data
def test_the_user_s_own_others_take_the_place_of_the_bundle() -> None:
    others = {
        "Dickens": [read_book("dickens-98")],
        "Melville": [read_book("melville-15")],
        "Twain": [read_book("twain-76")],
    }
    own = judge(read_book("austen-158")[30_000:80_000], "austen-1342", others=others)
    assert own.facts["n_others"] == 3 and own.facts["score"] > 40
    (compression,) = (measure for measure in own.measures if measure.name == "compression")
    assert compression.floor is not None and compression.floor.name == "other authors' median"
    stranger = judge(read_book("dickens-98")[30_000:80_000], "austen-1342", others=others)
    assert stranger.tone == "bad"


def test_other_authors_with_too_little_text_are_refused() -> None:
    with pytest.raises(TextTooShort, match="other authors"):
        judge_style(sonnets(30_000), [sonnets(95_000)], "", {"one": [sonnets(9_000)], "two": []})


@needs_data
def test_a_french_text_is_told_that_the_bundle_does_not_serve() -> None:
    text = read_book("french-44157-0")
    verdict = judge_style(text[20_000:60_000], [text], "")
    assert any("do not write the language" in note for note in verdict.facts["notes"])
    assert verdict.facts["n_others"] == 2 and "a model of letter pairs" in verdict.facts["nearest"]


@needs_library
@pytest.mark.slow
def test_the_ruler_names_the_right_author() -> None:
    import attribution

    samples = attribution.collect(LIBRARY)
    for size, wanted in {25_000: 0.95, 50_000: 0.99}.items():
        distances = attribution.measure_all(samples[size], samples[WINDOW], size)
        assert attribution.share_right(distances["both"], samples[size], 8) >= wanted


@needs_library
@pytest.mark.slow
def test_the_bundle_is_made_of_the_library() -> None:
    bundled = load_authors()
    texts = [normalise(text) for text in read_books(LIBRARY, "austen").values()]
    rows = bundled.counts[[owner == bundled.names.index("Jane Austen") for owner in bundled.owners]]
    middles = [cut_evenly(text, WINDOW)[len(cut_evenly(text, WINDOW)) // 2] for text in texts]
    counted = bundled.features.count(middles)[:, :-2]
    assert np.abs(np.sqrt(counted) - np.sqrt(rows[:3, :-2])).max() < 0.13
