"""This machine in, a page of numbers out: epigone's step, memory, writing and learning beside what others do."""

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
from typing import Any, Literal

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from epigone.generation.generator import TextGenerator
from epigone.hardware import choose_precision, find_hardware
from epigone.model.decoder import WeightFormat, make_decoder
from epigone.model.gpt2 import build_model
from epigone.model.size import Shape
from epigone.planning.choice import Choice
from epigone.planning.choose_base import BaseChoice
from epigone.planning.plan import Plan, PlanInputs, make_plan
from epigone.settings import TrainSettings, WriteSettings
from epigone.tokens.dataset import Batches, TokenDataset, TokenSplit
from epigone.tokens.tokenizer import BPETokenizer, encode, train_tokenizer
from epigone.training.trainer import Trainer
from recipes import compare_recipes, read_sonnets, run_whole

VOCABULARY = 1024
SHAPES = {
    "2M": Shape(n_layer=4, n_embd=192, n_head=6, n_positions=128, vocab_size=VOCABULARY),
    "5M": Shape(n_layer=6, n_embd=256, n_head=4, n_positions=256, vocab_size=VOCABULARY),
    "124M": Shape(n_layer=12, n_embd=768, n_head=12, n_positions=256, vocab_size=50_257),
}
"""What is trained, by its parameters; the blocks are as long as it has positions."""
BATCHES = {"2M": 16, "5M": 16, "124M": 4}
DROPOUT = 0.1
PRODUCT = (1024, 768, 3072)
NANOGPT_BEST = 1.47
"""nanoGPT's README: tinyshakespeare, three minutes of an A100."""
Work = Callable[[], object]


def main() -> None:
    """Measure, print, and with --write keep it as docs/dev/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, short texts, no 124M, no recipes: rough")
    parser.add_argument(
        "--gpu", action="store_true", help="GPUs: 124M on one and on all, writing, and with --text learning"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="of --gpu; cpu: in miniature")
    parser.add_argument("--text", type=Path, help="learn this text by each recipe; its last tenth is tested on")
    parser.add_argument("--write", action="store_true", help="write benchmarks.md, or benchmarks-gpu.md, in docs/dev")
    parser.add_argument("--alone", choices=["transformers", "epigone"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if asked.alone:
        return take_steps_alone(asked.alone)
    if asked.gpu:
        from bench_gpu import PARTS, measure  # which imports this

        lines = measure(asked.device, asked.text, list(PARTS))
    else:
        lines = measure_processor(quick=asked.quick, text=asked.text)
    page = "\n".join(lines) + "\n"
    print(page)
    if asked.write:
        name = "benchmarks-gpu.md" if asked.gpu else "benchmarks.md"
        Path("docs", "dev", name).write_text(page, "utf-8", newline="\n")
    return None


WRITTEN: tuple[tuple[str, WeightFormat], ...] = (
    ("2M", "fp32"),
    ("2M", "int8"),
    ("5M", "int8"),
    ("124M", "bf16"),
    ("124M", "int8"),
)
NOTES = (
    "`make bench` measures this again. What is compared runs in turns in one process; medians of the rounds are shown.",
    "",
    "transformers' step is its default recipe: fp32, dropout 0.1 everywhere, the attention that it picks, the loss of",
    "the model's forward, gradients clipped at 1, fused AdamW. epigone's is what its plan takes for a run of ten",
    "minutes, with the same dropout but for the attention, and with its own optimizer. The product's rate is that of",
    "1024x768 times 768x3072 in bf16 (fp32 where the machine does not compute in bf16); a step's arithmetic is counted",
    "as 6 N + 12 L d T a token. Writing: random weights, 512 positions, temperature 0.8, top_p 0.95; transformers in",
    "fp32, epigone in the format that stands beside the model. Memory is the most that three steps took, in a process",
    "of their own.",
)


def measure_processor(*, quick: bool, text: Path | None) -> list[str]:
    """The page for a processor."""
    n_rounds, length = (3, 60) if quick else (9, 240)
    names = [name for name in SHAPES if name != "124M" or not quick]
    lines = ["# Benchmarks", "", describe_machine(), "", *NOTES, "", "## A training step", ""]
    lines += ["| model | transformers, tokens/s | epigone, tokens/s | ratio | of the product's rate |"]
    lines += ["| --- | --- | --- | --- | --- |", *(_compare_steps(name, n_rounds) for name in names)]
    lines += ["", "## Writing", "", "| model | texts | transformers, tokens/s | epigone, tokens/s | ratio |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name, form in WRITTEN:
        if name in names:
            large = name == "124M"
            rows = compare_writing(name, form, length // 4 if large else length, 5 if large else n_rounds)
            lines += rows
    if not quick:
        peaks = [run_whole([__file__, "--alone", who])[2] / 1e9 for who in ("transformers", "epigone")]
        lines += ["", "## Memory, 124M, batches of 4 x 256", ""]
        lines += ["| transformers, GB | epigone, GB | ratio |", "| --- | --- | --- |"]
        lines += [f"| {peaks[0]:.2f} | {peaks[1]:.2f} | {peaks[1] / peaks[0]:.2f} |"]
        lines += compare_recipes(text)
    return lines


def take_steps_alone(who: str) -> None:
    """Three steps of 124M, for its memory to be looked at from outside."""
    plan, tokens = make_plan_and_tokens("124M")
    step = make_plain_step(plan, tokens) if who == "transformers" else make_step(plan, tokens)
    for _ in range(3):
        step()


# -- steps


def _compare_steps(name: str, n_rounds: int) -> str:
    shape = SHAPES[name]
    plan, tokens = make_plan_and_tokens(name)
    seconds = compare(make_plain_step(plan, tokens), make_step(plan, tokens), n_rounds if name != "124M" else 5)
    rate = plan.batch.tokens_per_step * shape.count_flops(plan.batch.block_size) / seconds[1]
    share = rate / measure_product(plan)
    return f"| {name} | {_show(seconds, plan.batch.tokens_per_step)} | {share:.0%} |"


def make_plan_and_tokens(
    name: str, *, device: Literal["cpu", "cuda"] = "cpu", n_time: int | None = None, batch: int | None = None
) -> tuple[Plan, TokenDataset]:
    """The plan that epigone makes for random ids and ten minutes, 124M fine-tuned and the others from scratch."""
    shape = replace(SHAPES[name], n_positions=n_time or SHAPES[name].n_positions)
    ids = np.random.default_rng(0).integers(shape.vocab_size, size=1_000_000, dtype=np.uint16)
    part = TokenSplit(ids=ids, n_tokens=len(ids), n_documents=1, n_characters=3 * len(ids), n_bytes=3 * len(ids))
    tokens = TokenDataset(train=part, validation=part, key="bench")
    base = shape if name == "124M" else None
    settings = TrainSettings(
        base="gpt2" if base else "none",
        size="auto" if base else f"{shape.n_layer}x{shape.n_embd}",
        block_size=shape.n_positions,
        batch_size=batch or BATCHES[name],
        dropout=DROPOUT,
        device=device,
        minutes=10.0,
    )
    inputs = PlanInputs(
        tokens=tokens,
        hardware=find_hardware(device),
        chosen=BaseChoice(Choice(settings.base, ""), Choice(0, "")),
        vocab_size=shape.vocab_size,
        base_shape=base,
    )
    return make_plan(settings, inputs), tokens


def measure_product(plan: Plan) -> float:
    """Operations per second of one large matrix product in the plan's precision."""
    dtype = torch.bfloat16 if plan.compute.precision == "bf16" else torch.float32
    sizes = PRODUCT if plan.compute.device == "cpu" else tuple(8 * size for size in PRODUCT)
    left, right = (torch.randn(sizes[n : n + 2]).to(plan.compute.device, dtype) for n in (0, 1))
    seconds = compare(lambda: [left @ right for _ in range(50)], lambda: None, 9)[0] / 50
    return 2 * math.prod(sizes) / seconds


