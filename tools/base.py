"""A library of books (a folder or an archive) in; the small base that comes with the package out.

It learns as any run does, with `epigone train`, in runs/base; called again it goes on there.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file, save_file

from epigone.evaluation.copying import build_books_filter, judge_copying, write_books_filter
from epigone.files import write_bytes, write_json
from epigone.generation.scoring import score_text
from epigone.model.base_profile import BOOKS as FILTER_NAME
from epigone.model.gpt2 import load_model
from epigone.model.hub import WEIGHTS
from epigone.run import judging_write_settings, open_generator, open_run, save_base_samples
from epigone.tokens.tokenizer import load_tokenizer
from library import Book, open_library, read_books

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "runs" / "base"
BOOKS = ROOT / "build" / "base"
PLACE = ROOT / "src" / "epigone" / "bases" / "small"
FILTER = PLACE / FILTER_NAME
SEED = 1
N_HELD_OUT = 12
SIZES_HELD_OUT = (60_000, 180_000)
"""Characters of a book that is held out: long enough to say something, short enough to be tested on often."""
MOST_SHARED = 0.01
"""Of a book that is held out, in others."""
JUDGED = 25_000
"""Characters: half of what a tuned model writes to be judged."""
STARTS = ("", "\n")
"""What texts begin with, of models that learned from many documents and from few."""
ASKED = """
--base none --size 6x256 --vocab-size 4096 --block-size 256 --batch-size 16 --learning-rate 0.006 --epochs 20
--patience none --compile whole --sample-length 200
"""

CARD = """---
language: en
library_name: transformers
pipeline_tag: text-generation
license: mit
tags: [gpt2, epigone]
---

# small: the base that comes with epigone

A GPT-2 with {parameters} parameters ({layers} layers, {width} wide, context of {context} tokens, byte-level BPE with
{vocabulary} entries, bf16) that has read public-domain literature in English. It is there to be fine-tuned on a short
text: `epigone train my.txt --base small`. By itself it writes in nobody's voice: `epigone write --base small`.

## What it learned from

{books} books by some eighty authors, of a library of public-domain texts (public domain in the United States), and
{held_out} more to test on; {characters} characters in all. Works that stood in it twice were taken once, and notes
about the making of the files were cut. No Shakespeare, Wells, Baum, Wodehouse, Christie, Wilde, Chesterton, Alcott,
Thoreau, Ibsen or Nesbit is among them: a test of the project holds those texts against the library.

## How it was made

`make base LIBRARY=library.tar.xz MINUTES={minutes}`, that is `epigone train` with `{flags}` and seed {seed}, each book
a document of its own, all blocks in a new order in each pass: {hours} hours on two processor cores, {tokens} tokens,
{epochs} passes. Made with {versions}.

Where the loss rose, learning went on for longer than had been planned until then, and the learning rate rose again.

| minutes | passes | held-out bits per byte |
| ---: | ---: | ---: |
{curve}

## How well it foretells books that it has not read

| book | characters | nats per character | bits per byte |
| --- | ---: | ---: | ---: |
{rows}

## What it copies

Of 50,000 characters that it wrote without a prompt, held against all that it learned from: {copies}
"""
"""The model's card. `what it copies` is a sentence of the judge's."""


def main() -> None:
    """Choose the books, learn from them or go on, and put the result into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "library", type=Path, nargs="?", help="a folder of folders, or library.tar.xz; without it, only write anew"
    )
    parser.add_argument("--minutes", type=float, default=120, help="of training in all, counted from the start")
    asked = parser.parse_args()
    if asked.library is None:
        write_untouched()
        return
    if not (BOOKS / "chosen.json").exists():
        with open_library(asked.library) as library:
            lay_out(read_books(library))
    minutes = str(asked.minutes)
    if (RUN / "run.json").exists():
        call("resume", str(RUN), "--minutes", minutes)
    else:
        texts = [str(BOOKS / "books"), "--validation", str(BOOKS / "held-out"), "--out", str(RUN)]
        call("train", *texts, *ASKED.split(), "--seed", str(SEED), "--minutes", minutes)
    write_books_filter(build_books_filter(read_learned()), FILTER)
    pack(PLACE)
    write_untouched()
    write_bytes(PLACE / "README.md", describe(asked.minutes).encode())


