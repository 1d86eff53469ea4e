"""A text in; what others' recipes make of it out, each as its users run it: one process, one JSON line at the end.

"nanogpt" is the character-level recipe that nanoGPT's README gives for a processor: 4 layers, 128 wide, blocks of 64,
batches of 12, 2,000 steps of AdamW, fp32. "trainer" is what transformers' run_clm.py does with its defaults:
blocks of 1,024, batches of 8, AdamW at 5e-5 falling in a straight line, dropout 0.1, fp32; of the shape and with the
vocabulary that are given, for as many steps as the seconds allow.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from epigone.tokens.tokenizer import encode, train_tokenizer

BLOCK, BATCH, STEPS, WARM_UP, WIDTH, LAYERS, HEADS = 64, 12, 2000, 100, 128, 4, 4
RATE, LEAST_RATE = 1e-3, 1e-4
EVALUATE_EVERY, EVALUATION_BATCHES = 250, 20
CLM_BLOCK, CLM_BATCH, CLM_PROBE = 1024, 8, 3


def main() -> None:
    """Learn the first nine tenths of a text like a peer, and print what the last tenth then costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["nanogpt", "trainer"])
    parser.add_argument("text", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0, help="for trainer")
    parser.add_argument("--size", default="4x192", help="for trainer")
    parser.add_argument("--vocab-size", type=int, default=1024, help="for trainer")
    asked = parser.parse_args()
    text = asked.text.read_text("utf-8")
    cut = int(0.9 * len(text))
    torch.manual_seed(1337)
    if asked.peer == "nanogpt":
        nats, n_steps = learn_like_nanogpt(text[:cut], text[cut:])
    else:
        n_layer, width = map(int, asked.size.split("x"))
        config = GPT2Config(
            vocab_size=asked.vocab_size, n_positions=CLM_BLOCK, n_layer=n_layer, n_embd=width, n_head=width // 32
        )
        nats, n_steps = learn_like_trainer(text[:cut], text[cut:], config, asked.seconds)
    held_out = text[cut:]
    print(
        json.dumps(
            {
                "nats_per_character": nats / len(held_out),
                "bits_per_byte": nats / math.log(2) / len(held_out.encode()),
                "n_steps": n_steps,
            }
        )
    )


# -- nanoGPT's character-level recipe


class CharacterBlock(nn.Module):
    """Attention and perceptron without biases or dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.attention, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: [batch, time, width]."""
        parts = self.attention(self.norm_1(x)).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        narrowed: torch.Tensor = x + self.narrow(functional.gelu(self.widen(self.norm_2(x))))
        return narrowed


class CharacterModel(nn.Module):
    """A GPT over characters whose embedding is also its head."""

    def __init__(self, n_characters: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(n_characters, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.Sequential(*(CharacterBlock() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                deep = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if deep else 0.02)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean nats a character. ids, targets: int64 [batch, time]."""
        x = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
        logits = self.norm(self.blocks(x)) @ self.embedding.weight.t()
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def learn_like_nanogpt(train: str, validation: str) -> tuple[float, int]:
    """Nats that the whole held-out text costs, and the steps taken."""
    characters = {character: number for number, character in enumerate(sorted(set(train + validation)))}
    learned, held_out = (torch.tensor([characters[one] for one in part]) for part in (train, validation))
    model = CharacterModel(len(characters))
    large = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    small = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": large, "weight_decay": 0.1}, {"params": small, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99))
    for step in range(STEPS + 1):
        if step % EVALUATE_EVERY == 0:  # its users see both losses
            with torch.no_grad():
                for part in (learned, held_out):
                    sum(model(*_draw(part)).item() for _ in range(EVALUATION_BATCHES))
        for group in optimizer.param_groups:
            group["lr"] = _nanogpt_rate(step)
        loss = model(*_draw(learned))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()  # which it logs
    return _measure(lambda ids, targets: model(ids, targets), held_out, BLOCK), STEPS


def _nanogpt_rate(step: int) -> float:
    if step < WARM_UP:
        return RATE * (step + 1) / (WARM_UP + 1)
    done = (step - WARM_UP) / (STEPS - WARM_UP)
    return LEAST_RATE + 0.5 * (1 + math.cos(math.pi * done)) * (RATE - LEAST_RATE)


def _draw(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    starts = torch.randint(len(ids) - BLOCK, (BATCH,)).tolist()
    blocks = torch.stack([ids[start : start + BLOCK + 1] for start in starts])
    return blocks[:, :-1], blocks[:, 1:]


# -- run_clm.py's recipe


def learn_like_trainer(train: str, validation: str, config: GPT2Config, seconds: float) -> tuple[float, int]:
    """The same, of transformers' Trainer, which gets as many steps as fit into the seconds."""
    began = time.monotonic()
    tokenizer = train_tokenizer([train], config.vocab_size)
    config.update({"bos_token_id": 0, "eos_token_id": 0})
    ids = torch.tensor(encode(train, tokenizer))
    blocks = [{"input_ids": block, "labels": block} for block in ids.unfold(0, CLM_BLOCK, CLM_BLOCK)]
    model = GPT2LMHeadModel(config)
    probe = time.monotonic()
    _train(model, blocks, CLM_PROBE)
    per_step = (time.monotonic() - probe) / CLM_PROBE
    n_steps = max(1, int((seconds - (time.monotonic() - began)) / per_step))
    model = GPT2LMHeadModel(config)
    _train(model, blocks, n_steps)
    model.eval()  # type: ignore[no-untyped-call]

    def measure(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), targets.flatten())

    return _measure(measure, torch.tensor(encode(validation, tokenizer)), CLM_BLOCK), n_steps


def _train(model: GPT2LMHeadModel, blocks: list[dict[str, torch.Tensor]], n_steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=n_steps,
            per_device_train_batch_size=CLM_BATCH,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
        )
        Trainer(model=model, args=arguments, train_dataset=blocks).train()


@torch.no_grad()
def _measure(loss: Any, ids: torch.Tensor, block: int) -> float:
    """Nats of all ids but the first, in blocks side by side."""
    total = 0.0
    for start in range(0, len(ids) - 1, block):
        piece = ids[start : start + block + 1]
        total += float(loss(piece[None, :-1], piece[None, 1:])) * (len(piece) - 1)
    return total


if __name__ == "__main__":
    main()