def make_plain_step(plan: Plan, tokens: TokenDataset) -> Work:
    """A training step of plain transformers."""
    batches = Batches(
        tokens.train.ids, block_size=plan.batch.block_size, blocks_per_step=plan.batch.blocks_per_step, seed=plan.seed
    )
    model = make_plain_model(plan.model.shape)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)

    def step() -> None:
        torch.use_deterministic_algorithms(False)
        ids, _ = batches.read(0)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_step(plan: Plan, tokens: TokenDataset) -> Work:
    """A training step of epigone."""
    learner = Trainer(build_model(plan.model, None, 0, seed=plan.seed), tokens, plan)

    def step() -> None:
        torch.use_deterministic_algorithms(plan.compute.device == "cpu")  # as epigone has it
        learner.step()

    return step


def compare_writing(name: str, form: WeightFormat, length: int, n_rounds: int) -> list[str]:
    """Rows for one text and for eight."""
    torch.use_deterministic_algorithms(False)
    tokenizer = train_tokenizer([read_sonnets()], VOCABULARY)
    model = make_plain_model(replace(SHAPES[name], n_positions=512))
    model.eval()  # type: ignore[no-untyped-call]
    rows = []
    for count in (1, 8):
        seconds = compare(*make_writing(model, tokenizer, form, (count, length)), n_rounds)
        rows.append(f"| {name}, {form} | {count} x {length} tokens | {_show(seconds, count * length)} |")
    return rows


def make_writing(
    model: GPT2LMHeadModel, tokenizer: BPETokenizer, form: WeightFormat, sizes: tuple[int, int]
) -> tuple[Work, Work]:
    """The same texts' worth of tokens by `generate`, and by epigone's writer."""
    count, length = sizes
    generator: Any = model  # its declared types fit no model
    prompt, end = "Shall I compare", tokenizer.end_of_text_id
    ids = torch.tensor([encode(prompt, tokenizer)] * count, device=model.device)
    writer = TextGenerator(make_decoder(model, form), tokenizer)
    writer.token_bytes += [b"?"] * (model.config.vocab_size - len(writer.token_bytes))  # of random weights
    asked = WriteSettings(length=length, count=count)
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
        vocab_size=shape.vocab_size,
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
            if torch.cuda.is_available():
                torch.cuda.synchronize()
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
