"""Repetition: loops are noticed, and what the author repeats may be repeated."""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigone.evaluation.repetition import (
    check_repetition,
    choose_unit,
    judge_repetition,
    measure_range,
    measure_repetition,
)
from helpers_front import sonnets
from helpers_tokens import DATA, needs_data

LOOP = "It was the best of times, it was the worst of times, and so on. "
CHINESE = "春眠不覺曉處處聞啼鳥夜來風雨聲花落知多少床前明月光疑是地上霜舉頭望明月低頭思故鄉"
VERSE = "Aye, says the wind, and nay, says the rain, and over the hill we go again.\n"


def count_repeated_slowly(words: list[str]) -> float:
    """The share of four-word passages that are not the first of their kind."""
    grams = Counter(" ".join(words[start : start + 4]) for start in range(len(words) - 3))
    return sum(count - 1 for count in grams.values()) / max(1, grams.total())


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=40))
def test_repeated_passages_are_counted_as_one_would_by_hand(words: list[str]) -> None:
    found = measure_repetition(" ".join(words), "words", n_units=10)
    whole = [words[start : start + 10] for start in range(0, max(1, len(words) - 9), 10) if words]
    assert found.repeated == pytest.approx(list(map(count_repeated_slowly, whole)))


def test_compression_is_that_of_zlib() -> None:
    text = sonnets(4_500)
    sizes = [len(zlib.compress(text[start : start + 2_000].encode(), 9)) for start in (0, 2_000)]
    expected = [len(text[start : start + 2_000].encode()) / size for start, size in zip((0, 2_000), sizes, strict=True)]
    assert measure_repetition(text).compression == pytest.approx(expected)


def test_words_are_compared_without_case_and_white_space() -> None:
    found = measure_repetition("one two three four\nONE  Two\tthree four")
    assert found.repeated == (pytest.approx(1 / 5),)


def test_empty_and_tiny_texts_have_numbers_too() -> None:
    assert measure_repetition("").mean_repeated == 0 and measure_repetition("").mean_compression == 0
    assert measure_repetition("one").repeated == (0,) and len(measure_repetition("one").compression) == 1
    assert measure_repetition("\ud800").unit == "words"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("The time is out of joint.", "words"),
        ("Donaudampfschifffahrtsgesellschaft ist ein Wort.", "words"),
        (CHINESE, "characters"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "characters"),
        ("ในน้ำมีปลาในนามีข้าวเจ้าเมืองบ่เอาจกอบในไพร่ลู่ทาง", "characters"),
        ("나는 오늘 학교에 가서 친구를 만났다.", "words"),
        ("", "words"),
    ],
)
def test_texts_without_spaces_are_measured_in_characters(text: str, unit: str) -> None:
    assert choose_unit(text) == unit


@pytest.mark.parametrize(("share", "grades"), [(0.0, {"good"}), (0.25, {"bad"}), (1.0, {"bad"})])
def test_the_more_a_text_loops_the_worse(share: float, grades: set[str]) -> None:
    text, held_out = sonnets(60_000)[40_000:], sonnets(40_000)
    n_looped = int(share * len(text))
    looped = text[: len(text) - n_looped] + (LOOP * 1_000)[:n_looped]
    verdict = judge_repetition(looped, held_out)
    assert verdict.topic == "repeats" and verdict.grade in grades, verdict.sentence
    assert verdict.facts["looped"] == pytest.approx(share, abs=0.1)
    json.dumps(verdict.facts)


def test_a_chinese_text_that_loops_is_bad_too() -> None:
    chinese = "".join(chr(0x4E00 + number * number * 7 % 3_001) for number in range(6_000))
    assert judge_repetition(chinese[:2_500], chinese[2_500:]).grade == "good"
    verdict = judge_repetition(CHINESE * 60, chinese)
    assert verdict.grade == "bad" and "characters" in verdict.measures[0].name


def test_one_endless_word_does_not_evade_the_check() -> None:
    assert judge_repetition("ha" * 5_000, sonnets(20_000)).grade == "bad"


def test_an_author_s_refrains_may_be_repeated() -> None:
    poem = "".join(sonnets(40_000)[start : start + 300] + "\n" + VERSE * 3 for start in range(0, 39_000, 300))
    half = len(poem) // 2
    assert judge_repetition(poem[:half], poem[half:]).grade == "good"
    assert judge_repetition(poem[:half], sonnets(60_000)[40_000:]).grade == "bad"


def test_a_few_words_are_too_few_to_say() -> None:
    assert judge_repetition("ha ha ha ha ha ha ha ha", sonnets(20_000)).grade == "unsure"
    assert judge_repetition(sonnets(20_000), "").grade == "unsure"
    assert judge_repetition("", "").grade == "unsure"


def test_the_author_s_mean_is_in_the_author_s_range() -> None:
    usual = measure_range(sonnets(90_000))
    for mean, (low, high) in (
        (usual.own.mean_repeated, usual.repeated),
        (usual.own.mean_compression, usual.compression),
    ):
        assert low <= mean <= high


def test_a_sample_is_checked_in_milliseconds() -> None:
    usual = measure_range(sonnets(90_000), n_units=128, n_characters=800)
    start = time.process_time()
    for number in range(20):
        found, grade = check_repetition(sonnets(90_000)[number * 1_000 :][:1_000], usual)
        assert grade == "good", (number, found)
    assert time.process_time() - start < 1
    assert check_repetition((LOOP * 20)[:1_000], usual)[1] == "bad"


@needs_data
@pytest.mark.parametrize("name", ["austen-1342", "dickens-98", "melville-15", "twain-76"])
def test_an_author_s_own_text_is_not_repetitive(name: str) -> None:
    text = (DATA / "gutenberg" / f"{name}.txt").read_text("utf-8", "replace")
    half = len(text) // 2
    assert judge_repetition(text[half - 50_000 : half], text[half : half + 200_000]).grade == "good"
