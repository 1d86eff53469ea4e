"""What is written is what the model says: transformers' own probabilities, whole characters, no traces elsewhere."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2LMHeadModel

from epigone.generation.generator import TextGenerator
from epigone.model.decoder import ReferenceDecoder
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import BPETokenizer, encode
from helpers_front import shared_run
from helpers_writing import (
    LETTERS,
    Parrot,
    bytes_only,
    parrot_generator,
    random_generator,
    random_model,
    random_tokenizer,
)

__all__ = ["bytes_only", "random_model", "random_tokenizer", "random_generator"]


# -- characters


def test_pieces_never_end_within_a_character(bytes_only: BPETokenizer) -> None:
    ids = encode(LETTERS, bytes_only)
    assert len(ids) == len(LETTERS.encode())
    generator = parrot_generator(Parrot(ids, len(bytes_only)), bytes_only)
    pieces = [piece.text for piece in generator.stream("x", WriteSettings(length=len(ids), temperature=0))]
    assert "".join(pieces) == LETTERS and all(len(piece) == 1 for piece in pieces)


def test_half_a_character_at_the_end_is_not_shown(bytes_only: BPETokenizer) -> None:
    ids = encode("a🦊", bytes_only)
    generator = parrot_generator(Parrot(ids, len(bytes_only)), bytes_only)
    assert generator.write("x", WriteSettings(length=len(ids) - 1, temperature=0)) == ["a"]


def test_bytes_that_are_no_character_become_replacement_characters(bytes_only: BPETokenizer) -> None:
    ids = [encode("é", bytes_only)[0], *encode("ok", bytes_only)]
    generator = parrot_generator(Parrot(ids, len(bytes_only)), bytes_only)
    assert generator.write("x", WriteSettings(length=3, temperature=0)) == ["\ufffdok"]


def test_a_stop_string_is_found_across_tokens_and_characters(bytes_only: BPETokenizer) -> None:
    text = "one 🦊🦊 two"
    for stop, kept in (("🦊🦊", "one "), ("🦊 t", "one 🦊"), ("wo", "one 🦊🦊 t"), ("one", ""), ("x", text)):
        generator = parrot_generator(Parrot(encode(text, bytes_only), len(bytes_only)), bytes_only)
        settings = WriteSettings(length=len(text.encode()), temperature=0, stop=(stop,))
        assert generator.write("x", settings) == [kept]


def test_the_end_of_text_is_never_written(bytes_only: BPETokenizer) -> None:
    """A model that wants nothing else has to say something else."""
    end = bytes_only.end_of_text_id
    generator = parrot_generator(Parrot([end], len(bytes_only)), bytes_only)
    for temperature in (0.0, 1.0):
        settings = WriteSettings(length=50, temperature=temperature, loop_guard="off")
        tokens = [ids[0] for ids in generator.stream_tokens([1], settings)]
        assert len(tokens) == 50 and end not in tokens


# -- batches


def test_a_batch_writes_what_its_texts_alone_would_be() -> None:
    """Sums in another order may tip one draw in very many."""
    run = shared_run()
    together = [text for first in range(0, 40, 8) for text in run.write("Thou", count=8, length=24, seed=first)]
    alone = [run.write("Thou", length=24, seed=seed)[0] for seed in range(40)]
    assert sum(one == other for one, other in zip(together, alone, strict=True)) >= 0.99 * 40


def test_past_the_context_a_text_goes_on_from_its_second_half(
    random_model: GPT2LMHeadModel, random_generator: TextGenerator
) -> None:
    """When the 48 positions are used up, the next token is predicted from the last 24 alone."""
    prompt = encode("From", random_generator.tokenizer)
    settings = WriteSettings(length=100, temperature=0, loop_guard="off")
    tokens = [ids[0] for ids in random_generator.stream_tokens(prompt, settings)]
    written = prompt + tokens
    with torch.no_grad():
        logits = random_model(input_ids=torch.tensor([written[49 - 24 : 49]])).logits[0, -1]
    logits[random_generator.end_of_text] = -torch.inf
    assert written[49] == int(logits.argmax())


# -- state elsewhere


def test_writing_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    shared_run().write(length=5, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_random_numbers_do_not_move_a_text() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = shared_run().write(length=20)
        torch.manual_seed(2)
        assert shared_run().write(length=20) == first


@pytest.mark.parametrize("training", [True, False])
def test_writing_leaves_the_model_as_it_was(
    random_model: GPT2LMHeadModel, random_tokenizer: BPETokenizer, training: bool
) -> None:
    model, generator = random_model, TextGenerator(ReferenceDecoder(random_model), random_tokenizer)
    model.train(training)
    first = generator.write("From", WriteSettings(length=5))
    assert model.training is training and all(parameter.grad is None for parameter in model.parameters())
    stream = generator.stream("From", WriteSettings(length=50))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert model.training is training
    model.eval()
    assert generator.write("From", WriteSettings(length=5)) == first, "dropout was on"
