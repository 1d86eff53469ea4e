"""Trainer of the bundled base: one long run that can be stopped, resumed and finished at any time.

The learning rate stays constant after a warm-up, so that no end has to be chosen beforehand; a model to use is made
from any checkpoint by a short branch in which the rate falls to zero (Hägele et al. 2024, "Scaling laws and
compute-optimal training beyond fixed training durations"). Matrices learn with Muon, the rest with AdamW.

    python tools/base.py RUN --data DATA --size 12x256                begin, or go on where it stopped
    python tools/base.py RUN --decay-minutes 10 --out FOLDER          finish a copy beside the run
    python tools/base.py RUN --data DATA --pack-for-gpu FOLDER        at most 58 MB of DATA, to be taken to a GPU
    python tools/base.py RUN --data FOLDER --gpu-minutes 9 --out OUT  train and finish within nine minutes of one
    python tools/base.py MODEL --average EARLIER --data DATA --out O  the mean of two finished models
    python tools/base.py MODEL --data DATA --evaluate                 bits per byte of held-out text, by kind

DATA is made by tools/base_texts.py.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import os
import shutil
import signal
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("GOMP_SPINCOUNT", "16000")  # before torch is loaded; epigone/__init__.py says why

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from base_texts import read_documents
from epigone.backend import computes_bf16
from epigone.files import append_text, write_json, write_whole
from epigone.model.loss import NextTokenLoss
from epigone.tokens.dataset import Batches, read_in_order
from epigone.tokens.tokenizer import BPETokenizer, encode, list_token_bytes, load_tokenizer
from epigone.training.optimizer import FIVE, Muon

N_KEPT = 2
"""Checkpoints; the older one is for the case that the disk spoils the newer one."""
QUICK_TOKENS = 16_384
"""Of each kind of held-out text, looked at while training; of the books the first 4,096 tokens of each."""
BLOCKS_AT_ONCE = 8
PACKED, MOST_BYTES = "train.bin.xz", 58_000_000
DECAY_SHARE = 0.3
"""Of a run on the clock, in which the rate falls."""
SHARD = "15MB"
"""Largest file of weights that a GPU run leaves."""


class Settings(BaseModel):
    """What a run is made with; `run.json` in its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    size: str = "8x384"
    """Layers x width."""
    n_positions: int = 512
    seed: int = 1
    start: str | None = None
    """A GPT-2 folder of the same shape whose weights it begins with."""
    weight_decay: float = 0.02
    """Times the rate, it makes the weights an average over some thousand steps; 0.1 would be hundreds (findings)."""
    momentum: float = 0.95
    warmup_steps: int = 100

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and width."""
        n_layer, width = map(int, self.size.split("x"))
        return n_layer, width


class Leg(BaseModel):
    """A stretch of steps with the same batches and rates. A new one begins where a run is resumed with others.

    The blocks of a step depend on nothing but the seed, the number of the leg and the step's number in it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first_step: int
    block_size: int
    n_blocks: int
    """Blocks a step."""
    matrix_rate: float
    embedding_rate: float
    rate: float
    """Of gains and biases."""


class Progress(BaseModel):
    """How far a checkpoint is."""

    step: int = 0
    n_tokens: int = 0
    seconds: float = 0.0
    """On the clock, of steps alone; a pause counts a minute at most."""
    core_seconds: float = 0.0
    """Of all cores together: what the run has cost, however busy the machine was."""
    legs: list[Leg] = []