def call(*words: str) -> None:
    """Run the command. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "epigone", *words], check=True)


def lay_out(books: list[Book]) -> None:
    """Write the books to learn from and, from as many authors, those to test on."""
    held_out = choose_held_out(books)
    shutil.rmtree(BOOKS, ignore_errors=True)
    for book in books:
        path = BOOKS / ("held-out" if book.name in held_out else "books") / f"{book.name.replace('/', '-')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(book.text, "utf-8", newline="\n")
    facts = {"n_books": len(books), "n_characters": sum(len(book.text) for book in books), "held_out": held_out}
    (BOOKS / "chosen.json").write_text(json.dumps(facts, indent=2), "utf-8")


def choose_held_out(books: list[Book]) -> list[str]:
    """Books by different authors that others of the library share next to nothing with."""
    low, high = SIZES_HELD_OUT
    fit = [book.name for book in books if low <= len(book.text) <= high and book.shared <= MOST_SHARED]
    random.Random(SEED).shuffle(fit)
    by_author = {name.split("/")[0]: name for name in fit}
    return sorted(list(by_author.values())[:N_HELD_OUT])


def read_learned() -> Iterator[str]:
    """The books that are learned from."""
    return (path.read_text("utf-8") for path in sorted((BOOKS / "books").glob("*.txt")))


# -- what goes into the package


def pack(place: Path) -> None:
    """Put the best model into the package, in bf16: half the size, and the loss stays what it was."""
    place.mkdir(parents=True, exist_ok=True)  # its profile.toml stays
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(RUN / "model" / name, place / name)
    config = json.loads((place / "config.json").read_text("utf-8"))
    write_json(place / "config.json", config | {"dtype": "bfloat16"})
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(RUN / "model" / WEIGHTS).items()}
    save_file(tensors, place / WEIGHTS, metadata={"format": "pt"})


def write_untouched() -> None:
    """Let the base write what judgements of models that were tuned from it are set beside."""
    asked = judging_write_settings(JUDGED, device="cpu")
    writer = open_generator(PLACE.name, asked)
    save_base_samples(PLACE, asked, {start: writer.write(start, asked) for start in STARTS})


def describe(minutes: float) -> str:
    """The model's card."""
    run, chosen = open_run(RUN), json.loads((BOOKS / "chosen.json").read_text("utf-8"))
    manifest = run.folder.read_manifest()
    plan = manifest.plan
    model, tokenizer = load_model(PLACE), load_tokenizer(PLACE)
    rows = []
    for path in sorted((BOOKS / "held-out").glob("*.txt")):
        found = score_text(model, tokenizer, path.read_text("utf-8"))
        rows.append(f"| {path.stem} | {found.n_characters:,} | {found.nats / found.n_characters:.3f} | "
                    f"{found.bits_per_byte:.3f} |")  # fmt: skip
    written = run.write(length=2_500, unit="characters", count=20)
    copied = judge_copying("\n\n".join(written), list(read_learned()), run.folder.read_held_out())
    return CARD.format(
        parameters=f"{plan.n_parameters:,}",
        layers=plan.shape.n_layer,
        width=plan.shape.n_embd,
        vocabulary=f"{plan.shape.vocab_size:,}",
        context=plan.shape.n_positions,
        books=chosen["n_books"] - len(chosen["held_out"]),
        held_out=len(chosen["held_out"]),
        characters=f"{chosen['n_characters']:,}",
        minutes=f"{minutes:g}",
        seed=SEED,
        hours=f"{run.evaluations[-1].seconds / 3600:.2f}",
        epochs=f"{run.evaluations[-1].epoch:.2f}",
        tokens=f"{run.evaluations[-1].step * plan.tokens_per_step:,}",
        flags=" ".join(ASKED.split()),
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        curve="\n".join(
            f"| {look.seconds / 60:.0f} | {look.epoch:.2f} | {look.bits_per_byte:.3f} |" for look in run.evaluations
        ),
        rows="\n".join(rows),
        copies=copied.sentence,
    )


if __name__ == "__main__":
    main()
