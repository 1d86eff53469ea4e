"""A space at the end of a prompt begins the first word, as tokens have it."""

from __future__ import annotations

import pytest
import torch

from epigone.generation.generator import TextGenerator
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import encode
from helpers_writing import random_generator, random_model, random_tokenizer

__all__ = ["random_generator", "random_model", "random_tokenizer"]


def begin_with_space(generator: TextGenerator, prompt: str, settings: WriteSettings) -> list[str]:
    """Texts whose first token is one that begins with a space, by a processor of the caller."""
    unspaced = torch.tensor([not piece.startswith(b" ") for piece in generator.token_bytes])
    n_prompt = len(encode(prompt, generator.tokenizer) or generator.start)

    def force(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(unspaced, -torch.inf) if ids.shape[1] == n_prompt else scores

    return generator.write(prompt, settings, [force])


@pytest.mark.parametrize("prompt", ["From fairest", "Thy self, thy", "a\n", ""])
def test_a_space_at_the_end_begins_the_first_word(random_generator: TextGenerator, prompt: str) -> None:
    settings = WriteSettings(length=60, unit="characters", count=6, temperature=1.0)
    texts = random_generator.write(f"{prompt} ", settings)
    expected = begin_with_space(random_generator, prompt, settings.model_copy(update={"length": 61}))
    assert all(text.startswith(" ") for text in expected)
    assert texts == [text[1:] for text in expected]
    assert list(random_generator.write_records(f"{prompt} ", settings))[2].text == texts[2]


def test_other_prompts_are_read_as_they_are(random_generator: TextGenerator) -> None:
    settings = WriteSettings(length=30, unit="tokens", temperature=1.0, stop_at="anywhere")
    for prompt in ("From", "From\n", "From\t"):
        ids = encode(prompt, random_generator.tokenizer)
        tokens = [step[0] for step in random_generator.stream_tokens(ids, settings)]
        text = b"".join(random_generator.token_bytes[token] for token in tokens).decode("utf-8", "replace")
        assert random_generator.write(prompt, settings) == [text]
    ids = encode("From ", random_generator.tokenizer)
    assert list(random_generator.stream_tokens(ids, settings)), "tokens that a caller gives are taken as they are"
