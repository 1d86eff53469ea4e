"""Texts that have ended are decoded no more, and the others stay what they are."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2LMHeadModel

from epigone.generation.batch import GenerationBatch
from epigone.generation.generator import TextGenerator
from epigone.model.combination import GuidedDecoder
from epigone.model.decoder import Decoder, ReferenceDecoder, make_decoder
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import BPETokenizer
from helpers_writing import random_generator, random_model, random_tokenizer

__all__ = ["random_generator", "random_model", "random_tokenizer"]


@pytest.mark.parametrize("kind", ["fast", "reference", "guided"])
def test_texts_that_have_ended_are_decoded_no_more(
    random_model: GPT2LMHeadModel,
    random_tokenizer: BPETokenizer,
    kind: str,
) -> None:
    """And the others become what they are alone, with their log-probabilities, past the end of the context too."""
    fast = make_decoder(random_model)
    made: dict[str, Decoder] = {
        "fast": fast,
        "reference": ReferenceDecoder(random_model),
        "guided": GuidedDecoder(fast, fast, 1.5),
    }
    generator = TextGenerator(made[kind], random_tokenizer)
    settings = WriteSettings(length=60, unit="tokens", count=5, stop=("a",), temperature=1.0, repetition_penalty=1.05)
    batch, generation = GenerationBatch(generator.decoder), generator.begin("From", settings, n_likeliest=0)
    batch.add(generation)
    counts = []
    while not generation.is_done:
        batch.step()
        counts.append(generation.count)
    assert sorted(set(counts), reverse=True)[0] == 5 and counts[-1] < 5 and counts == sorted(counts, reverse=True)
    assert len(generation.tokens) == 5
    sums = generation.sum_log_probabilities()
    for number, detector in enumerate(generation.detectors):
        (alone,) = generator.write_records("From", settings.model_copy(update={"seed": number, "count": 1}))
        assert alone.n_tokens == detector.n_tokens
        assert alone.log_probability == pytest.approx(sums[number], rel=1e-4)
    whole = generator.write("From", settings)
    assert whole == [
        generator.write("From", settings.model_copy(update={"seed": number, "count": 1}))[0] for number in range(5)
    ]


def test_a_caller_s_own_processor_sees_all_texts_to_the_end(random_generator: TextGenerator) -> None:
    """It may remember its rows."""
    seen = []

    def look(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(len(ids))
        return scores

    settings = WriteSettings(length=60, unit="tokens", count=4, stop=("a",), temperature=1.0)
    assert random_generator.write("From", settings, [look]) == random_generator.write("From", settings)
    assert set(seen) == {4}
