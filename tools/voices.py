"""Measure how several authors are learned best: each alone, all in one run, with a control token for each, or both.

It takes a file of each author. Of each the last characters are held out: a third to keep the best weights by, the rest
to report. All layouts read each text equally often. A line of JSON for each layout goes to `--results`, where what is
there is not measured again; the table comes last.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import GPT2LMHeadModel

from epigone.corpus.corpus import read_corpus, unwrap_corpus
from epigone.model.gpt2 import load_model
from epigone.model.hub import find_base
from epigone.pipeline import base_weights_loader
from epigone.preparation import prepare
from epigone.settings import ReadSettings, TrainSettings
from epigone.tokens.dataset import Batch, Batches, Ids
from epigone.tokens.tokenizer import BPETokenizer, encode, load_tokenizer
from epigone.training.trainer import Recorder, Trainer

KEPT_BY, REPORTED = 12_000, 24_000
"""Characters at the end of each text that weights are chosen by, and that the table is of."""
BLOCK = 256
UNTAGGED = 0.1
"""Share of the blocks that do without their control token."""
Result = dict[str, Any]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--base", default="small")
    parser.add_argument("--kilobytes", type=int, nargs="+", default=[5, 50, 250], help="of each author")
    parser.add_argument("--passes", type=float, nargs="+", default=[7, 3, 1.5], help="over the text, for each size")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), metavar="LAYOUT")
    parser.add_argument("--results", type=Path, default=Path("voices.jsonl"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        authors = [read_author(path, Path(folder)) for path in asked.texts]
        for kilobytes, passes in zip(asked.kilobytes, asked.passes, strict=True):
            experiment = Experiment(authors, asked.base, kilobytes, passes, Path(folder))
            measure_layouts(experiment, asked.layouts, asked.results)
    print("\n".join(make_table(read_results(asked.results))))


# -- the texts


@dataclass(frozen=True)
class Author:
    """A text that is learned, and what is held out of it."""

    name: str
    learned: str
    kept_by: str
    reported: str


def read_author(path: Path, folder: Path) -> Author:
    """The text of a file as epigone reads it."""
    corpus = unwrap_corpus(read_corpus([str(path)], ReadSettings()), "auto")
    text = "\n\n".join(str(document.text) for document in corpus.documents)
    end = len(text) - REPORTED
    author = Author(path.stem.partition("-")[0], text[: end - KEPT_BY], text[end - KEPT_BY : end], text[end:])
    write(folder / f"{author.name}.held-out.txt", author.kept_by)
    return author


def write(path: Path, text: str) -> Path:
    """A new file."""
    path.write_text(text, "utf-8", newline="")
    return path


# -- the layouts


@dataclass(frozen=True)
class Experiment:
    """Authors with so many thousand characters of each to learn from."""

    authors: Sequence[Author]
    base: str
    kilobytes: int
    passes: float
    folder: Path

    def list_texts(self, authors: Sequence[Author]) -> list[Path]:
        """The files that are learned from."""
        n = 1000 * self.kilobytes
        return [write(self.folder / f"{one.name}.txt", one.learned[-n:]) for one in authors]

    def learn(self, authors: Sequence[Author], base: str, passes: float, *, voiced: bool = False) -> Learned:
        """A model that has read these authors."""
        held_out = write(self.folder / "held-out.txt", "\n\n".join(one.kept_by for one in authors))
        return learn(self.list_texts(authors), held_out, base, passes, self.folder, voiced=voiced)


def measure_layouts(experiment: Experiment, layouts: Sequence[str], results: Path) -> None:
    """Append what each of these layouts reaches to the results, unless it is there."""
    done = {(row["kilobytes"], row["layout"]) for row in read_results(results)}
    for name in layouts:
        if (experiment.kilobytes, name) in done:
            continue
        began = time.process_time()
        row = {"kilobytes": experiment.kilobytes, "passes": experiment.passes, "layout": name}
        row |= {"bits": LAYOUTS[name](experiment)}
        row |= {"seconds": round(time.process_time() - began)}
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def measure_untouched(experiment: Experiment) -> Mapping[str, float]:
    """The base as it is."""
    base = find_base(experiment.base).folder
    model, tokenizer = load_model(base), load_tokenizer(base)
    return {one.name: measure_bits(model, tokenizer, one.reported) for one in experiment.authors}


def measure_own(experiment: Experiment) -> Mapping[str, float]:
    """A run for each author."""
    return _learn_each(experiment, experiment.base, experiment.passes)


def measure_shared(experiment: Experiment) -> Mapping[str, float]:
    """One run of everything."""
    learned = experiment.learn(experiment.authors, experiment.base, experiment.passes)
    return {one.name: learned.measure(one.reported) for one in experiment.authors}


def measure_shared_then_own(experiment: Experiment, share: float = 0.5) -> Mapping[str, float]:
    """One run of everything in half of the passes, and from it a run for each author in the others."""
    shared = experiment.learn(experiment.authors, experiment.base, share * experiment.passes)
    folder = shared.save(experiment.folder / "shared", experiment.base)
    return _learn_each(experiment, str(folder), share * experiment.passes)


def measure_voiced(experiment: Experiment) -> Mapping[str, float]:
    """One run of everything with a control token for each author; and read with the next author's, and without."""
    authors = experiment.authors
    learned = experiment.learn(authors, experiment.base, experiment.passes, voiced=True)
    bits = {one.name: learned.measure(one.reported, voice) for voice, one in enumerate(authors)}
    for voice, one in enumerate(authors):
        bits[f"{one.name}, another's token"] = learned.measure(one.reported, (voice + 1) % len(authors))
        bits[f"{one.name}, no token"] = learned.measure(one.reported)
    return bits


