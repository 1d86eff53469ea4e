"""Whatever is asked, valid text comes; long texts take no more memory or time a token; batches change nothing."""

from __future__ import annotations

import time
from functools import cache

import psutil
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn import functional

from epigone.generation.generator import TextGenerator
from epigone.model.gpt2 import load_model
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import encode
from helpers_front import shared_run

PROMPTS = st.one_of(
    st.just(""),
    st.text(max_size=20),
    st.text("אבגד ابجد", max_size=20),
    st.text("ab \n", min_size=300, max_size=400),
    st.sampled_from(["\x00\x07", "é" * 150, "🦊👩‍👩‍👧", "\ufeff", "<|endoftext|>", "\r\n\r\n", "ﬁ\u0301"]),
)
WISHES = st.fixed_dictionaries(
    {"length": st.integers(1, 40)},
    optional={
        "unit": st.sampled_from(["tokens", "words", "characters"]),
        "stop_at": st.sampled_from(["anywhere", "sentence", "line", "paragraph", "speech", "document"]),
        "count": st.integers(1, 3),
        "temperature": st.sampled_from([0.0, 0.01, 0.7, 1.0, 3.0, 50.0]),
        "top_k": st.sampled_from([0, 1, 2, 50, 10_000]),
        "top_p": st.sampled_from([1e-6, 0.3, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.1, 0.99]),
        "repetition_penalty": st.sampled_from([1.0, 1.3, 20.0]),
        "no_repeat_ngram_size": st.integers(0, 4),
        "bad_words": st.lists(st.text(min_size=1, max_size=5), max_size=2).map(tuple),
        "loop_guard": st.sampled_from(["on", "off"]),
        "marks": st.sampled_from(["auto", "any"]),
        "stop": st.lists(st.text(max_size=4), max_size=2).map(tuple),
        "seed": st.integers(0, 2**32 - 1),
        "precision": st.sampled_from(["auto", "fp32", "bf16", "int8"]),
    },
)


def write_and_look(prompt: str, how: dict[str, object]) -> None:
    asked = WriteSettings(**how)  # type: ignore[arg-type]
    texts = shared_run().write(prompt, **how)
    assert len(texts) == asked.count
    streamed = [""] * asked.count
    for piece in shared_run().stream(prompt, **how):
        streamed[piece.sequence] += piece.text
    assert streamed == texts
    for text in texts:
        assert text.encode().decode() == text
        assert not any(stop in text for stop in asked.stop if stop)
        if asked.unit == "characters" and asked.stop_at == "anywhere":
            assert len(text) <= asked.length


@given(PROMPTS, WISHES)
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_prompt_and_settings_give_valid_text(prompt: str, how: dict[str, object]) -> None:
    write_and_look(prompt, how)


@pytest.mark.slow
@given(PROMPTS, WISHES)
@hypothesis_settings(max_examples=1_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_thousand_prompts_and_settings_give_valid_text(prompt: str, how: dict[str, object]) -> None:
    write_and_look(prompt, how)


@cache
def exact_generator() -> TextGenerator:
    return shared_run().open_generator(WriteSettings(precision="fp32"))


@pytest.mark.slow
def test_two_hundred_texts_are_the_same_alone_and_in_batches_of_eight() -> None:
    def write(count: int, first: int) -> list[str]:
        return exact_generator().write("Thou", WriteSettings(count=count, length=60, seed=first))

    alone = [write(1, seed)[0] for seed in range(200)]
    together = [text for first in range(0, 200, 8) for text in write(8, first)]
    assert sum(one == other for one, other in zip(alone, together, strict=True)) >= 198


@pytest.mark.slow
def test_a_long_text_costs_no_more_a_token_than_its_beginning_and_no_more_memory() -> None:
    def count_seconds(length: int) -> float:
        began = time.perf_counter()
        for _ in exact_generator().stream("Thou", WriteSettings(length=length)):
            pass
        return time.perf_counter() - began

    count_seconds(100)
    before = psutil.Process().memory_info().rss
    short = min(count_seconds(256) for _ in range(3)) / 256
    long = count_seconds(10_000) / 10_000
    assert long <= short / 0.6
    assert psutil.Process().memory_info().rss - before < 30e6


@pytest.mark.slow
def test_text_is_no_worse_where_the_window_moves_on() -> None:
    """Each token of many long texts, measured by the model itself with as much context as it can have."""
    run, context = shared_run(), exact_generator().decoder.n_positions
    model = load_model(run.folder.model)
    texts = exact_generator().write("", WriteSettings(count=32, length=4 * context, temperature=1.0, top_p=1.0))
    by_place: list[list[float]] = [[] for _ in range(context)]
    for text in texts:
        ids = torch.tensor(encode(text, run.open_generator(WriteSettings(precision="fp32")).tokenizer))
        for start in range(0, len(ids) - context):
            with torch.no_grad():
                logits = model(input_ids=ids[None, start : start + context]).logits[0, -1]
            place = (start + context) % (context // 2)
            by_place[place].append(float(functional.cross_entropy(logits, ids[start + context])))
    means = [sum(losses) / len(losses) for losses in by_place if losses]
    near, far = sum(means[: len(means) // 4]), sum(means[-len(means) // 4 :])
    assert near / far < 1.1
