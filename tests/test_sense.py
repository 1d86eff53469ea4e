"""Does it make sense? Shuffled sentences, bigram text and invented words do not pass for the author's text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epigone.evaluation import sense
from epigone.evaluation.judge import Author, judge_text
from epigone.evaluation.sense import (
    LEAST_TEXT,
    Critic,
    SentenceModel,
    average_folds,
    judge_sense,
    shuffle_sentences,
    write_bigram_text,
)
from epigone.evaluation.style import Folds, Scale, ScaleScore
from epigone.evaluation.verdict import SENSE_LIMITS, Judgement, Verdict
from epigone.generation.known_words import read_words
from epigone.hardware import find_hardware
from epigone.model.base_profile import BASES
from epigone.model.decoder import open_decoder
from epigone.report.views import summarise_judgement, view_verdicts
from epigone.tokens.tokenizer import load_tokenizer
from helpers_front import command, sonnets, write_sonnets
from helpers_style import needs_data, read_book

SHORT = sonnets(94_000)
WORDS = read_words(BASES["small"].folder)


@pytest.fixture(scope="module", autouse=True)
def scales_are_made_once() -> Iterator[None]:
    made = {}

    def remember(folds: Folds, n_characters: int, *how: Any) -> tuple[list[Scale], int]:
        key = (folds[0], n_characters // 10_000)
        made[key] = made.get(key) or average_folds(folds, n_characters, *how)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sense, "NONSENSE_CHARACTERS", 100_000)
        patch.setattr(sense, "average_folds", remember)
        yield


@cache
def judge(kind: str) -> Verdict:
    rng, book = np.random.default_rng(1), read_book("austen-1342")
    own, held_out, rest = book[50_000:150_000], book[150_000:180_000], book[200_000:225_000]
    texts = {
        "the author's": rest,
        "bigrams": write_bigram_text(own, 25_000, rng),
        "shuffled": shuffle_sentences(own, rng)[:24_000],
        "invented": "".join(rng.permutation(list(rest))),
        "in no list": "hardly dreamed of turnip wharvish " * 700,
        "in the list": "hardly dreamed of turnip wharves " * 700,
    }
    return judge_sense(texts[kind], own, held_out, words=WORDS)


def score_of(kind: str) -> float:
    return float(judge(kind).facts["score"])


@needs_data
def test_nonsense_is_called_nonsense_and_the_author_s_text_is_not() -> None:
    assert judge("the author's").grade in ("good", "fair") and score_of("the author's") > 60
    assert [judge(kind).grade for kind in ("bigrams", "shuffled", "invented")] == ["bad"] * 3
    assert score_of("the author's") > score_of("bigrams") > score_of("shuffled")


@needs_data
def test_invented_words_count_on_the_scale_of_words() -> None:
    kinds = ("in the list", "in no list", "invented")
    by_words = [next(one.value for one in judge(kind).measures if one.name == "words") for kind in kinds]
    assert by_words[0] == 100 and by_words[1] < 40 and by_words[2] < 0


@needs_data
def test_the_answer_says_what_it_does_not_measure_and_no_score_is_above_the_author_s() -> None:
    verdict = judge("the author's")
    assert SENSE_LIMITS in verdict.sentence and "of 100" in verdict.sentence
    assert all(measure.value <= 100 and measure.floor and measure.ceiling for measure in verdict.measures)


@pytest.mark.parametrize(
    ("text", "own", "says"),
    [
        (SHORT[: LEAST_TEXT - 1], SHORT, "the text has 4,999 characters"),
        (SHORT, SHORT[:8_000], "the author's own text has"),
        ("a b " * 5_000, "a b " * 20_000, "not certainly better than nonsense"),
    ],
)
def test_it_says_when_it_cannot_say(text: str, own: str, says: str) -> None:
    verdict = judge_sense(text, own, "a b " * 7_000 if own.startswith("a b") else "")
    assert verdict.grade == "unsure" and says in verdict.sentence and "score" not in verdict.facts


def test_equal_seeds_give_equal_models_of_sentences() -> None:
    one, again, other = (SentenceModel.train(SHORT[:8_000], np.random.default_rng(seed)).weights for seed in (1, 1, 2))
    assert (one == again).all() and (one != other).any()


def test_a_critic_is_less_surprised_by_a_text_than_by_its_words_in_another_order() -> None:
    folder = BASES["small"].folder
    critic = Critic("small", open_decoder(folder, "fp32", find_hardware("cpu")), load_tokenizer(folder), 128)
    shuffled = shuffle_sentences(SHORT[:1_500], np.random.default_rng(0))
    assert critic.measure_bits(shuffled) > 1.2 * critic.measure_bits(SHORT[:1_500])
    with torch.inference_mode():
        assert critic.measure_bits("") == 0.0


def test_the_question_is_asked_of_every_text_and_shown_everywhere() -> None:
    author = Author(name="Shakespeare", documents=[SHORT[:60_000]], held_out=[SHORT[60_000:]])
    judgement = judge_text(SHORT[:20_000], "known", author)
    shown = {view.question: view for view in view_verdicts(judgement)}
    assert "Does it make sense?" in shown and shown["Does it make sense?"].measures
    plain = judgement.as_json()
    assert plain["makes_sense"]["sentence"] and Judgement.from_json(plain) == judgement
    assert summarise_judgement(judgement).count("cannot be told") + summarise_judgement(judgement).count("of 100") == 2


def test_the_summary_says_how_it_sounds_and_whether_it_makes_sense_together() -> None:
    sounds = Verdict(topic="sounds like", grade="good", sentence="", facts={"score": 94.2})
    nonsense = Verdict(topic="makes sense", grade="bad", sentence="", facts={"score": 12.0})
    built = Verdict(topic="makes sense", grade="good", sentence="", facts={"score": 94.0})

    def summarise(*verdicts: Verdict) -> str:
        return summarise_judgement(Judgement(text="", against="", n_characters=1, verdicts=verdicts))

    assert summarise(sounds, nonsense) == (
        "In short: it sounds like the author (94 of 100); its words and sentences are not built like the author's "
        "(12 of 100)."
    )
    assert summarise(sounds, built).endswith("Whether one sentence follows from another is not measured.")
    assert summarise() == ""


@pytest.mark.parametrize(
    ("score", "low", "high", "grade"),
    [
        (-40, -90, 20, "bad"),
        (30, -4, 80, "unsure"),  # could be nonsense, could be the author
        (39, 20, 70, "fair"),
        (70, 10, 100, "fair"),
        (90, 45, 100, "good"),
    ],
)
def test_only_a_band_that_is_low_as_a_whole_is_bad(score: float, low: float, high: float, grade: str) -> None:
    assert sense._grade_score(ScaleScore(score, low, high)) == grade


def test_bands_of_few_pieces_are_as_wide_as_chance_is() -> None:
    """Of 95 % bands, 95 in 100 have the truth in them; by resampling alone five pieces gave 83."""
    rng, n_pieces, n_tries = np.random.default_rng(1), 5, 2_000
    pieces = rng.normal(size=(n_tries, n_pieces))
    draws = pieces[np.arange(n_tries)[:, None, None], rng.integers(n_pieces, size=(n_tries, 200, n_pieces))].mean(2)
    ends = np.quantile(draws, [0.025, 0.975], axis=1).T
    means = pieces.mean(1)
    bands = [ScaleScore(float(mean), *map(float, end)) for mean, end in zip(means, ends, strict=True)]

    def count(several: list[ScaleScore]) -> float:
        return sum(band.low <= 0 <= band.high for band in several) / n_tries

    assert count(bands) < 0.86 and 0.93 < count([sense._widen(band, n_pieces) for band in bands]) < 0.97


def test_sensible_text_in_another_way_of_writing_is_not_called_nonsense() -> None:
    verdict = judge_sense("The boy had gone out to see whether the carrier was there. " * 200, SHORT, "", words=WORDS)
    assert verdict.grade == "bad" and "not built like the author's" in verdict.sentence
    assert "A text that makes sense but is written in another way can score as low." in verdict.sentence


def test_a_critic_that_is_not_there_is_named_as_one(tmp_path: Path) -> None:
    outcome = command("judge", write_sonnets(tmp_path, 6_000), "--author", tmp_path, "--critic", tmp_path / "none")
    said = " ".join(outcome.err.split())
    assert outcome.code == 2 and f"--critic {tmp_path / 'none'}: There is no folder" in said
    assert "--critic none" in said and "--base" not in said