def _learn_each(experiment: Experiment, base: str, passes: float) -> Mapping[str, float]:
    return {one.name: experiment.learn([one], base, passes).measure(one.reported) for one in experiment.authors}


LAYOUTS: Mapping[str, Callable[[Experiment], Mapping[str, float]]] = {
    "the untouched base": measure_untouched,
    "a run for each": measure_own,
    "one run of everything": measure_shared,
    "one run of everything, then a run for each": measure_shared_then_own,
    "the same, in twice the time": partial(measure_shared_then_own, share=1),
    "one run with control tokens": measure_voiced,
}


# -- learning and measuring


@dataclass(frozen=True)
class Learned:
    """The best weights of a training run."""

    model: GPT2LMHeadModel
    tokenizer: BPETokenizer
    first_voice: int

    def measure(self, text: str, voice: int | None = None) -> float:
        """Bits per byte of a text."""
        token = None if voice is None else self.first_voice + voice
        return measure_bits(self.model, self.tokenizer, text, token)

    def save(self, folder: Path, base: str) -> Path:
        """Keep it as a base, with as much of a manifest as says what it was tuned from."""
        self.model.save_pretrained(folder)
        tokenizer = find_base(base).folder / "tokenizer.json"
        (folder / tokenizer.name).write_bytes(tokenizer.read_bytes())
        write(folder / "run.json", json.dumps({"plan": {"model": {"base": base}}}))
        return folder


class BestWeights(Recorder):
    """Keeps the best weights in memory."""

    weights: Mapping[str, torch.Tensor]

    def keep_best(self, model: GPT2LMHeadModel) -> None:
        """Copy them."""
        self.weights = deepcopy(model.state_dict())


class VoicedBatches(Batches):
    """Blocks whose first token is the control token of the document that they begin in, except in some."""

    def __init__(self, like: Batches, seed: int, end_of_text: int, first_voice: int) -> None:
        super().__init__(like.ids, block_size=like.block_size, blocks_per_step=like.blocks_per_step, seed=seed)
        self.tokens = first_voice + np.cumsum(_as_array(like.ids) == end_of_text) - 1
        self.seed = seed

    def read(self, step: int, *, rows: slice = slice(None)) -> Batch:
        """The rows of a step's blocks."""
        ids, targets = super().read(step, rows=rows)
        tokens = torch.from_numpy(self.tokens[(self.starts(step)[rows] + 1) % len(self.ids)])
        plain = torch.from_numpy(np.random.default_rng([self.seed, step]).random(self.blocks_per_step)[rows] < UNTAGGED)
        ids = ids.clone()
        ids[:, 0] = torch.where(plain, ids[:, 0], tokens)
        return ids, targets


