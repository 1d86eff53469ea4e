"""Measure on a library of books how often attribution is right, and what style scores each kind of text reaches."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray

from authors import AUTHORS, read_books
from epigone.evaluation.ngram_model import sample_ngram_text, shuffle, split_words
from epigone.evaluation.style import choose_size, decide_grade, make_style_scales
from epigone.evaluation.stylometry import (
    WINDOW,
    Counts,
    DeltaSpace,
    cosine_distance,
    cut_evenly,
    load_authors,
    normalise_for_counting,
    subsample_counts,
)
from epigone.evaluation.stylometry import WINDOWS as OWN_WINDOWS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "dev" / "attribution.md"
STORIES = """alger 01 02 03 04 05 06 07 08 09 10
austen 01 02 03
barrie 03 06 11 12 13
blackwood 01 02 04 05 06 07
bronte 02 04 05
burnett 02 03 04 05 06 07 08 09 10 11 12 13
burroughs 01 02 03 04 05 06
carroll 01 02 06 08 12 17
chekhov 01 02 04 05
collins 01 02 04
conrad 01 02 03 04 05 07
defoe 02 03 07 11
dickens 01 02 03 05 07
dostoyevsky 04 05 06
doyle 01 04 05 08 09 10
goldfrap 01 02 03 04 05 06 07 08 09
hardy 01 03 06
hawthorne 06 08 09 12 14
henty 01 03 04 05
irving 01 03 04 05
james 02 03 04 05 06 07 08 09 10 11
joyce 01 02 03
kipling 01 02 04 06 10
london 01 02 03 04 05
melville 01 02 04
montgomery 01 02 03 04 05 06
poe 03 04
scott 01 03 04
shaw 07 09
shelley 02 03
stevenson 02 10
stoker 02 03 05
trollope 01 02 03 04 06 07 08 09
twain 04 05 13 17
wharton 03 04 05 06 08 09"""
PROSE = {line.split()[0]: line.split()[1:] for line in STORIES.split("\n")}
"""Novels, tales and sketches in prose, by the author alone; translations only where one translator made them all."""
SIZES = (10_000, 25_000, 50_000)
AMONG = (8, 20, 63)
WINDOWS = 4
"""Windows of each book, spread over it."""


@dataclass(frozen=True)
class Sample:
    """Part of a book whose author is to be named."""

    author: str
    book: str
    counts: Counts


def main() -> None:
    """Measure, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="a folder of folders, as library.tar.xz has it")
    parser.add_argument("--write", action="store_true", help="write docs/dev/attribution.md")
    asked = parser.parse_args()
    lines = []
    for line in write_page(asked.library):
        print(line, flush=True)
        lines.append(line)
    if asked.write:
        PAGE.write_text("\n".join(lines) + "\n", "utf-8", newline="\n")


def write_page(library: Path) -> Iterator[str]:
    """The page in parts, each as soon as it is measured."""
    names = ", ".join(sorted(AUTHORS.values(), key=_by_family))
    yield "\n".join([_HEAD, *wrap(f"They are: {names}.", 116), _ATTRIBUTION])
    yield from attribute(library)
    yield _BETWEEN
    yield from score_kinds(library)
    yield _END


def _by_family(name: str) -> str:
    return name.split()[-1]


# -- who wrote it?


def attribute(library: Path) -> Iterator[str]:
    """The table of attribution, line by line: each book against its author's other books and the other authors."""
    yield "| characters | by | among 8 | among 20 | among 63 | samples | any kind of book, among 8 |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    samples = collect(library)
    for size in SIZES:
        distances = measure_all(samples[size], samples[WINDOW], size)
        for part, table in distances.items():
            shares = [share_right(table, samples[size], among) for among in AMONG]
            any_kind = share_right(table, samples[size], 8, prose_only=False)
            n = sum(is_prose(sample) for sample in samples[size])
            cells = [f"{100 * share:.1f} %" for share in shares]
            yield f"| {size:,} | {part} | {' | '.join(cells)} | {n:,} | {100 * any_kind:.1f} % |"


