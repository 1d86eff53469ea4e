"""Beside the model stand simple means: counts of letters, a compressor, the untouched base."""

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
    """The same as Witten and Bell put it, one byte at a time."""
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
def test_counts_are_smoothed_as_witten_and_bell_do(train: bytes, held_out: bytes, order: int) -> None:
    assert measure_ngrams(train, held_out, order) == pytest.approx(measure_slowly(train, held_out, order))


def test_the_chances_of_all_bytes_together_are_one() -> None:
    train = sonnets(40_000).encode()[:3000]
    start = b"Shall I comp"
    chances = []
    for byte in range(256):
        longer, shorter = (measure_ngrams(train, text) * len(text) for text in (start + bytes([byte]), start))
        chances.append(2 ** -(longer - shorter))
    assert sum(chances) == pytest.approx(1)


def test_a_text_that_was_seen_takes_few_bits_and_noise_all_of_them() -> None:
    text = sonnets(40_000).encode()
    noise = random.Random(0).randbytes(3000)
    for measure in (measure_ngrams, measure_compressed):
        assert measure(text, text[:2000]) < 0.7 * measure(text[3000:], text[:2000])
        assert measure(text, noise) > 7.5


LEARNED = LearningScore(held_out=2.0, training=1.8, counts=2.5, packed=2.7)


@pytest.mark.parametrize(
    ("change", "tone", "words"),
    [
        ({}, "good", "20 % fewer bits than counts of letters."),
        ({"held_out": 2.6}, "bad", "no better than counts of letters"),
        ({"held_out": 2.45, "training": 2.4}, "fair", "little more"),
        ({"training": 1.0}, "fair", "by heart"),
        ({"base": 2.1}, "good", "5 % fewer bits than the untouched base"),
        ({"base": 1.9}, "bad", "no better than the untouched base"),
    ],
)
def test_what_was_learned_is_held_against_the_best_of_the_simple_means(
    change: dict[str, float], tone: str, words: str
) -> None:
    verdict = judge_learning(replace(LEARNED, **change))
    assert verdict.tone == tone and words in verdict.sentence


def test_the_evidence_names_every_number() -> None:
    verdict = judge_learning(replace(LEARNED, base=2.2, others={"by another author": 2.9}))
    assert {measure.value for measure in verdict.measures} == {2.0, 2.2, 2.5, 2.7, 2.9}
    first = verdict.measures[0]
    assert first.floor and first.floor.value == 2.2 and first.ceiling and first.ceiling.value == 1.8