class Run:
    """A model, its optimizer and how far they are; `step` learns from the next blocks."""

    def __init__(self, settings: Settings, progress: Progress, device: str = "cpu", compile: str = "layers") -> None:
        self.settings, self.progress, self.device = settings, progress, torch.device(device)
        self.tokenizer = load_tokenizer(Path(settings.data) / "tokenizer")
        self.ids = np.memmap(Path(settings.data) / "train.bin", np.uint16, "r")
        self.model = make_model(settings, self.tokenizer).to(self.device)  # type: ignore[arg-type]
        self.optimizer = make_optimizer(self.model, settings, self.precision)
        compiled: Any = compile
        self.loss = NextTokenLoss(
            self.model, attention=choose_attention(device), dtype=self.precision, compile=compiled
        )
        self._batches: tuple[int, Batches] | None = None

    @property
    def precision(self) -> torch.dtype:
        """bf16 where the machine computes in it."""
        return torch.bfloat16 if self.device.type == "cuda" or computes_bf16() else torch.float32

    @property
    def leg(self) -> Leg:
        """That of the next step."""
        return self.progress.legs[-1]

    def step(self, factor: float = 1.0) -> torch.Tensor:
        """Learn from one step's blocks at `factor` of the rates; the mean loss, before the step."""
        began, began_work = time.perf_counter(), time.process_time()
        leg, number = self.leg, self.progress.step - self.leg.first_step
        self._set_rates(factor * min(1.0, (self.progress.step + 1) / self.settings.warmup_steps))
        ids, targets = (part.to(self.device, non_blocking=True) for part in self._open_batches().read(number))
        self.model.train()
        loss: torch.Tensor = self.loss(ids, targets).objective
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.n_tokens += leg.n_blocks * leg.block_size
        self.progress.seconds += min(time.perf_counter() - began, 60.0)
        self.progress.core_seconds += time.process_time() - began_work
        return loss.detach()

    def _set_rates(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = factor * getattr(self.leg, group["rate"])

    def _open_batches(self) -> Batches:
        number = len(self.progress.legs)
        if self._batches is None or self._batches[0] != number:
            leg, seed = self.leg, 1_000 * self.settings.seed + number
            batches = Batches(self.ids, block_size=leg.block_size, blocks_per_step=leg.n_blocks, seed=seed)
            self._batches = number, batches
        return self._batches[1]


def make_model(settings: Settings, tokenizer: BPETokenizer) -> GPT2LMHeadModel:
    """A fresh GPT-2 in fp32, or with the weights of `settings.start`."""
    n_layer, width = settings.shape
    n_head = width // (64 if width % 64 == 0 else 32)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=settings.n_positions, n_embd=width, n_layer=n_layer, n_head=n_head,
        activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.end_of_text_id, eos_token_id=tokenizer.end_of_text_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = GPT2LMHeadModel(config)
    if settings.start:
        load_weights(model, load_file(Path(settings.start) / "model.safetensors"))
    return model


def load_weights(model: GPT2LMHeadModel, tensors: dict[str, torch.Tensor]) -> None:
    """Put weights into a model of the same shape. Raises RuntimeError where one is missing or strange."""
    found = model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    if found.unexpected_keys or set(found.missing_keys) - {"lm_head.weight"}:
        raise RuntimeError(f"These weights are of another model: {found}")


def make_optimizer(model: GPT2LMHeadModel, settings: Settings, dtype: torch.dtype) -> Muon:
    """Muon for the blocks' matrices (queries, keys and values apart), AdamW for embeddings, gains and biases.

    `rate` names the leg's field that is a group's learning rate.
    """
    named = list(model.named_parameters())
    inner = [(name, one) for name, one in named if ".h." in name and one.dim() >= 2]
    decay = {"weight_decay": settings.weight_decay}
    groups: list[dict[str, Any]] = [
        decay | {"params": [one for name, one in inner if ".c_attn." in name], "n_parts": 3, "rate": "matrix_rate"},
        decay | {"params": [one for name, one in inner if ".c_attn." not in name], "n_parts": 1, "rate": "matrix_rate"},
        decay
        | {"params": [one for name, one in named if one.dim() >= 2 and ".h." not in name], "rate": "embedding_rate"},
        {"params": [one for _, one in named if one.dim() < 2], "weight_decay": 0.0, "rate": "rate"},
    ]
    return Muon(groups, dtype=dtype, momentum=settings.momentum, polynomials=FIVE)


def choose_attention(device: str) -> Literal["eager", "sdpa"]:
    """What was faster: plain attention on processors, the fused one on GPUs."""
    return "sdpa" if device == "cuda" else "eager"


# -- checkpoints: STEP.safetensors and, written last, STEP.json


def save_checkpoint(run: Run, folder: Path) -> None:
    """Write the newest checkpoint whole, then delete those that are too old."""
    tensors = {
        f"model:{name}": value.detach() for name, value in run.model.state_dict().items() if name != "lm_head.weight"
    }
    for name, parameter in run.model.named_parameters():
        for entry, value in run.optimizer.state[parameter].items():
            tensors[f"{entry}:{name}"] = value
    ready = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    stem = folder / "checkpoints" / f"{run.progress.step:08d}"
    write_whole(stem.with_suffix(".safetensors"), partial(save_file, ready))
    write_json(stem.with_suffix(".json"), run.progress.model_dump())
    for old in list_checkpoints(folder)[:-N_KEPT]:
        old.unlink()
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """The JSON files of whole checkpoints, oldest first."""
    return sorted((folder / "checkpoints").glob("*.json"))


def open_run(folder: Path, device: str = "cpu", compile: str = "layers") -> Run:
    """A run as its newest checkpoint has it, or from its beginning. Raises SystemExit where there is none."""
    if not (folder / "run.json").exists():
        raise SystemExit(f"{folder} holds no run: begin one with --data DATA.")
    settings = Settings.model_validate_json((folder / "run.json").read_text("utf-8"))
    found = list_checkpoints(folder)
    progress = Progress.model_validate_json(found[-1].read_text("utf-8")) if found else Progress()
    run = Run(settings, progress, device, compile)
    if found:
        tensors = load_file(found[-1].with_suffix(".safetensors"))
        parts = {name: name.split(":", 1) for name in tensors}
        load_weights(run.model, {name: tensors[key] for key, (entry, name) in parts.items() if entry == "model"})
        parameters = dict(run.model.named_parameters())
        for key, (entry, name) in parts.items():
            if entry != "model":
                run.optimizer.state[parameters[name]][entry] = tensors[key].to(parameters[name].device)
    return run


# -- held-out text


class HeldOut:
    """Ids of held-out documents by kind, each after an end-of-text token, and how many bytes each id stands for."""

    def __init__(self, data: Path, tokenizer: BPETokenizer, *, quick: bool) -> None:
        self.n_bytes = np.array([len(piece) for piece in list_token_bytes(tokenizer)])
        self.streams: dict[str, list[int]] = {}
        most = QUICK_TOKENS // 4 if quick else 1 << 40
        for document in read_documents(find_held_out(data)):
            stream = self.streams.setdefault(document.kind, [tokenizer.end_of_text_id])
            if not quick or document.kind == "books" or len(stream) < QUICK_TOKENS:
                stream += [*encode(document.text, tokenizer)[:most], tokenizer.end_of_text_id]

    @torch.no_grad()
    def measure(self, model: GPT2LMHeadModel, block_size: int, dtype: torch.dtype) -> dict[str, float]:
        """Bits per byte of each kind, in blocks that do not overlap, and the mean of the modern kinds."""
        model.eval()  # type: ignore[no-untyped-call]
        loss = NextTokenLoss(model, attention="sdpa", dtype=dtype)
        found = {}
        for kind, stream in sorted(self.streams.items()):
            ids, nats = np.array(stream), 0.0
            for batch in read_in_order(ids, block_size=block_size, batch_size=BLOCKS_AT_ONCE):
                ids_in, targets = (part.to(model.device) for part in batch)
                nats += float(loss(ids_in, targets).nats) * targets.numel()
            found[kind] = round(nats / math.log(2) / int(self.n_bytes[ids[1:]].sum()), 4)
        modern = [value for kind, value in found.items() if kind != "books"]
        return found | ({"modern": round(sum(modern) / len(modern), 4)} if modern else {})


def find_held_out(data: Path) -> Path:
    """held_out.jsonl lies beside or above the packed data."""
    return next(path for path in (data / "held_out.jsonl", data.parent / "held_out.jsonl") if path.exists())


# -- the workflows


class Stop:
    """Whether a signal has asked the run to save and end."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True


def train(run: Run, folder: Path, asked: argparse.Namespace) -> None:
    """Learn until a signal, --tokens or --minutes end it; save and measure every so many minutes."""
    stop, held_out = Stop(), HeldOut(Path(run.settings.data), run.tokenizer, quick=True)
    saved, looked = time.monotonic(), time.process_time()
    began, losses, times = run.progress.seconds, [], []
    while not stop.asked and not is_over(run.progress, began, asked):
        before = run.progress.seconds
        losses.append(run.step())
        times.append(run.progress.seconds - before)
        if time.process_time() - looked > 60 * asked.evaluate_minutes:
            note(run, folder, held_out, losses, times)
            looked = time.process_time()
        if time.monotonic() - saved > 60 * asked.save_minutes:
            save_checkpoint(run, folder)
            saved = time.monotonic()
    save_checkpoint(run, folder)
    if not stop.asked:
        note(run, folder, held_out, losses, times)


def is_over(progress: Progress, began: float, asked: argparse.Namespace) -> bool:
    """Whether the tokens of the run or the minutes of this call are used up."""
    too_many = asked.tokens is not None and progress.n_tokens >= asked.tokens
    return too_many or (asked.minutes is not None and progress.seconds - began >= 60 * asked.minutes)


def note(run: Run, folder: Path, held_out: HeldOut, losses: list[torch.Tensor], times: list[float]) -> None:
    """Add a line to curve.jsonl and empty both lists."""
    tokens_a_step = run.leg.n_blocks * run.leg.block_size
    line = run.progress.model_dump(exclude={"legs"}) | {
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "tokens_per_second": round(tokens_a_step / statistics.median(times)) if times else None,
        "train_loss": round(float(torch.stack(losses).mean()), 4) if losses else None,
        "block_size": run.leg.block_size,
        "bits_per_byte": held_out.measure(run.model, run.leg.block_size, run.precision),
    }
    append_text(folder / "curve.jsonl", json.dumps(line) + "\n")
    losses.clear()
    times.clear()


def decay(run: Run, minutes: float, stop: Stop) -> None:
    """Let the rate fall to zero, by one minus the root of the share of the minutes that are over (without pauses)."""
    began, share = run.progress.seconds, 0.0
    while share < 1 and not stop.asked:
        run.step(1 - math.sqrt(share))
        share = (run.progress.seconds - began) / (60 * minutes)


def finish(run: Run, minutes: float, out: Path) -> None:
    """Decay, measure everything and write a stock folder."""
    first = run.progress.model_copy()
    decay(run, minutes, Stop())
    found = HeldOut(Path(run.settings.data), run.tokenizer, quick=False).measure(
        run.model, run.leg.block_size, run.precision
    )
    save_model(run.model, run.tokenizer, out)
    facts = run.progress.model_dump() | {"decayed_from_step": first.step, "bits_per_byte": found}
    write_json(out / "facts.json", facts | {"settings": run.settings.model_dump()})
    print(json.dumps(found))


# -- nine minutes of a GPU


def pack_for_gpu(data: Path, out: Path, most: int = MOST_BYTES) -> None:
    """A folder of at most so many bytes with the tokenizer, held-out text and as many packed documents as fit.

    Documents are packed in random order, so the first ones are a fair sample.
    """
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(data / "tokenizer", out / "tokenizer")
    shutil.copyfile(find_held_out(data), out / "held_out.jsonl")
    left = most - sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    ids, chunk = np.memmap(data / "train.bin", np.uint16, "r"), 1 << 20
    compressor = lzma.LZMACompressor(preset=6)
    with (out / PACKED).open("wb") as file:
        for start in range(0, len(ids), chunk):
            if file.tell() + 3 * chunk > left:  # what the compressor holds back is less than that
                break
            file.write(compressor.compress(ids[start : start + chunk].tobytes()))
        file.write(compressor.flush())


def unpack(data: Path) -> None:
    """Make train.bin of what `pack_for_gpu` wrote."""
    if not (data / "train.bin").exists():
        with lzma.open(data / PACKED) as file:
            (data / "train.bin").write_bytes(file.read())


def train_on_clock(run: Run, minutes: float, out: Path) -> None:
    """Train and finish within some minutes from now: a constant rate, then a falling one over the last 30 %."""
    began, seconds = time.monotonic(), 60 * minutes - min(40.0, 12 * minutes)  # what is left measures and writes
    losses: list[float] = []
    while (share := (time.monotonic() - began) / seconds) < 1:
        fallen = max(0.0, share - 1 + DECAY_SHARE) / DECAY_SHARE
        loss = run.step(1 - math.sqrt(fallen))
        if run.progress.step % 10 == 1:
            losses.append(float(loss))  # this waits for the GPU, so that the clock tells the truth
    held_out = HeldOut(Path(run.settings.data), run.tokenizer, quick=True)
    found = held_out.measure(run.model, run.leg.block_size, run.precision)
    save_model(run.model, run.tokenizer, out, SHARD)
    facts = run.progress.model_dump() | {"losses": losses[:: max(1, len(losses) // 200)], "bits_per_byte": found}
    write_json(out / "facts.json", facts | {"settings": run.settings.model_dump()})
    print(json.dumps({"steps": run.progress.step, "tokens": run.progress.n_tokens} | found))


def save_model(model: GPT2LMHeadModel, tokenizer: BPETokenizer, out: Path, shard: str = "200MB") -> None:
    """A stock GPT-2 folder in bf16 with its tokenizer."""
    shutil.rmtree(out, ignore_errors=True)
    stock = tokenizer.as_stock()
    stock.model_max_length = model.config.n_positions
    stock.save_pretrained(out)
    copy = GPT2LMHeadModel(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(out, max_shard_size=shard)  # type: ignore[arg-type]
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors makes files that only their owner may read
    end = tokenizer.end_of_text_id
    GenerationConfig(do_sample=True, temperature=0.8, top_p=0.95, bos_token_id=end, eos_token_id=end).save_pretrained(  # type: ignore[no-untyped-call]
        out
    )


def evaluate_model(folder: Path, data: Path) -> dict[str, float]:
    """Bits per byte by kind of a finished model, in blocks as long as its context."""
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    held_out = HeldOut(data, load_tokenizer(folder), quick=False)
    return held_out.measure(model, model.config.n_positions, torch.bfloat16 if computes_bf16() else torch.float32)


def average(later: Path, earlier: Path, data: Path, out: Path) -> None:
    """Write the mean of the weights of two finished models, of which one was trained on from the other, and measure it.

    Between two ends of falling rates the mean needs fewer bits than either (Wortsman et al. 2022, arXiv 2203.05482).
    """
    model, other = (GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32) for folder in (later, earlier))
    with torch.no_grad():
        for weights, theirs in zip(model.parameters(), other.parameters(), strict=True):
            weights.lerp_(theirs, 0.5)
    save_model(model, load_tokenizer(later), out)
    facts, before = (json.loads((folder / "facts.json").read_text("utf-8")) for folder in (later, earlier))
    found = evaluate_model(out, data)
    write_json(out / "facts.json", facts | {"averaged_with": before["n_tokens"], "bits_per_byte": found})
    print(json.dumps(found))


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder, or with --evaluate a model's")
    parser.add_argument("--data", type=Path, help="what tools/base_texts.py made")
    parser.add_argument("--size", default="8x384", help="layers x width")
    parser.add_argument("--positions", type=int, default=512, help="the longest context")
    parser.add_argument("--start", type=Path, help="a GPT-2 folder to begin with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--block-size", type=int, help="tokens a block; another one begins a new leg")
    parser.add_argument("--blocks", type=int, help="blocks a step")
    parser.add_argument("--matrix-rate", type=float)
    parser.add_argument("--embedding-rate", type=float)
    parser.add_argument("--rate", type=float, help="of gains and biases")
    parser.add_argument("--tokens", type=float, help="end when so many were read in all")
    parser.add_argument("--minutes", type=float, help="end after so many of training")
    parser.add_argument("--save-minutes", type=float, default=10)
    parser.add_argument("--evaluate-minutes", type=float, default=40, help="of one core")
    parser.add_argument("--compile", choices=("off", "layers", "full"), default="layers")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--decay-minutes", type=float, help="finish a copy of the newest checkpoint in so many")
    parser.add_argument("--gpu-minutes", type=float, help="train and finish on a GPU in so many")
    parser.add_argument("--pack-for-gpu", type=Path, help="where to put a part of the data that is small enough")
    parser.add_argument("--device", default="cuda", help="with --gpu-minutes: cpu, to try it in miniature")
    parser.add_argument("--out", type=Path, help="where the finished model goes")
    parser.add_argument("--evaluate", action="store_true", help="measure a finished model")
    parser.add_argument("--average", type=Path, help="the finished model that RUN, a finished one, was trained on from")
    return parser.parse_args()


DEFAULTS: dict[str, Any] = {
    "block_size": 512,
    "n_blocks": 16,
    "matrix_rate": 0.02,
    "embedding_rate": 0.01,
    "rate": 0.005,
}


def choose_leg(progress: Progress, asked: argparse.Namespace) -> None:
    """Begin a new leg where the command line asks for other batches or rates than the last one's."""
    last = progress.legs[-1].model_dump(exclude={"first_step"}) if progress.legs else DEFAULTS
    names = {"block_size": "block_size", "n_blocks": "blocks"} | {name: name for name in list(DEFAULTS)[2:]}
    wanted = {field: getattr(asked, name) or last[field] for field, name in names.items()}
    if wanted != last or not progress.legs:
        progress.legs.append(Leg(first_step=progress.step, **wanted))


def main() -> None:
    """Do what the command line asks."""
    asked = read_arguments()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.evaluate:
        print(json.dumps(evaluate_model(asked.run, asked.data)))
        return
    if asked.average:
        average(asked.run, asked.average, asked.data, asked.out)
        return
    if asked.pack_for_gpu:
        pack_for_gpu(asked.data, asked.pack_for_gpu)
        return
    if asked.gpu_minutes:
        unpack(asked.data)
    write_settings(asked)
    run = open_run(asked.run, asked.device if asked.gpu_minutes else "cpu", asked.compile)
    choose_leg(run.progress, asked)
    out = asked.out or asked.run / "finished"
    if asked.gpu_minutes:
        train_on_clock(run, asked.gpu_minutes, out)
    elif asked.decay_minutes:
        finish(run, asked.decay_minutes, out)
    else:
        train(run, asked.run, asked)


def write_settings(asked: argparse.Namespace) -> None:
    """Begin a run with what the command line says; one that has begun keeps its settings."""
    if not (asked.run / "run.json").exists() and asked.data:
        settings = Settings(
            data=str(asked.data.resolve()), size=asked.size, n_positions=asked.positions, seed=asked.seed,
            start=str(asked.start.resolve()) if asked.start else None,
        )  # fmt: skip
        write_json(asked.run / "run.json", settings.model_dump())


if __name__ == "__main__":
    main()
