"""This machine's processor in, tokens per second out: epigone's step and writing beside plain transformers'.

They take turns in one process; medians are shown. The GPT-2 has 6 layers of width 256, random weights and random ids.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from epigone.model.gpt2 import build_model
from epigone.model.hardware import find_hardware
from epigone.model.plan import Facts, Plan, make_plan
from epigone.model.route import Route
from epigone.settings import Settings, WritingSettings
from epigone.text.corpus import read_corpus
from epigone.tokens.stream import Part, Tokens
from epigone.tokens.vocabulary import encode, end_of_text_id, learn_vocabulary
from epigone.training.loop import Learner
from epigone.writing.engine import Writer

VOCABULARY, BLOCK, BATCH = 1024, 256, 16
SETTINGS = Settings(
    base="none", size="6x256", vocabulary=VOCABULARY, block_size=BLOCK, batch_size=BATCH, dropout=0.1, device="cpu"
)
Work = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds and short texts: seconds, and rough")
    quick = parser.parse_args().quick
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    n_rounds, length = (3, 60) if quick else (9, 240)
    plan, tokens = make_plan_and_tokens()
    print(describe_machine(plan), "", f"{'':28}{'transformers':>14}{'epigone':>10}{'ratio':>8}   [tokens/s]", sep="\n")
    _show(f"training step {BATCH}x{BLOCK}", compare(*make_steps(plan, tokens), n_rounds), plan.tokens_per_step)
    for count in (1, 8):
        seconds = compare(*make_writing(count, length), n_rounds)
        _show(f"writing {count} x {length} tokens", seconds, count * length)
    print("", *NOTES, sep="\n")


NOTES = (
    "transformers' step: fp32, GPT2Config's defaults (dropout 0.1 everywhere, the attention it picks), the loss of the",
    "model's forward, gradients clipped at 1, fused AdamW as its Trainer uses. epigone's: what its plan derives here,",
    "with dropout 0.1 but none in the attention. Writing: one fp32 model, temperature 0.8, top_p 0.95.",
)


def make_plan_and_tokens() -> tuple[Plan, Tokens]:
    """The plan that epigone makes for random ids, enough for a few hundred steps."""
    ids = np.random.default_rng(0).integers(VOCABULARY, size=1_000_000, dtype=np.uint16)
    part = Part(ids=ids, n_tokens=len(ids), n_documents=1, n_characters=3 * len(ids), n_bytes=3 * len(ids))
    tokens = Tokens(train=part, validation=part, key="bench")
    route = Route(base="none", vocabulary_size=VOCABULARY, reason="", vocabulary_reason="")
    facts = Facts(tokens=tokens, hardware=find_hardware("cpu"), route=route, vocabulary_size=VOCABULARY)
    return make_plan(SETTINGS, facts), tokens


def make_steps(plan: Plan, tokens: Tokens) -> tuple[Work, Work]:
    """A training step of plain transformers, and one of epigone."""
    learner = Learner(build_model(plan, None, 0), tokens, plan)
    model = make_plain_model(n_positions=BLOCK)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)

    def step_plainly() -> None:
        torch.use_deterministic_algorithms(False)
        ids, _ = learner.batches.read(0)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def step() -> None:
        torch.use_deterministic_algorithms(True)  # as epigone has it on a processor
        learner.step()

    return step_plainly, step


def make_writing(count: int, length: int) -> tuple[Work, Work]:
    """The same texts' worth of tokens by `generate`, and by epigone's writer."""
    torch.use_deterministic_algorithms(False)
    text = read_corpus(["sample:sonnets"], encoding="auto", keep_boilerplate=False).documents[0].text
    vocabulary = learn_vocabulary([text], VOCABULARY)
    model = make_plain_model(n_positions=2 * BLOCK)
    model.eval()  # type: ignore[no-untyped-call]
    generator: Any = model  # its declared types fit no model
    prompt, end = "Shall I compare", end_of_text_id(vocabulary)
    ids = torch.tensor([encode(prompt, vocabulary)] * count)
    writer, asked = Writer(model, vocabulary), WritingSettings(length=length, count=count)
    how = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0, "pad_token_id": end}
    how |= {"min_new_tokens": length, "max_new_tokens": length}

    def generate() -> None:
        written = generator.generate(ids, attention_mask=torch.ones_like(ids), **how)
        if written.shape[1] != ids.shape[1] + length:
            raise RuntimeError("generate emitted another number of tokens than asked")

    return generate, lambda: writer.write(prompt, asked)


def make_plain_model(n_positions: int) -> GPT2LMHeadModel:
    """The shape in transformers' own defaults."""
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=n_positions, n_embd=256, n_layer=6, n_head=4)
    config.update({"bos_token_id": 0, "eos_token_id": 0})
    return GPT2LMHeadModel(config)


def compare(one: Work, other: Work, n_rounds: int) -> tuple[float, float]:
    """Median seconds of each, taken in turns after one round that does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(n_rounds + 1):
        for work, times in zip((one, other), seconds, strict=True):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def _show(name: str, seconds: tuple[float, float], n_tokens: int) -> None:
    plain, ours = (n_tokens / one for one in seconds)
    print(f"{name:28}{plain:>14,.0f}{ours:>10,.0f}{ours / plain:>8.2f}", flush=True)


def describe_machine(plan: Plan) -> str:
    """The processor, the threads and the versions."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    machine = f"{names[0] if names else platform.processor() or platform.machine()}, {plan.n_threads} threads"
    return f"{machine}; {versions}; epigone's plan: {plan.precision}, {plan.attention} attention"


if __name__ == "__main__":
    main()
