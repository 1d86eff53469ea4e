"""How what a run writes is shaped, beside its author's held-out text: paragraphs, dialogue, marks, stanzas, sentences.

    python tools/shapes.py RUN... --critic modern              with and without marks in pairs
    python tools/shapes.py RUN --characters 100000

The critic is a bundled base, best one that the run did not start from: it says in bits per character how much what was
written surprises a model that had no part in it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from epigone.corpus.words import SENTENCE_END, SPACED_WORD
from epigone.evaluation.judge import is_english
from epigone.generation.known_words import LETTERS, KnownWords, list_words, read_words
from epigone.generation.paired_marks import PARAGRAPH_END, find_pairings, is_paired
from epigone.model.base_profile import BASES
from epigone.run import Run, judging_write_settings, open_critic, open_run

OPENINGS = "\"“„«‘'—–"
"""What dialogue begins with; a single mark or a dash at the beginning of a paragraph, too."""
QUOTES = (('"', '"'), ("“", "”"), ("«", "»"))
BRACKETS = (("(", ")"), ("[", "]"))
Row = tuple[str, str]


def main() -> None:
    """Print a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--characters", type=int, default=50_000, help="that the run's model writes, as for its judge")
    parser.add_argument("--critic", default="none", help="name of a bundled base")
    parser.add_argument("--marks", nargs="+", default=["auto", "any"], help="values of that setting of write")
    asked = parser.parse_args()
    for path in asked.runs:
        compare(open_run(path), asked.characters, asked.critic, asked.marks)


def compare(run: Run, n_characters: int, critic: str, choices: Sequence[str]) -> None:
    """Print the author's shapes and the run's, with and without marks in pairs."""
    own = [str(text) for text in run.folder.read_documents()]
    how = judging_write_settings(n_characters)
    texts = {"author": [str(text) for text in run.folder.read_held_out()]}
    for marks in choices:
        texts[f"marks {marks}"] = run.open_generator(how).write("", how.model_copy(update={"marks": marks}))
    known = KnownWords(read_words(BASES["small"].folder) if is_english(own) else (), list_words("\n".join(own)))
    columns = [dict(measure(several, own, known, name == "author")) for name, several in texts.items()]
    if critic != "none":
        for column, several in zip(columns, texts.values(), strict=True):
            column["bits a character, critic"] = f"{measure_surprise(several, critic):.3f}"
    pairings = [f"{opening}{closing} by {within}" for opening, closing, within in find_pairings(own)]
    print(f"\n{run.path}: {', '.join(pairings)}\n")
    print("| | " + " | ".join(texts) + " |\n| --- |" + " ---: |" * len(texts))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |", flush=True)


def measure(texts: Sequence[str], own: Sequence[str], known: KnownWords, is_author: bool) -> Iterable[Row]:
    """The rows of one column. The last paragraph of what a model wrote is incomplete and left out."""
    divided = [PARAGRAPH_END.split(text) for text in texts]
    paragraphs = [one for several in divided for one in (several if is_author else several[:-1]) if one.strip()]
    words = [len(SPACED_WORD.findall(one)) for one in paragraphs]
    lines = [[line for line in one.split("\n") if line.strip()] for one in paragraphs]
    yield "characters, paragraphs", f"{sum(map(len, texts)):,}, {len(paragraphs):,}"
    yield "words a paragraph", describe_range(words)
    yield "words a sentence", describe_range([n for one in paragraphs for n in _count_sentence_words(one)])
    yield "lines a paragraph", describe_range([len(one) for one in lines])
    yield "characters a line", describe_range([len(line) for one in lines for line in one])
    yield "dialogue, paragraphs", _share([one.lstrip()[:1] in OPENINGS for one in paragraphs])
    for name, pairs in (("quotation marks", QUOTES), ("brackets", BRACKETS)):
        with_some = [one for one in paragraphs if any(mark in one for pair in pairs for mark in pair)]
        yield f"with {name}, paragraphs", _share([one in with_some for one in paragraphs])
        yield (
            f"of these, {name} not in pairs",
            _share([not all(is_paired(one, *pair) for pair in pairs) for one in with_some]),
        )
    ends = [text.rstrip()[-1:] for text in texts]
    yield "texts that end in an open quotation", "" if is_author else _share([_is_open(text) for text in texts])
    yield "texts that end with a stop", "" if is_author else _share([end in ".!?…\"'”’»)*_" for end in ends])
    found = [word.casefold() for text in texts for word in LETTERS.findall(text)]
    yield "words in no list", _share([not known.has(word) for word in found], 2)


def _is_open(text: str) -> bool:
    last = PARAGRAPH_END.split(text)[-1]
    return any(not is_paired(last, *pair) for pair in QUOTES)


def _count_sentence_words(paragraph: str) -> list[int]:
    edges = [0, *(match.end() for match in SENTENCE_END.finditer(paragraph)), len(paragraph)]
    counts = (len(SPACED_WORD.findall(paragraph[a:b])) for a, b in pairwise(edges))
    return [count for count in counts if count]


def describe_range(values: Sequence[int]) -> str:
    """The median, and between which the middle half lies."""
    if len(values) < 2:
        return "too few"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


def _share(values: Sequence[bool], digits: int = 1) -> str:
    return f"{100 * sum(values) / max(1, len(values)):.{digits}f} %"


def measure_surprise(texts: Sequence[str], name: str) -> float:
    """Bits per character under a base, each text read by itself, as much of all of them as the judge reads."""
    from epigone.evaluation.judge import Author

    critic = open_critic(name, Author(name="", documents=[]))
    assert critic is not None
    some = [text[:2_000] for text in ([one[n : n + 2_000] for one in texts for n in range(0, len(one), 2_000)])][:16]
    return sum(map(critic.measure_bits, some)) / sum(map(len, some))


if __name__ == "__main__":
    main()
