"""A text comes in; out goes a folder with a small GPT-2 in the layout of the published one, tokenizer and all."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel

from helpers_front import make_once, sonnets

END = "<|endoftext|>"


def make_standin(
    folder: Path,
    *,
    text: str,
    steps: int = 0,
    seed: int = 0,
    n_layer: int = 2,
    n_embd: int = 64,
    n_positions: int = 128,
    vocab_size: int = 512,
) -> Path:
    """The folder. With `steps` of AdamW the model knows something of the text; same arguments, same files."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder, text=text, vocab_size=vocab_size, n_positions=n_positions)
    n_entries = tokenizer.get_vocab_size()
    config = GPT2Config(
        vocab_size=n_entries,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=max(1, n_embd // 32),
        n_positions=n_positions,
        bos_token_id=n_entries - 1,
        eos_token_id=n_entries - 1,
        architectures=["GPT2LMHeadModel"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
        train(model, torch.tensor(tokenizer.encode(text).ids), steps=steps)
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    # The published file has no "transformer." before its names and no lm_head, which is tied to wte.
    save_file(model.transformer.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_tokenizer(folder: Path, *, text: str, vocab_size: int, n_positions: int) -> Tokenizer:
    """A byte-level BPE learned from the text and saved as GPT-2's is; <|endoftext|> is its last entry, as in GPT-2."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    learner.train_from_iterator([text], trainer)
    learner.model.save(str(folder))
    entries = json.loads((folder / "vocab.json").read_text("utf-8"))
    entries[END] = len(entries)
    (folder / "vocab.json").write_text(json.dumps(entries, ensure_ascii=False), "utf-8")

    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([END])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": n_positions}), "utf-8")
    return tokenizer


def train(model: GPT2LMHeadModel, ids: torch.Tensor, *, steps: int, learning_rate: float = 3e-3) -> None:
    """AdamW on random blocks; ids: int64 [time]. Draws from torch's global generator."""
    block_size = min(64, model.config.n_positions, len(ids) - 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    model.train(True)
    for _ in range(steps):
        starts = torch.randint(len(ids) - block_size, (8,))
        batch = torch.stack([ids[start : start + block_size] for start in starts.tolist()])
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.train(False)


@cache
def hub_root() -> Path:
    """A hub's folder with a gpt2 that has learned something of the later sonnets."""
    text = sonnets(95_000)[20_000:]
    return make_once(
        "hub", lambda root: make_standin(root / "gpt2", text=text, steps=60, n_positions=64, vocab_size=1_500)
    )
