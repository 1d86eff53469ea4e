"""This machine's processor in, tokens per second out: epigone's step and writing beside plain transformers'.

They take turns in one process; medians are shown. Weights and ids are random.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from epigone.model.gpt2 import build_model
from epigone.model.hardware import choose_precision, find_hardware
from epigone.model.plan import Facts, Plan, Shape, make_plan
from epigone.model.route import Route
from epigone.settings import Settings, WritingSettings
from epigone.text.corpus import read_corpus
from epigone.tokens.stream import Part, Tokens
from epigone.tokens.vocabulary import encode, end_of_text_id, learn_vocabulary
from epigone.training.loop import Learner
from epigone.writing.engine import Writer

VOCABULARY = 1024
SHAPES = {
    "2M": Shape(n_layer=4, n_embd=192, n_head=6, n_positions=128, vocabulary_size=VOCABULARY),
    "5M": Shape(n_layer=6, n_embd=256, n_head=4, n_positions=256, vocabulary_size=VOCABULARY),
    "124M": Shape(n_layer=12, n_embd=768, n_head=12, n_positions=256, vocabulary_size=50_257),
}
"""What is trained, by its parameters; the blocks are as long as it has positions."""
BATCHES = {"2M": 16, "5M": 16, "124M": 4}
DROPOUT = 0.1
PRODUCT = (1024, 768, 3072)
Work = Callable[[], object]


def main() -> None:
    """Measure, print, and with --write keep it as docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, short texts and no 124M: rough")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    asked = parser.parse_args()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    n_rounds, length = (3, 60) if asked.quick else (9, 240)
    names = [name for name in SHAPES if name != "124M" or not asked.quick]
    lines = ["# Benchmarks", "", describe_machine(), "", *NOTES, "", "## A training step", ""]
    lines += ["| model | transformers, tokens/s | epigone, tokens/s | ratio | of the product's rate |"]
    lines += ["| --- | --- | --- | --- | --- |", *(_compare_steps(name, n_rounds) for name in names)]
    lines += ["", "## Writing, 5M", "", "| texts | transformers, tokens/s | epigone, tokens/s | ratio |"]
    lines += ["| --- | --- | --- | --- |"]
    for count in (1, 8):
        seconds = compare(*make_writing(count, length), n_rounds)
        lines.append(f"| {count} x {length} tokens | {_show(seconds, count * length)} |")
    page = "\n".join(lines) + "\n"
    print(page)
    if asked.write:
        Path("docs/benchmarks.md").write_text(page, "utf-8", newline="\n")


NOTES = (
    "`make bench` measures this anew. The two take turns in one process; medians of the rounds are shown.",
    "",
    "transformers' step is its default recipe: fp32, dropout 0.1 everywhere, the attention that it picks, the loss of",
    "the model's forward, gradients clipped at 1, fused AdamW. epigone's is what its plan takes for a run of ten",
    "minutes, with the same dropout but for the attention, and with its own optimizer. The product's rate is that of",
    "1024x768 times 768x3072 in bf16 (fp32 where the machine does not compute in bf16); a step's arithmetic is counted",
    "as 6 N + 12 L d T a token. Writing: one fp32 model, temperature 0.8, top_p 0.95.",
)


def _compare_steps(name: str, n_rounds: int) -> str:
    shape = SHAPES[name]
    plan, tokens = make_plan_and_tokens(name)
    seconds = compare(*make_steps(plan, tokens), n_rounds if name != "124M" else 5)
    rate = plan.tokens_per_step * shape.count_flops(plan.block_size) / seconds[1]
    share = rate / measure_product(plan)
    return f"| {name} | {_show(seconds, plan.tokens_per_step)} | {share:.0%} |"


def make_plan_and_tokens(name: str) -> tuple[Plan, Tokens]:
    """The plan that epigone makes for random ids and ten minutes, 124M fine-tuned and the others from scratch."""
    shape = SHAPES[name]
    ids = np.random.default_rng(0).integers(shape.vocabulary_size, size=1_000_000, dtype=np.uint16)
    part = Part(ids=ids, n_tokens=len(ids), n_documents=1, n_characters=3 * len(ids), n_bytes=3 * len(ids))
    tokens = Tokens(train=part, validation=part, key="bench")
    base = shape if name == "124M" else None
    settings = Settings(
        base="gpt2" if base else "none",
        size="auto" if base else f"{shape.n_layer}x{shape.n_embd}",
        block_size=shape.n_positions,
        batch_size=BATCHES[name],
        dropout=DROPOUT,
        device="cpu",
        minutes=10.0,
    )
    facts = Facts(
        tokens=tokens,
        hardware=find_hardware("cpu"),
        route=Route(base=settings.base, vocabulary_size=0, reason="", vocabulary_reason=""),
        vocabulary_size=shape.vocabulary_size,
        base_shape=base,
    )
    return make_plan(settings, facts), tokens


def measure_product(plan: Plan) -> float:
    """Operations per second of one large matrix product in the plan's precision."""
    dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
    left, right = torch.randn(PRODUCT[:2]).to(dtype), torch.randn(PRODUCT[1:]).to(dtype)
    seconds = compare(lambda: [left @ right for _ in range(50)], lambda: None, 9)[0] / 50
    return 2 * math.prod(PRODUCT) / seconds


def make_steps(plan: Plan, tokens: Tokens) -> tuple[Work, Work]:
    """A training step of plain transformers, and one of epigone."""
    learner = Learner(build_model(replace(plan, base="none"), None, 0), tokens, plan)
    model = make_plain_model(plan.shape)
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
    model = make_plain_model(replace(SHAPES["5M"], n_positions=512))
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


def make_plain_model(shape: Shape) -> GPT2LMHeadModel:
    """The shape in transformers' own defaults."""
    config = GPT2Config(
        vocab_size=shape.vocabulary_size,
        n_positions=shape.n_positions,
        n_embd=shape.n_embd,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
    )
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


def _show(seconds: tuple[float, float], n_tokens: int) -> str:
    plain, ours = (n_tokens / one for one in seconds)
    return f"{plain:,.0f} | {ours:,.0f} | {ours / plain:.2f}"


def describe_machine() -> str:
    """The processor, the threads and the versions."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    machine = f"{names[0] if names else platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    precision = choose_precision("auto", find_hardware("cpu"))[0]
    return f"On {date.today():%Y-%m-%d}, {machine}, {precision}; {versions}."


if __name__ == "__main__":
    main()
