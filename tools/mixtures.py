"""Measure mixtures of two authors' runs: how near to each the text is that they write, and how well they predict each.

It takes a file or a folder of each author, trains a run on a part of each by `epigone.train`, and mixes the runs of
each pair by shares. Of each author the last characters are held out. A line of JSON for each measurement goes to
`--results`, where what is there is not measured again; the table comes last.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import mean
from textwrap import fill
from typing import Any

import torch

import epigone
from epigone.corpus.corpus import read_corpus, unwrap_corpus
from epigone.evaluation.style import StyleScales, make_author_scales
from epigone.evaluation.stylometry import normalise_for_counting
from epigone.mixing import mix
from epigone.model.gpt2 import load_model
from epigone.model.hub import find_base
from epigone.settings import ReadSettings
from epigone.tokens.tokenizer import load_tokenizer
from voices import cut_blocks, measure_bits, read_results, write

HELD_OUT, REPORTED = 40_000, 24_000
"""Characters at the end of each text that are 100 on the style scales, and those of them that bits are measured of."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
TEXTS, LENGTH = 24, 1_200
"""What each mixture writes: texts, and characters of each."""
FREQUENCIES = ("words", "character n-grams")
"""The scales that the table has the mean of: on the others any author's prose is near 100."""
WIDTH = 72
WAYS = ("probabilities", "log-probabilities")
Result = dict[str, Any]


@dataclass(frozen=True)
class Author:
    """A text, of which the end is held out."""

    name: str
    text: str

    @property
    def reported(self) -> str:
        """What bits are measured of."""
        return self.text[-REPORTED:]

    @cache  # noqa: B019  # there are few, and they are needed to the end
    def measure_by(self, base: str) -> list[float]:
        """Bits a byte by the base, of whole paragraphs and of lines."""
        wrapped = "\n".join(fill(line, WIDTH) for line in self.reported.split("\n"))
        return _measure_all(find_base(base).folder, [self.reported, wrapped])

    @cached_property
    def scales(self) -> StyleScales:
        """The style scales of the author, by all their text."""
        own, held_out = (normalise_for_counting(one) for one in (self.text[:-HELD_OUT], self.text[-HELD_OUT:]))
        return make_author_scales([(own, held_out)], TEXTS * LENGTH)

    def train(self, base: str, kilobytes: int, passes: float | None, folder: Path) -> Path:
        """A run of this author, unless it is there."""
        run = folder / self.name
        if not run.exists():
            learned = write(folder / f"{self.name}.txt", self.text[-HELD_OUT - 1000 * kilobytes : -HELD_OUT])
            epigone.train(learned, out=run, base=base, epochs=passes or "auto", samples=0)
        return run


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--pairs", nargs="+", metavar="A,B", required=True, help="by the names of files, to a dash")
    parser.add_argument("--base", default="small")
    parser.add_argument("--kilobytes", type=int, default=50, help="that are learned of each author")
    parser.add_argument("--passes", type=float, help="over each text; those of the plan, if not given")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the second author")
    parser.add_argument("--sets", type=int, default=1, help="of texts, by each mixture; how far they differ is noise")
    parser.add_argument("--predictions", action="store_true", help="only print how mixed predictions predict both")
    parser.add_argument("--results", type=Path, default=Path("mixtures.jsonl"))
    parser.add_argument("--runs", type=Path, help="folder of the runs, to keep them")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    authors = {author.name: author for author in map(read_author, asked.texts)}
    with tempfile.TemporaryDirectory() as folder:
        runs = asked.runs or Path(folder)
        for pair in asked.pairs:
            both = [authors[name] for name in pair.split(",")]
            for author in both:
                author.train(asked.base, asked.kilobytes, asked.passes, runs)
            if asked.predictions:
                print("\n".join(map(json.dumps, measure_predictions(both, asked.shares, runs))))
            else:
                measure_pair(both, asked.base, runs, asked.shares, asked.sets, asked.results)
    if not asked.predictions:
        print("\n".join(make_table(list(read_newest(asked.results).values()))))


def read_author(path: Path) -> Author:
    """The texts in a file or a folder as epigone reads them."""
    corpus = unwrap_corpus(read_corpus([str(path)], ReadSettings()), "auto")
    return Author(path.stem.partition("-")[0], "\n\n".join(str(document.text) for document in corpus.documents))


# -- measuring


def measure_pair(
    both: Sequence[Author], base: str, runs: Path, shares: Sequence[float], sets: int, results: Path
) -> None:
    """Append what the base and each mixture of two authors' runs reach, unless it is there with as many sets."""
    pair = ",".join(author.name for author in both)
    known = read_newest(results)
    all_shares: tuple[str | float, ...] = ("base", *shares)
    for share in all_shares:
        row = known.get((pair, share), {})
        if row and len(row.get("styles", range(sets))) >= sets:
            continue
        began = time.process_time()
        found = measure_base(both, base) if isinstance(share, str) else measure_mixture(both, share, runs, sets, row)
        found |= {"seconds": round(time.process_time() - began, 1)}
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"pair": pair, "share": share} | found) + "\n")
        print(pair, share, found, flush=True)