def _as_array(ids: Ids) -> np.typing.NDArray[np.int64]:
    return np.asarray(ids[:], np.int64)


def learn(
    texts: Sequence[Path], held_out: Path, base: str, passes: float, folder: Path, *, voiced: bool = False
) -> Learned:
    """Train as `epigone train` does, without samples and judgements. With `voiced` each file has a control token."""
    settings = TrainSettings(
        base=base,
        epochs=passes,
        validation=str(held_out),
        samples=0,
        compile="off",
        format="text",
        unwrap="no",
        furniture="keep",
        keep_boilerplate=True,
    )
    prepared = prepare([str(text) for text in texts], settings, folder / "tokens", progress=False)
    model, plan, first_voice = prepared.model, prepared.plan, len(prepared.tokenizer)
    origin, best = base_weights_loader(plan), BestWeights()
    if voiced:
        add_tokens(model, len(texts), like=prepared.tokenizer.end_of_text_id)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        origin = lambda: before  # noqa: E731
    trainer = Trainer(model, prepared.tokens, plan, origin=origin, recorder=best)
    if voiced:
        batches = VoicedBatches(trainer.batches, plan.seed, prepared.tokenizer.end_of_text_id, first_voice)
        trainer.gradients.batches = batches
    for _ in trainer.learn():
        pass
    model.load_state_dict(best.weights)
    model.train(False)
    return Learned(model, prepared.tokenizer, first_voice)


@torch.no_grad()
def add_tokens(model: GPT2LMHeadModel, count: int, like: int) -> None:
    """Add tokens that begin as a copy of another one's embedding."""
    size = model.config.vocab_size
    model.resize_token_embeddings(size + count, mean_resizing=False)
    embeddings = model.transformer.wte.weight
    embeddings[size:] = embeddings[like]


def cut_blocks(text: str, tokenizer: BPETokenizer) -> Batch:
    """What a model reads of a text, in blocks that do not overlap, and what comes next."""
    ids = torch.tensor([tokenizer.end_of_text_id, *encode(text, tokenizer)])
    n = (len(ids) - 1) // BLOCK * BLOCK
    return ids[:n].view(-1, BLOCK).clone(), ids[1 : n + 1].view(-1, BLOCK)


@torch.inference_mode()
def measure_bits(model: GPT2LMHeadModel, tokenizer: BPETokenizer, text: str, voice: int | None = None) -> float:
    """Bits per byte in blocks that do not overlap; `voice` takes the place of the first token of each."""
    inputs, targets = cut_blocks(text, tokenizer)
    if voice is not None:
        inputs[:, 0] = voice
    nats = 0.0
    for some, wanted in zip(torch.split(inputs, 16), torch.split(targets, 16), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=some, use_cache=False).logits.float()
        nats += functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum").item()
    return round(nats / math.log(2) / len(tokenizer.backend.decode(targets.flatten().tolist()).encode()), 4)


# -- the table


def read_results(path: Path) -> list[Result]:
    """What was measured before."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def make_table(results: Sequence[Result]) -> Iterator[str]:
    """The results in Markdown."""
    results = sorted(results, key=lambda row: (row["kilobytes"], list(LAYOUTS).index(row["layout"])))
    authors = list(results[0]["bits"])
    yield f"| KB of each | layout | {' | '.join(authors)} | mean | CPU seconds |"
    yield "| --- " * (len(authors) + 4) + "|"
    for row in results:
        for more in ("", ", another's token", ", no token"):
            bits = [row["bits"][one + more] for one in authors if one + more in row["bits"]]
            if bits:
                values = " | ".join(f"{one:.3f}" for one in (*bits, sum(bits) / len(bits)))
                seconds = "" if more else row["seconds"]
                yield f"| {row['kilobytes']} | {row['layout']}{more} | {values} | {seconds} |"


if __name__ == "__main__":
    main()
