"""Benchmarks of a GPU, each within nine minutes: a 124M's training on one and on all, time to a loss, and writing.

`python tools/bench.py --gpu`, or this file with `--part steps|all|learning|writing` for one of them, and with
`--device cpu` in miniature, to see that it runs. Each part prints rows of a table; `--write` of bench.py keeps them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from bench import (
    NANOGPT_BEST,
    compare,
    describe_machine,
    make_plain_model,
    make_plan_and_tokens,
    make_step,
    make_writing,
    measure_product,
)
from bench import SHAPES as SHAPES_ON_CPU
from epigone.hardware import find_hardware
from epigone.model.decoder import WeightFormat
from epigone.planning.plan import Plan
from epigone.run import open_run
from epigone.tokens.tokenizer import train_tokenizer
from epigone.training.distributed import count_processes, is_main_process, join_processes
from recipes import read_sonnets

PARTS = ("steps", "all", "learning", "writing")
MOST_SECONDS = 540
"""For each part."""
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40": 181e12, "L4": 121e12, "4090": 165e12, "V100": 125e12}
"""Dense bf16 (V100: fp16) operations per second, by the makers' data sheets."""
HEAD = "| what | processes | tokens/s | of the product's rate | of the data sheet | memory, GB |"


def main() -> None:
    """Measure a part, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, help="one part alone")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: in miniature")
    parser.add_argument("--text", type=Path, help="tinyshakespeare, to learn it to 1.47 nats per character")
    asked = parser.parse_args()
    if count_processes() > 1:
        take_steps_together(asked.device)
        return
    print("\n".join(measure(asked.device, asked.text, [asked.part] if asked.part else list(PARTS))))


def measure(device: str, text: Path | None, parts: list[str]) -> list[str]:
    """The page."""
    lines = ["# Benchmarks on a GPU", "", describe_device(device), "", HEAD, "| --- | --- | --- | --- | --- | --- |"]
    lines += [_measure_steps(device)] if "steps" in parts else []
    if "all" in parts and (device == "cpu" or torch.cuda.device_count() > 1):
        lines += [row for how in ((), ("--shard",)) for row in _measure_all(device, how)]
    if "learning" in parts and (text is not None or device == "cpu"):
        lines += ["", measure_learning(device, text)]
    if "writing" in parts:
        lines += ["", "| writing | texts | transformers, tokens/s | epigone, tokens/s |", "| --- | --- | --- | --- |"]
        lines += measure_writing(device)
    return lines


def describe_device(device: str) -> str:
    """The processor and the GPUs."""
    if device == "cpu":
        return f"{describe_machine()} In miniature: these numbers only show that it runs."
    return f"{describe_machine()} {torch.cuda.device_count()} x {torch.cuda.get_device_name()}."


# -- steps


def _make_step(device: str) -> tuple[Plan, Callable[[], object], int]:
    """A plan for 124M at blocks of 1,024, a step of it, and steps in a round; in miniature another one."""
    small = device == "cpu"
    name, n_time, batch = ("2M", 64, 4) if small else ("124M", 1024, 16 * count_processes())
    plan, tokens = make_plan_and_tokens(name, device=device, n_time=n_time, batch=batch)  # type: ignore[arg-type]
    plan = replace(plan, batch=replace(plan.batch, n_processes=count_processes()))
    compilation = "off" if small else plan.compute.compile  # compiling takes longer than all the rest
    shards = "EPIGONE_BENCH_SHARDS" in os.environ
    plan = replace(plan, compute=replace(plan.compute, shards=shards, compile=compilation))
    return plan, make_step(plan, tokens), 2 if small else 10


def _measure_steps(device: str) -> str:
    plan, step, n_steps = _make_step(device)
    seconds, _ = compare(lambda: [step() for _ in range(n_steps)], lambda: None, 2 if device == "cpu" else 5)
    return show_pace(plan, n_steps * plan.batch.tokens_per_step / seconds, device)


def show_pace(plan: Plan, pace: float, device: str) -> str:
    """A row."""
    shape, n = plan.model.shape, plan.batch.n_processes
    name = f"{shape.n_parameters / 1e6:.0f}M at {plan.batch.block_size:,}" + ", divided" * plan.is_sharded
    if device == "cpu":
        return f"| {name} | {n} | {pace:,.0f} | – | – | – |"
    rate = pace * shape.count_flops(plan.batch.block_size) / n
    peak = next((value for card, value in PEAKS.items() if card in torch.cuda.get_device_name()), 0)
    sheet = f"{rate / peak:.0%}" if peak else "–"
    memory = torch.cuda.max_memory_allocated() / 1e9
    return f"| {name} | {n} | {pace:,.0f} | {rate / measure_product(plan):.0%} | {sheet} | {memory:.1f} |"


def _measure_all(device: str, how: tuple[str, ...]) -> list[str]:
    """The row of all GPUs, or of two processes in miniature; with `--shard` they divide the model."""
    n = 2 if device == "cpu" else torch.cuda.device_count()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), __file__]
    environment = {**os.environ, **({"EPIGONE_BENCH_SHARDS": "1"} if how else {})}
    done = subprocess.run(
        [*launch, "--device", device], env=environment, stdout=subprocess.PIPE, check=True, timeout=MOST_SECONDS
    )
    return [line for line in done.stdout.decode().splitlines() if line.startswith("|")]


def take_steps_together(device: str) -> None:
    """What each of several processes does; the first one prints the row."""
    with join_processes():
        plan, step, n_steps = _make_step(device)

        def take() -> None:
            for _ in range(n_steps):
                step()
            distributed.barrier()

        seconds, _ = compare(take, lambda: None, 2 if device == "cpu" else 5)
        row = show_pace(plan, n_steps * plan.batch.tokens_per_step / seconds, device)
        if is_main_process():
            print(row, flush=True)


# -- learning and writing


def measure_learning(device: str, text: Path | None) -> str:
    """How soon a new model reaches nanoGPT's best loss on the last tenth of a text."""
    small = device == "cpu"
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        minutes = "0.2" if small else "6"
        asked = ["--split", "tail", "--base", "none", "--minutes", minutes, "--samples", "0", "--out", str(run)]
        asked += ["--device", device, *(["--size", "2x64"] if small else []), "--quiet"]
        source = str(text) if text is not None else "sample:sonnets"
        subprocess.run([sys.executable, "-m", "epigone", "train", source, *asked], check=True, timeout=MOST_SECONDS)
        began = open_run(run)
        part = json.loads((run / "receipt.json").read_text("utf-8"))["validation"]
        per_character = part["n_tokens"] / part["n_characters"]
        losses = [(one.seconds, one.loss * per_character) for one in began.evaluations]
    there = [seconds for seconds, loss in losses if loss <= NANOGPT_BEST]
    first = f"after {there[0]:.0f} s" if there else "never"
    best = min(loss for _, loss in losses)
    what = f"{Path(source).name}, from scratch in {minutes} minutes"
    return f"{what}: {NANOGPT_BEST} nats per character {first}, {best:.3f} at best."


def measure_writing(device: str) -> list[str]:
    """One text and many at once, by `generate` and by epigone, both on the device."""
    torch.use_deterministic_algorithms(False)
    small = device == "cpu"
    name, length = ("2M", 12) if small else ("124M", 200)
    model = make_plain_model(replace(SHAPES_ON_CPU[name], n_positions=512)).to(device)  # type: ignore[arg-type]
    model.eval()
    tokenizer = train_tokenizer([read_sonnets()], 1024)
    form: WeightFormat = "bf16" if device == "cuda" and find_hardware("cuda").bf16 else "fp32"
    rows = []
    for count in (1, 2) if small else (1, 8, 64):
        plain, ours = compare(*make_writing(model, tokenizer, form, (count, length)), 2 if small else 5)
        rows.append(
            f"| {name}, {form} | {count} x {length} | {count * length / plain:,.0f} | {count * length / ours:,.0f} |"
        )
    return rows


if __name__ == "__main__":
    main()