def read_newest(results: Path) -> dict[tuple[str, str | float], Result]:
    """What was measured before, by the pair and the share; the newest where there are several."""
    return {(row["pair"], row["share"]): row for row in read_results(results)}


def measure_base(both: Sequence[Author], base: str) -> Result:
    """Bits a byte of both authors by the base: of whole paragraphs, and of lines as they are in its own books."""
    bits, wrapped = zip(*(author.measure_by(base) for author in both), strict=True)
    return {"bits": bits, "bits_wrapped": wrapped}


def measure_mixture(both: Sequence[Author], share: float, runs: Path, sets: int, known: Result) -> Result:
    """Bits a byte of both authors by the mixed weights, and the style of what they write on both authors' scales.

    Sets of texts that are `known` are kept.
    """
    first, second = (runs / author.name for author in both)
    styles = list(known.get("styles", ()))
    styles += [measure_style(both, first, f"{second}:{share}", 1000 * number) for number in range(len(styles), sets)]
    with tempfile.TemporaryDirectory() as folder:
        bits = _measure_all(mix(first, {str(second): share}, folder), [author.reported for author in both])
    return {"bits": bits, "styles": styles}


def measure_style(both: Sequence[Author], run: Path, mix: str, seed: int) -> list[dict[str, float]]:
    """Where one set of texts is on the scales of both authors."""
    texts = epigone.open_run(run).write(mix=mix, count=TEXTS, length=LENGTH, unit="characters", seed=seed)
    text = normalise_for_counting("\n\n".join(texts))
    return [{name: round(one.score, 1) for name, one in author.scales.score(text).items()} for author in both]


@torch.inference_mode()
def measure_predictions(both: Sequence[Author], shares: Sequence[float], runs: Path) -> Iterator[Result]:
    """Bits a byte of both authors where not the weights are mixed, but the probabilities or their logarithms."""
    models = [load_model(runs / author.name / "model") for author in both]
    tokenizer = load_tokenizer(runs / both[0].name / "model")
    bits: dict[tuple[str, float], list[float]] = {(way, share): [] for way in WAYS for share in shares}
    for author in both:
        inputs, targets = cut_blocks(author.reported, tokenizer)
        nats = dict.fromkeys(bits, 0.0)
        for some, wanted in zip(torch.split(inputs, 16), torch.split(targets, 16), strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                logits = [model(input_ids=some, use_cache=False).logits.float() for model in models]
            logs = torch.stack([each.log_softmax(-1) for each in logits])
            own = logs.gather(-1, wanted[None, ..., None].expand(len(models), *wanted.shape, 1))[..., 0]
            for way, share in bits:
                parts = torch.tensor([1 - share, share])
                if way == "probabilities":
                    mixed = (own + parts.log()[:, None, None]).logsumexp(0)
                else:
                    mixed = torch.tensordot(parts, own, 1) - torch.tensordot(parts, logs, 1).logsumexp(-1)
                nats[way, share] -= mixed.sum().item()
        n_bytes = len(tokenizer.backend.decode(targets.flatten().tolist()).encode())
        for key in bits:
            bits[key].append(round(nats[key] / math.log(2) / n_bytes, 4))
    for (way, share), found in bits.items():
        yield {"pair": ",".join(author.name for author in both), "way": way, "share": share, "bits": found}


def _measure_all(folder: Path, texts: Sequence[str]) -> list[float]:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    return [measure_bits(model, tokenizer, text) for text in texts]


# -- the table


def make_table(results: Sequence[Result]) -> Iterator[str]:
    """The results in Markdown."""
    yield "| pair | share of the second | bits of the first | of the second | style of the first | of the second |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in results:
        bits = [f"{one:.3f}" for one in row["bits"]]
        styles = ["", ""]
        if row["share"] == "base":
            bits = [f"{one} ({wrapped:.3f})" for one, wrapped in zip(bits, row["bits_wrapped"], strict=True)]
        else:
            styles = [f"{mean(map(average, sets)):.0f}" for sets in zip(*row["styles"], strict=True)]
        pair = ", ".join(name.capitalize() for name in row["pair"].split(","))
        yield f"| {' | '.join([pair, str(row['share']), *bits, *styles])} |"
    several = [list(map(average, sets)) for row in results for sets in zip(*row.get("styles", ()), strict=True)]
    several = [sets for sets in several if len(sets) > 1]
    if several:
        spread = math.sqrt(sum(map(sum_squares, several)) / sum(len(sets) - 1 for sets in several))
        yield f"\nSets of texts by one mixture: standard deviation {spread:.1f} ({len(several)} mixtures and scales)."


def sum_squares(values: Sequence[float]) -> float:
    """Of the distances from their mean."""
    return sum((value - mean(values)) ** 2 for value in values)


def average(scores: Mapping[str, float]) -> float:
    """The mean of the scales of frequencies."""
    return sum(scores[name] for name in FREQUENCIES) / len(FREQUENCIES)


if __name__ == "__main__":
    main()