def collect(library: Path) -> dict[int, list[Sample]]:
    """Samples of each size from every book, counted."""
    features = load_authors().features
    found: dict[int, list[Sample]] = {size: [] for size in SIZES}
    for author in PROSE:
        for book, text in read_books(library, author).items():
            windows = cut_evenly(normalise_for_counting(text), WINDOW)
            spread = [windows[turn * len(windows) // WINDOWS] for turn in range(min(WINDOWS, len(windows)))]
            for size in SIZES:
                texts = [window[at : at + size] for window in spread for at in range(0, 2 * min(size, 25_000), 25_000)]
                rows = features.count(one for one in texts if len(one) >= 0.9 * size)
                found[size] += [Sample(author, book, row) for row in rows]
    return found


def measure_all(samples: list[Sample], known: list[Sample], size: int) -> dict[str, NDArray[np.float64]]:
    """The distance of each sample to each author, by kind of feature; its own author is known by other books."""
    authors, n_words = load_authors(), load_authors().features.n_words
    parts = {"words": slice(0, n_words), "character n-grams": slice(n_words, len(samples[0].counts) - 2)}
    found = {part: np.full((len(samples), len(authors.names)), np.inf) for part in parts}
    for author in PROSE:
        for part, columns in parts.items():
            space = DeltaSpace(authors.without([AUTHORS[author]]), columns, size, np.random.default_rng(0))
            _measure_author([samples, known], author, space, size, found[part])
    return found | {"both": found["words"] + found["character n-grams"]}


def _measure_author(
    lists: list[list[Sample]], author: str, space: DeltaSpace, size: int, found: NDArray[np.float64]
) -> None:
    """Fill in the rows of one author, who is represented by as many windows as the others."""
    samples, known = lists
    mine = [row for row, sample in enumerate(samples) if sample.author == author]
    own = load_authors().names.index(AUTHORS[author])
    others = [place for place in range(found.shape[1]) if place != own]
    for book in sorted({samples[row].book for row in mine}):
        rows = [row for row in mine if samples[row].book == book]
        vectors = space.embed_texts(np.array([samples[row].counts for row in rows]))
        found[np.ix_(rows, others)] = cosine_distance(vectors, space.centres)
        rest = [sample.counts for sample in known if sample.author == author and sample.book != book]
        if rest:
            n_kept = min(OWN_WINDOWS, len(rest))
            spread = np.array([rest[turn * len(rest) // n_kept] for turn in range(n_kept)])
            thinned = subsample_counts(spread, size, np.random.default_rng(0))
            found[rows, own] = cosine_distance(vectors, space.embed_author(thinned))[:, 0]


def is_prose(sample: Sample) -> bool:
    """Whether it is from a story in prose."""
    return sample.book in PROSE[sample.author]


def share_right(distances: NDArray[np.float64], samples: list[Sample], among: int, *, prose_only: bool = True) -> float:
    """How often the true author is the closest of so many, over all draws of the rivals; authors have equal weight."""
    names = load_authors().names
    places = [names.index(AUTHORS[author]) for author in PROSE]
    rivals = list(range(len(names))) if among > len(places) else places
    drawn, n_rivals = min(among, len(rivals)) - 1, len(rivals) - 1
    right = defaultdict(list)
    for sample, row in zip(samples, distances, strict=True):
        if is_prose(sample) or not prose_only:
            n_nearer = int((row[rivals] <= row[names.index(AUTHORS[sample.author])]).sum()) - 1
            right[sample.author].append(comb(n_rivals - n_nearer, drawn) / comb(n_rivals, drawn))
    return float(np.mean([np.mean(shares) for shares in right.values()]))


# -- what does it reach?


def score_kinds(library: Path) -> Iterator[str]:
    """The table of what kinds of text reach, line by line: their scores on the lowest scale."""
    columns = ("text", "median", "a tenth is below", "a tenth is above", "good", "fair", "bad", "unsure")
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for author in PROSE:
        for kind, score, grade in judge_author(library, author):
            found[kind].append((score, grade))
    for kind, several in found.items():
        tenth, half, most = np.quantile([score for score, _ in several], [0.1, 0.5, 0.9])
        shares = [sum(one == grade for _, one in several) / len(several) for grade in ("good", "fair", "bad", "unsure")]
        cells = " | ".join(f"{100 * share:.0f} %" for share in shares)
        yield f"| {kind} | {half:.0f} | {tenth:.0f} | {most:.0f} | {cells} |"


def judge_author(library: Path, author: str) -> Iterator[tuple[str, float, str]]:
    """Texts of several kinds and their scores; the training text is all but the last of the author's stories."""
    books = {
        name: normalise_for_counting(text)
        for name, text in read_books(library, author).items()
        if name in PROSE[author]
    }
    *rest, last = books
    text = "\n".join(books[name] for name in rest)[:1_200_000]
    if len(text) < 400_000 or len(books[last]) < 60_000:
        return
    pieces = cut_evenly(text, 25_000)
    held = pieces[4::8]
    own = "\n".join(piece for place, piece in enumerate(pieces) if place % 8 != 4)
    stand_in, tested = "\n".join(held[::2]), "\n".join(held[1::2])
    kinds = make_kinds(library, author, own, tested, books[last])
    for size in (25_000, 50_000):
        scales = make_style_scales(own, stand_in, choose_size(size, len(stand_in)))
        for kind, sample in kinds.items():
            if len(sample) >= size:
                verdict = decide_grade(scales, scales.score(sample[:size]))
                yield kind, verdict.facts.get("score", np.nan), verdict.grade


def make_kinds(library: Path, author: str, own: str, tested: str, last: str) -> dict[str, str]:
    """Texts that should pass, and texts that should not."""
    source, words = np.random.default_rng(0), split_words(own)
    place = (list(PROSE).index(author) + 7) % len(PROSE)
    stranger = normalise_for_counting(next(iter(read_books(library, list(PROSE)[place]).values())))
    sentences = tested.split(". ")
    n_words = int(1.2 * len(words) * WINDOW / len(own))
    return {
        "held-out text of the same books": tested,
        "another book of the author": last[len(last) // 4 :],
        "held-out sentences shuffled": ". ".join(shuffle(sentences, source)),
        "another author": stranger[len(stranger) // 4 :],
        "the author's words shuffled": " ".join(shuffle(words, source)[: 2 * n_words]),
        "a bigram model of the author": " ".join(sample_ngram_text(words, n_words, 1, source)),
        "a trigram model of the author": " ".join(sample_ngram_text(words, n_words, 2, source)),
    }


_HEAD = """<!-- Written by `python tools/attribution.py LIBRARY --write`. -->

# Who wrote it

"Sounds like" compares a text with its author and with reference authors. The bundled ones are 63
authors of public-domain books, as counts of 800 words and 1,000 character 4-grams in eight windows of 50,000
characters each (`src/epigone/evaluation/authors.safetensors`, made by `python tools/authors.py LIBRARY --write`). The
texts cannot be recovered from it. Some authors are represented in English translation."""
_ATTRIBUTION = """
## Attribution

Each sample is from one book. Its author is represented by eight windows of other books, as every other author is
(with more windows an author would be closer to everything), and is excluded from the covariance that whitens the
features. Attribution is right if the true author is the closest. Every author has equal weight; "among 8" and "among
20" are means over all ways to draw the rivals from the 35 authors with samples, "among 63" is with all of them. The
samples are from novels, tales and sketches in prose by the author alone. In the last column they are from everything
in the author's folder: also letters, verse, plays, mathematics and books with two authors.
"""
_BETWEEN = """
## What texts reach

The score on the lowest scale; 0 is other authors (for word order, a bigram model) and 100 the author's held-out text.
All of an author's stories but the last one are training text, up to 1.2 million characters; every eighth
span of 25,000 characters is held out, half of these to make the scales and half to be judged.
"""
_END = """
Word order is measured by how much better two words predict the kind of the next one than one word does. The output
of a bigram model of words does not pass, whatever text it is a model of. The output of a trigram model of a text of
this size passes but copies long passages, which is for the verdict on copying to say."""


if __name__ == "__main__":
    main()
