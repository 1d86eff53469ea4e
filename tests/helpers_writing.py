"""What the tests of text generation share: a scripted model, random ones, and their tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from epigone.generation.generator import TextGenerator
from epigone.generation.sampling import TokenSampler, make_processors
from epigone.model.decoder import ReferenceDecoder, make_decoder
from epigone.settings import WriteSettings
from epigone.tokens.tokenizer import BPETokenizer, train_tokenizer
from helpers_front import sonnets

LETTERS = "Größe 🦊 漢字 e\u0301 ﬁn 🇩🇪 ok"
"""Characters of one to four bytes, and some that are made of several."""


class Parrot(torch.nn.Module):
    """A scripted model that says given ids, one after another, whatever it reads."""

    def __init__(self, ids: Sequence[int], n_entries: int) -> None:
        super().__init__()
        self.ids, self.n_entries, self.said = list(ids), n_entries, 0
        self.config = GPT2Config(n_positions=1024, n_layer=1, n_embd=32, n_head=1, vocab_size=n_entries)
        self.config.activation_function = "relu"  # no GPT-2 that could be computed otherwise than by calling it
        self.device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        logits = torch.full((len(input_ids), 1, self.n_entries), -1e4)
        logits[:, :, self.ids[self.said % len(self.ids)]] = 0.0
        self.said += 1
        return SimpleNamespace(logits=logits)


def parrot_generator(parrot: Parrot, tokenizer: BPETokenizer) -> TextGenerator:
    return TextGenerator(ReferenceDecoder(parrot), tokenizer)  # type: ignore[arg-type]


def make_sampler(seeds: Sequence[int], **how: Any) -> TokenSampler:
    settings = WriteSettings(**{"loop_guard": "off"} | how)
    return TokenSampler(settings, list(seeds), make_processors(settings, [], []))


@pytest.fixture(scope="module")
def bytes_only() -> BPETokenizer:
    """A tokenizer with the 256 bytes and the end of text."""
    return train_tokenizer(["ab"], 257)


def make_random_model(tokenizer: BPETokenizer, **more: Any) -> GPT2LMHeadModel:
    """An untrained model with sharp, far from uniform probabilities."""
    end = tokenizer.end_of_text_id
    shape = {"n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.4} | more
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = GPT2Config(vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, **shape)
        return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def random_tokenizer() -> BPETokenizer:
    return train_tokenizer([sonnets(20_000)], 300)


@pytest.fixture(scope="module")
def random_model(random_tokenizer: BPETokenizer) -> GPT2LMHeadModel:
    return make_random_model(random_tokenizer)


@pytest.fixture(scope="module")
def random_generator(random_model: GPT2LMHeadModel, random_tokenizer: BPETokenizer) -> TextGenerator:
    return TextGenerator(make_decoder(random_model), random_tokenizer)
