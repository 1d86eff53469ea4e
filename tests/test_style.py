"""Only the author's own text sounds like the author: not shuffled words, bigram text or another author's text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from authors import read_books
from epigone.corpus.corpus import read_corpus
from epigone.corpus.split import split_corpus
from epigone.errors import TextTooShort
from epigone.evaluation.ngram_model import sample_ngram_text, shuffle, split_words
from epigone.evaluation.style import (
    LEAST,
    Scale,
    ScaleScore,
    StyleJudge,
    StyleScales,
    average_scales,
    choose_size,
    decide_grade,
    divide_own_text,
    draw_text_sample,
    grade_score,
    judge_style,
    make_style_scales,
)
from epigone.evaluation.stylometry import (
    WINDOW,
    AuthorCounts,
    DeltaSpace,
    Features,
    Vectors,
    cosine_distance,
    cut_evenly,
    load_authors,
    normalise_for_counting,
)
from epigone.evaluation.verdict import Judgement, Verdict
from epigone.report.views import summarise_judgement
from epigone.training.events import Grade
from helpers_front import sonnets
from helpers_style import LIBRARY, judge, needs_data, needs_library, read_book, write_invented

# -- the scales


def test_draws_are_as_large_as_the_text() -> None:
    sample = draw_text_sample(normalise_for_counting(sonnets(60_000)), 25_000, np.random.default_rng(0))
    _, n_windows, n_pieces = sample.draws.shape
    assert n_windows == 2 and n_pieces == len(sample.pieces) == 20
    assert (sample.draws.sum((1, 2)) == n_pieces).all() and (sample.draws[0].sum(0) == 1).all()


@pytest.mark.parametrize(
    ("n_characters", "n_held_out", "size"),
    [(25_000, 90_000, 25_000), (50_000, 30_000, 25_000), (60_000, 90_000, 30_000), (200_000, 90_000, 50_000)],
)
def test_text_and_held_out_text_are_compared_at_one_size(n_characters: int, n_held_out: int, size: int) -> None:
    assert choose_size(n_characters, n_held_out) == size


def test_the_grade_depends_on_the_band_and_not_only_on_the_score() -> None:
    assert [grade_score(ScaleScore(70, low, 90)) for low in (55, 30)] == ["good", "fair"]
    assert grade_score(ScaleScore(30, 25, 60)) == "bad"


def test_a_verdict_says_when_there_is_too_little_text() -> None:
    verdict = judge_style(sonnets(20_000), [sonnets(90_000)], "")
    assert verdict.grade == "unsure" and not verdict.measures
    assert verdict.sentence.startswith("Too short to say: ") and f"{LEAST:,} are needed" in verdict.sentence
    little = judge_style(sonnets(30_000), [sonnets(30_000)], "")
    assert little.grade == "unsure" and "the author's own text has" in little.sentence and not little.measures


@pytest.mark.parametrize(
    ("score", "grade", "said"),
    [
        (15.0, "unsure", "it may not sound like the author (15 of 100)"),
        (70.0, "fair", "it sounds somewhat like the author (70 of 100"),
        (15.0, "bad", "it does not sound like the author (15 of 100)"),
        (70.0, "unsure", "whether it sounds like the author cannot be told."),
    ],
)
def test_in_short_a_low_score_is_not_called_somewhat_like_the_author(score: float, grade: Grade, said: str) -> None:
    """With little text the band is wide, and a low score is only called bad where all of it is low."""
    verdict = Verdict(topic="sounds like", grade=grade, sentence="", facts={"score": score})
    assert said in summarise_judgement(Judgement(text="t", against="a", n_characters=1, verdicts=(verdict,)))


@pytest.mark.parametrize(("high", "grade"), [(60.0, "unsure"), (30.0, "bad")])
def test_of_little_text_a_low_score_is_bad_only_where_the_whole_band_is(high: float, grade: Grade) -> None:
    scale = Scale("words", "others", 1.0, np.zeros(201), lambda sample: np.zeros(201))
    scales, score = StyleScales((scale,), 10_000, {}, (), ()), {"words": ScaleScore(11.0, -20.0, high)}
    assert decide_grade(scales, score).grade == "bad"
    verdict = decide_grade(scales, score, must_be_certain=True)
    assert verdict.grade == grade and "somewhat" not in verdict.sentence and "11 of 100" in verdict.sentence


@pytest.mark.parametrize("least", [10_000, LEAST])
def test_the_text_that_is_said_to_be_needed_is_enough_and_more_than_there_is(least: int) -> None:
    """Where too little is held out, the author's text is divided into thirds, which takes more of it."""
    verdict = StyleJudge([sonnets(66_000)], sonnets(74_000)[66_000:], least=least).judge(sonnets(30_000))
    has, needs = (int(number.replace(",", "")) for number in re.findall(r"(\d+,\d+)", verdict.sentence))
    assert verdict.grade == "unsure" and has < needs == 75_000
    judged = StyleJudge([sonnets(76_000)], sonnets(84_000)[76_000:], least=least).judge(sonnets(30_000))
    assert judged.measures and judged.grade == "fair"
    assert "but word order cannot be measured with so little text" in summarise_judgement(
        Judgement(text="a text", against="a novel", n_characters=26_000, verdicts=(judged,))
    )


