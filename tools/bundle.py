"""Puts a finished base into the package: weights, tokenizer, copy filter, what it writes untouched, and its card.

    python tools/bundle.py MODEL --documents DATA/documents.jsonl --curve RUN/curve.jsonl
    python tools/bundle.py                        only let the base of the package write again

MODEL is what `tools/base.py --decay-minutes` left, DATA what `tools/base_texts.py` made. `--sources` are tables of the
modern texts' sources in Markdown, from which the card has the repository and the licence of each that was learned from.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from base_texts import read_documents
from epigone.evaluation.copying import PASSAGE_CHARACTERS, build_books_filter, find_copied, write_books_filter
from epigone.evaluation.judge import COPY_BARRIER
from epigone.files import write_bytes
from epigone.generation.known_words import WORDS, list_words
from epigone.model.base_profile import BOOKS as FILTER_NAME
from epigone.model.base_profile import PLACE as BASES_FOLDER
from epigone.run import KEPT, judging_write_settings, open_generator, save_base_samples

WEIGHTS, POSITIONS = "model.safetensors", "transformer.wpe.weight"
PARTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS)
FEWEST_DOCUMENTS, LONGEST_WORD = 5, 30
"""Of the documents that a word has to be in, and letters."""
SHARES_FOR_SHORT = {1: 1.0, 2: 0.003, 3: 0.001}
"""Of the documents, in which so few letters have to stand by themselves: in five of 20,000 nearly every pair of letters
does, as an abbreviation, a variable or a part of a formula."""
PARTS_OF_WORDS = frozenset(("a", "d", "i", "ll", "m", "o", "re", "s", "t", "ve"))
"""Short words, and what follows an apostrophe, that are known anyway."""
SHORT_WORD = re.compile(r"(?<![\w'’.&/@-])([A-Z]?[a-z]{1,2}|[a-z]{3})(?![\w.&/@-])", re.ASCII)
"""One to three letters by themselves, not all capitals, and no part of an abbreviation, an address or a number."""
JUDGED = 25_000
"""Characters: half of what a tuned model writes to be judged."""
STARTS = ("", "\n")
"""What texts begin with, of models that learned from many documents and from few."""

CARD = """---
language: en
library_name: transformers
pipeline_tag: text-generation
license: mit
tags: [gpt2, epigone]
---

# {name}: a base that comes with epigone

