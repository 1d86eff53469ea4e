"""A model is compared with baselines: a letter n-gram model, a compressor and the untouched base."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from epigone.evaluation.baselines import LearningScore, judge_learning, measure_compressed, measure_ngrams
from helpers_front import sonnets

FEW = st.text("ab c", min_size=1, max_size=60).map(str.encode)


def measure_slowly(train: bytes, held_out: bytes, order: int) -> float:
    """The same, one byte at a time, as in Witten and Bell."""
    followers: dict[tuple[int, bytes], Counter[int]] = defaultdict(Counter)
    for n_context in range(order + 1):
        padded = bytes(n_context) + train
        for place in range(len(train)):
            followers[n_context, padded[place : place + n_context]][padded[place + n_context]] += 1
    bits = 0.0
    for place, byte in enumerate(held_out):
        chance = 1 / 256
        for n_context in range(order + 1):
            seen = followers.get((n_context, (bytes(n_context) + held_out)[place : place + n_context]))
            if seen:
                chance = (seen[byte] + len(seen) * chance) / (seen.total() + len(seen))
        bits -= math.log2(chance)
    return bits / len(held_out)


@given(FEW, FEW, st.integers(0, 7))
@hypothesis_settings(max_examples=100, deadline=None)
def test_the_n_gram_model_is_witten_and_bell_s(train: bytes, held_out: bytes, order: int) -> None:
    assert measure_ngrams(train, held_out, order) == pytest.approx(measure_slowly(train, held_out, order))


def test_the_probabilities_of_all_bytes_add_up_to_one() -> None:
    train = sonnets(40_000).encode()[:3000]
    start = b"Shall I comp"
    chances = []
    for byte in range(256):
        longer, shorter = (measure_ngrams(train, text) * len(text) for text in (start + bytes([byte]), start))
        chances.append(2 ** -(longer - shorter))
    assert sum(chances) == pytest.approx(1)


def test_known_text_takes_few_bits_and_noise_takes_all_of_them() -> None:
    text = sonnets(40_000).encode()
    noise = random.Random(0).randbytes(3000)
    for measure in (measure_ngrams, measure_compressed):
        assert measure(text, text[:2000]) < 0.7 * measure(text[3000:], text[:2000])
        assert measure(text, noise) > 7.5


LEARNED = LearningScore(held_out=2.0, training=1.8, counts=2.5, packed=2.7)


@pytest.mark.parametrize(
    ("change", "grade", "words"),
    [
        ({}, "good", "20 % fewer bits than a letter n-gram model."),
        ({"held_out": 2.6}, "bad", "no better than a letter n-gram model does"),
        ({"held_out": 2.45, "training": 2.4}, "fair", "which is little"),
        ({"training": 1.0}, "fair", "memorized"),
        ({"base": 2.1}, "good", "5 % fewer bits than the untouched base"),
        ({"base": 1.9}, "bad", "no better than the untouched base does"),
    ],
)
def test_a_model_is_compared_with_the_best_baseline(change: dict[str, float], grade: str, words: str) -> None:
    verdict = judge_learning(replace(LEARNED, **change))
    assert verdict.grade == grade and words in verdict.sentence


def test_the_evidence_names_every_number() -> None:
    verdict = judge_learning(replace(LEARNED, base=2.2, others={"by another author": 2.9}))
    assert {measure.value for measure in verdict.measures} == {2.0, 2.2, 2.5, 2.7, 2.9}
    first = verdict.measures[0]
    assert first.floor and first.floor.value == 2.2 and first.ceiling and first.ceiling.value == 1.8