def test_with_too_little_held_out_each_third_is_compared_with_the_rest() -> None:
    train = " ".join("abcdefghij"[number % 10] + "xyz" * (number // 10 % 7) for number in range(12_000))
    held_out = "what was held out " * 500
    folds, whole = divide_own_text([train], held_out), f"{train} {held_out.strip()}"
    assert len(folds) == 3 and all(sorted(own + held) == sorted(whole) for own, held in folds)
    assert sorted("".join(held for _, held in folds)) == sorted(whole), "every character is compared once"
    assert divide_own_text([train], "b " * 20_000) == [(train, ("b " * 20_000).strip())]


def test_the_average_of_several_scales_is_less_uncertain_than_each() -> None:
    rng = np.random.default_rng(0)
    scales = [
        Scale("words", "others", 0.5, 0.4 + 0.1 * rng.standard_normal(201), lambda sample: np.zeros(201))
        for _ in range(9)
    ]
    average = average_scales(scales)
    assert average.is_reliable and not any(scale.is_reliable for scale in scales)
    assert average.floor == pytest.approx(0.5) and average.ceilings.std() == pytest.approx(0.033, abs=0.006)


def test_the_included_sample_is_long_enough_to_be_judged() -> None:
    corpus = read_corpus(["sample:sonnets"])
    split = split_corpus(corpus, how="auto", share=0.1, seed=0)
    train, held_out = (list(map(str, texts)) for texts in (split.train_texts(corpus), split.validation_texts(corpus)))
    verdict = judge_style(" ".join(train)[:26_000], train, "\n".join(held_out))
    assert verdict.grade == "fair" and len(verdict.measures) == 3 and "Word order cannot be" in verdict.sentence
    enough = len(normalise_for_counting("".join([*train, *held_out])))
    shorter = judge_style(" ".join(train)[:26_000], [" ".join(train)[: 74_000 - enough]], "\n".join(held_out))
    assert shorter.grade == "unsure"


def test_a_small_author_s_words_shuffled_do_not_pass() -> None:
    words = shuffle(split_words(normalise_for_counting(sonnets(95_000))), np.random.default_rng(0))
    verdict = judge_style(" ".join(words)[:26_000], [sonnets(95_000)], "")
    assert verdict.grade in ("bad", "unsure")


def test_a_text_without_spaces_is_judged_without_the_bundle() -> None:
    own, other = write_invented(1, 180_000), write_invented(2, 30_000)
    words = split_words(normalise_for_counting(own[:120_000]))
    rng = np.random.default_rng(0)
    scales = make_style_scales(
        normalise_for_counting(own[:120_000]), normalise_for_counting(own[120_000:150_000]), 30_000
    )
    texts = {
        "own": own[150_000:],
        "other": other,
        "pairs": "".join(sample_ngram_text(words, 30_000, 1, rng)),
        "shuffled": "".join(shuffle(words, rng)[:30_000]),
    }
    verdicts = {name: decide_grade(scales, scales.score(text)) for name, text in texts.items()}
    assert {name: verdict.grade != "bad" for name, verdict in verdicts.items()} == {
        "own": True,
        "other": False,
        "pairs": False,
        "shuffled": False,
    }
    assert "do not write the language" in verdicts["own"].facts["notes"][0]


# -- attribution


def write_counts(style: Vectors, subject: float, rng: np.random.Generator) -> Vectors:
    """Word counts of a text: four in five words follow its subject, the others the author's habits."""
    about = np.exp(subject * np.repeat([0.5, -0.5], 200))
    counts = rng.multinomial(8_000, np.concatenate([0.8 * about / about.sum(), 0.2 * style / style.sum()]))
    return np.append(counts, [8_000, WINDOW])


def test_a_text_finds_its_author_though_its_subject_is_another_one() -> None:
    """Each author's four texts have subjects by chance; without whitening, half of the new texts go to others."""
    rng = np.random.default_rng(0)
    styles = np.exp(0.2 * rng.standard_normal((12, 20)))
    owners = np.repeat(np.arange(12), 4)
    known, new = (
        np.array([write_counts(styles[owner], rng.standard_normal(), rng) for owner in owners]) for _ in range(2)
    )
    words = tuple(map(str, range(420)))
    authors = AuthorCounts(tuple(map(str, range(12))), Features(words, ()), known, tuple(owners.tolist()))
    space = DeltaSpace(authors, slice(0, len(words)), WINDOW, rng)
    nearest = cosine_distance(space.embed_texts(new), space.centres).argmin(1)
    assert (nearest == owners).mean() > 0.9


# -- real books


@needs_data
def test_an_author_s_other_book_passes_and_the_author_is_left_out_of_the_reference() -> None:
    verdict = judge(read_book("austen-158")[30_000:80_000], "austen-1342")
    assert verdict.grade in ("good", "fair") and verdict.facts["score"] > 50
    assert verdict.facts["left_out"] == ["Jane Austen"] and "Jane Austen" not in verdict.facts["nearest"]
    assert [measure.name for measure in verdict.measures] == [
        "words",
        "character n-grams",
        "compression",
        "word order",
    ]
    assert all(measure.low <= measure.value <= measure.high for measure in verdict.measures)  # type: ignore[operator]


@needs_data
@pytest.mark.parametrize(
    "book",
    ["austen-1342", *(pytest.param(book, marks=pytest.mark.slow) for book in ("dickens-98", "melville-15"))],
)
def test_neither_shuffled_words_nor_a_bigram_model_nor_another_author_pass(book: str) -> None:
    own = normalise_for_counting(read_book(book))
    own, held_out = own[: len(own) * 9 // 10], own[len(own) * 9 // 10 :]
    scales = make_style_scales(own, held_out, choose_size(50_000, len(held_out)))
    words, rng = split_words(own), np.random.default_rng(0)
    texts = {
        "shuffled": " ".join(shuffle(words, rng)[:12_000])[:50_000],
        "pairs": " ".join(sample_ngram_text(words, 12_000, 1, rng))[:50_000],
        "stranger": read_book("twain-76")[30_000:80_000],
    }
    verdicts = {name: decide_grade(scales, scales.score(text)) for name, text in texts.items()}
    assert {verdict.grade for verdict in verdicts.values()} == {"bad"}
    assert verdicts["shuffled"].facts["high"] < 0 and verdicts["stranger"].facts["score"] < 40
    assert {verdicts[name].facts["least"] for name in ("shuffled", "pairs")} == {"word order"}
    assert next(measure.value for measure in verdicts["pairs"].measures if measure.name == "words") > 60


@needs_data
@pytest.mark.slow
def test_held_out_text_scores_a_hundred() -> None:
    own = read_book("melville-15")
    edge = len(own) * 9 // 10
    verdict = judge_style(own[edge:], [own[:edge]], own[edge:])
    assert verdict.grade == "good"
    assert all(measure.value == pytest.approx(100, abs=15) for measure in verdict.measures)


@needs_data
@pytest.mark.slow
def test_a_user_s_reference_authors_replace_the_bundle() -> None:
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
    assert stranger.grade == "bad"


def test_other_authors_with_too_little_text_are_refused() -> None:
    with pytest.raises(TextTooShort, match="other authors"):
        judge_style(sonnets(30_000), [sonnets(95_000)], "", {"one": [sonnets(9_000)], "two": []})


@needs_data
@pytest.mark.slow
def test_a_french_text_is_not_compared_with_the_english_bundle() -> None:
    text = read_book("french-44157-0")
    verdict = judge_style(text[20_000:60_000], [text], "")
    assert any("do not write the language" in note for note in verdict.facts["notes"])
    assert verdict.facts["n_others"] == 2 and "a model of letter pairs" in verdict.facts["nearest"]


@needs_library
@pytest.mark.slow
def test_attribution_names_the_right_author() -> None:
    import attribution

    samples = attribution.collect(LIBRARY)
    for size, wanted in {25_000: 0.95, 50_000: 0.99}.items():
        distances = attribution.measure_all(samples[size], samples[WINDOW], size)
        assert attribution.share_right(distances["both"], samples[size], 8) >= wanted


@needs_library
@pytest.mark.slow
def test_the_bundle_is_made_from_the_library() -> None:
    bundled = load_authors()
    texts = [normalise_for_counting(text) for text in read_books(LIBRARY, "austen").values()]
    rows = bundled.counts[[owner == bundled.names.index("Jane Austen") for owner in bundled.owners]]
    middles = [cut_evenly(text, WINDOW)[len(cut_evenly(text, WINDOW)) // 2] for text in texts]
    counted = bundled.features.count(middles)[:, :-2]
    assert np.abs(np.sqrt(counted) - np.sqrt(rows[:3, :-2])).max() < 0.13