A GPT-2 with {layers} layers, {width} wide, a context of {context} tokens and a byte-level BPE with {vocabulary} entries
(bf16). It has read public-domain literature and openly licensed modern English, and is there to be fine-tuned on a
short text: `epigone train my.txt --base {name}`. By itself it writes in no author's voice: `epigone write --base
{name}`.

## What it learned from

{documents} documents, {megabytes} MB: {kinds}. Documents that stood in it twice were taken once. No Shakespeare, Wells,
Baum, Wodehouse, Christie, Wilde, Chesterton, Alcott, Thoreau, Ibsen or Nesbit is among them, and no paragraph that
shares 13 words in a row with a text that the project tests with.

## How it was made

By `tools/base_texts.py` and `tools/base.py`: {tokens} tokens ({passes} passes), {hours} hours of one processor core, of
which the last {decayed} steps with a falling rate.{averaged}
The table has the times when it was finished like this.

| tokens | core hours | held-out books, bits per byte | modern texts |
| ---: | ---: | ---: | ---: |
{curve}

## Bits per byte of text that it has not read

| kind | bits per byte |
| --- | ---: |
{rows}

## What it copies

{copies}

## Words

`../words.txt` lists words that are in at least five of the documents; of one to three letters only those that stand by
themselves in more of them. A run that started from this base writes these
words and those of its own text (`--words`).

## Sources and licences

Books: public domain in the United States, where their copyright has ended. Modern texts, as far as they were learned
from (repositories are those on GitHub; licences as stated there when the texts were collected):

{sources}
"""
"""The model's card."""
ROW = re.compile(r"^\| (?P<name>\w+) \| (?P<repository>[^|]*) \| [^|]* \| (?P<licence>[^|]*) \|", re.M)
"""A source in the table of a collection: name, repository, commit, licence and what else is known."""


def main() -> None:
    """Fill the package's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument(
        "--name", default="small", help="of the base: its folder in src/epigone/bases, with a profile.toml"
    )
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--curve", type=Path)
    parser.add_argument("--sources", type=Path, help="Markdown tables: source, repository, commit, licence")
    parser.add_argument(
        "--filter-bits", type=int, default=25, help="the copy filter has 2 to the power of so many bits"
    )
    parser.add_argument("--context", type=int, help="tokens: what was trained with shorter blocks is cut to them")
    asked = parser.parse_args()
    place = BASES_FOLDER / asked.name
    if asked.model:
        copy_model(asked.model, place, asked.context)
        write_books_filter(
            build_books_filter(read_learned(asked.documents), 1 << asked.filter_bits), place / FILTER_NAME
        )
        write_words(read_learned(asked.documents), place)
    write_untouched(place)
    if asked.model:
        write_bytes(place / "README.md", describe(asked).encode())


def copy_model(model: Path, place: Path, context: int | None) -> None:
    """The stock folder without what is only known about its making. Raises OSError where a part is missing.

    `context`: positions that are kept; those beyond the blocks that it was trained with are no better than chance.
    """
    place.mkdir(parents=True, exist_ok=True)  # its profile.toml stays
    for name in PARTS:
        shutil.copyfile(model / name, place / name)
    if context:
        cut_context(place, context)


def cut_context(place: Path, context: int) -> None:
    """Keep the first positions of a model's position table."""
    weights = load_file(place / WEIGHTS)
    weights[POSITIONS] = weights[POSITIONS][:context].contiguous()
    save_file(weights, place / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((place / "config.json").read_text("utf-8")) | {"n_positions": context}
    write_bytes(place / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def read_learned(documents: Path) -> Iterator[str]:
    """The texts that are learned from."""
    return (document.text for document in read_documents(documents))


def write_words(documents: Iterable[str], place: Path) -> None:
    """Write down the words that are in several of the documents: misspellings and scanning errors mostly are in one.

    They go into the base's folder unless the list beside it, which serves the other bases, has the same.
    """
    counts, short = Counter[str](), Counter[str]()
    n_texts = 0
    for text in documents:
        n_texts += 1
        counts.update(word for word in list_words(text) if len(word) <= LONGEST_WORD)
        short.update(set(map(str.casefold, SHORT_WORD.findall(text))))
    whole = (word for word in counts if list_words(word) == {word})  # not all are, once their capitals are small
    words = sorted(word for word in whole if is_common(word, counts[word], short[word], n_texts))
    content, shared = "\n".join(words).encode(), place.parent / WORDS
    if shared.exists() and shared.read_bytes() == content:
        (place / WORDS).unlink(missing_ok=True)
    else:
        write_bytes(place / WORDS, content)


def is_common(word: str, n_documents: int, n_alone: int, n_texts: int) -> bool:
    """Whether a case-folded word that is in so many of the texts, in `n_alone` of them by itself, is to be known."""
    if word.isascii() and len(word) in SHARES_FOR_SHORT and word not in PARTS_OF_WORDS:
        return n_alone >= max(FEWEST_DOCUMENTS, SHARES_FOR_SHORT[len(word)] * n_texts)
    return n_documents >= FEWEST_DOCUMENTS


def write_untouched(place: Path) -> None:
    """Let the base write what judgements of models that were tuned from it are set beside."""
    asked = judging_write_settings(JUDGED, device="cpu")
    writer = open_generator(place.name, asked)
    save_base_samples(place, asked, {start: writer.write(start, asked) for start in STARTS})


def describe_sources(documents: Path, tables: Path) -> str:
    """A table of the modern sources that were learned from, with what was learned of them and their licences."""
    n_documents, n_bytes = Counter[str](), Counter[str]()
    for document in read_documents(documents):
        name = document.name.rpartition("/")[0].partition("/")[2]
        if name:  # of a book there is only the author
            n_documents[name] += 1
            n_bytes[name] += len(document.text.encode())
    known = {row["name"]: row for row in ROW.finditer(tables.read_text("utf-8"))}
    lines = ["| source | repository | licence | documents | MB |", "| --- | --- | --- | ---: | ---: |"]
    for name, count in n_documents.items():
        repository, licence = known[name]["repository"].partition(" (")[0], known[name]["licence"]
        lines.append(f"| {name} | {repository} | {licence} | {count:,} | {n_bytes[name] / 1e6:.2f} |")
    return "\n".join(lines)


def describe_copying(place: Path, documents: Iterable[str]) -> str:
    """What the base, untouched, has copied from what it learned from, held against every character of that."""
    texts = [text for several in json.loads((place / KEPT).read_text("utf-8"))["texts"].values() for text in several]
    found = find_copied(COPY_BARRIER.join(texts), documents)
    longest = f", and the longest passage has {found.longest.n_characters} characters" if found.longest else ""
    return (
        f"Of {sum(map(len, texts)):,} characters that it wrote untouched, without a prompt, held against all that it "
        f"learned from: {100 * found.share:.2f} % stands there in passages of {PASSAGE_CHARACTERS} characters or more"
        f"{longest}."
    )


def describe(asked: argparse.Namespace) -> str:
    """The model's card, by what the tools noted: facts.json of the model, data.json of the data, the run's curve."""
    facts = json.loads((asked.model / "facts.json").read_text("utf-8"))
    config = json.loads((asked.model / "config.json").read_text("utf-8"))
    data = json.loads((Path(facts["settings"]["data"]) / "data.json").read_text("utf-8"))
    points = [json.loads(line) for line in asked.curve.read_text("utf-8").splitlines()]
    earlier = facts.get("averaged_with")
    return CARD.format(
        name=asked.name,
        layers=config["n_layer"],
        width=config["n_embd"],
        context=asked.context or config["n_positions"],
        vocabulary=f"{config['vocab_size']:,}",
        documents=f"{data['n_documents']:,}",
        megabytes=round(sum(data["bytes"].values()) / 1e6),
        kinds=", ".join(f"{kind} {round(n / 1e6, 1):g}" for kind, n in data["bytes"].items()),
        tokens=f"{facts['n_tokens']:,}",
        passes=round(facts["n_tokens"] / data["n_tokens"], 2),
        hours=round(facts["core_seconds"] / 3600, 1),
        decayed=f"{facts['step'] - facts['decayed_from_step']:,}",
        averaged=f" The weights are the mean of these and of those after {earlier:,} tokens." if earlier else "",
        curve="\n".join(map(_describe_point, points[:: max(1, len(points) // 12)])),
        rows="\n".join(f"| {kind} | {value:.3f} |" for kind, value in facts["bits_per_byte"].items()),
        copies=describe_copying(BASES_FOLDER / asked.name, read_learned(asked.documents)),
        sources=describe_sources(asked.documents, asked.sources),
    )


def _describe_point(point: dict[str, Any]) -> str:
    found = point["bits_per_byte"]
    hours = point["core_seconds"] / 3600
    return f"| {point['n_tokens']:,} | {hours:.1f} | {found['books']:.3f} | {found['modern']:.3f} |"


if __name__ == "__main__":
    main()
