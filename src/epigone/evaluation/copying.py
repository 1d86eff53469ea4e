"""Does a text copy? From the training text, from the books that the bundled bases were trained on, or out of memory.

Copied passages are found exactly (`text_reuse.matches`). The base's books do not ship with the package, only a Bloom
filter of a sample of their passages. Memorization is probed as by Carlini et al. (2023): given 50 tokens of training
text, how far does the model continue it word for word?
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save

from epigone.corpus.large_text import Text, slice_across
from epigone.evaluation.verdict import HELD_OUT, Measure, Reference, Verdict, roughly
from epigone.files import write_bytes
from epigone.generation.generator import TextGenerator
from epigone.model.base_profile import BASES, BOOKS
from epigone.model.decoder import Decoder
from epigone.text_reuse.hashing import Hashes, hash_windows, normalise
from epigone.text_reuse.matches import MatchReport, find_matches
from epigone.tokens.tokenizer import encode
from epigone.training.events import Grade

PASSAGE_CHARACTERS = 50
"""Shorter passages are shared by chance: the last tenth of eight novels shares at most 42 with the rest."""
GOOD_SHARE, BAD_SHARE = 0.01, 0.05
ABOUT_AS_MUCH = 1.5
"""So many times the share of the held-out text is no more than chance may make of it."""
USUAL_TIMES = 3
"""The share may be this many times that of the author's own held-out text: some authors use refrains."""
GOOD_LONGEST, BAD_LONGEST = 100, 150
"""Characters: one sentence; two and a half lines of verse, which hardly happen twice by accident."""
SHORT_CHARACTERS = 2_000
"""In a shorter text one passage of 50 characters is more than 2 %."""
CLEAR_SHARE = 0.5
"""This much is copying even in a short text."""
FLOOR_CHARACTERS, FLOOR_SPANS = 200_000, 10
"""Of the held-out text this much at most is compared, from this many places."""
LITTLE_CHARACTERS = 20_000
"""Less held-out text says little about how much the author repeats."""
WORSE: tuple[Grade, ...] = ("good", "unsure", "fair", "bad")
"""Of two grades, the later one counts."""

# -- from the training text


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What the author's own held-out text shares with the training text."""

    n_characters: int
    share: float
    longest_characters: int


def find_copied(text: str, documents: Iterable[Text], n_characters: int = PASSAGE_CHARACTERS) -> MatchReport:
    """The passages of at least `n_characters` that a text shares with documents, ignoring case and white space.

    The longest passage is found whatever its length. Raises ValueError if `n_characters` is not positive.
    """
    return find_matches([text], documents, n_characters)[0]


def judge_copying(text: str, documents: Iterable[Text], held_out: Sequence[Text]) -> Verdict:
    """Judge whether a text copies the training text more than the author's own held-out text does.

    `held_out` are documents or one text. Without any, fixed limits decide, and the verdict says so.
    """
    spans = _spread_spans([held_out] if isinstance(held_out, str) else held_out)
    report, *own_reports = find_matches([text, *spans], documents, PASSAGE_CHARACTERS)
    floor = _make_floor(own_reports)
    own = spans
    if sum(map(len, own)) < LITTLE_CHARACTERS and isinstance(documents, Sequence):
        own = _spread_spans([*own, *documents])  # the author may be one of those whom the base has read
    others_books = search_training_books(text, "\n".join(own))
    grade = choose_grade(report, floor)
    sentences = (_describe(report, grade), _describe_floor(floor), others_books.sentence)
    return Verdict(
        topic="copies",
        grade=max(grade, others_books.grade, key=WORSE.index),
        sentence=" ".join(filter(None, sentences)),
        measures=(*_list_measures(report, floor), *others_books.measures),
        facts=_list_facts(report, floor)
        | {
            "n_documents": len(documents) if isinstance(documents, Sequence) else None,
            "library_share": others_books.share,
        },
    )


def choose_grade(report: MatchReport, floor: Floor | None = None) -> Grade:
    """The grade for what was found; without a floor, fixed limits decide."""
    floor = floor or Floor(n_characters=0, share=0.0, longest_characters=0)
    longest, usual = _longest_characters(report), USUAL_TIMES * floor.share
    is_long = longest >= max(BAD_LONGEST, floor.longest_characters + 1)
    if report.n_characters < SHORT_CHARACTERS:
        return "bad" if is_long or report.share >= CLEAR_SHARE else "unsure"
    if is_long or report.share > max(BAD_SHARE, usual):
        return "bad"
    is_short = longest < max(GOOD_LONGEST, floor.longest_characters + 1)
    return "good" if is_short and report.share <= max(GOOD_SHARE, ABOUT_AS_MUCH * floor.share) else "fair"


def _spread_spans(held_out: Sequence[Text]) -> list[str]:
    """At most FLOOR_CHARACTERS, from places spread evenly over the texts."""
    n_characters, n_each = sum(map(len, held_out)), FLOOR_CHARACTERS // FLOOR_SPANS
    if n_characters <= FLOOR_CHARACTERS:
        return list(map(str, held_out))
    starts = [round(number * (n_characters - n_each) / (FLOOR_SPANS - 1)) for number in range(FLOOR_SPANS)]
    return ["\n".join(slice_across(held_out, start, start + n_each)) for start in starts]


def _make_floor(reports: Sequence[MatchReport]) -> Floor:
    n_characters = sum(report.n_characters for report in reports)
    n_covered = sum(report.n_covered for report in reports)
    return Floor(
        n_characters=n_characters,
        share=n_covered / max(1, n_characters),
        longest_characters=max(map(_longest_characters, reports), default=0),
    )


def _longest_characters(report: MatchReport) -> int:
    return report.longest.n_characters if report.longest else 0


def _describe(report: MatchReport, grade: Grade) -> str:
    beginning = {
        "good": "It does not copy",
        "fair": "It copies a little",
        "bad": "It copies",
        "unsure": "It is too short to say whether it copies",
    }[grade]
    if grade == "good" and report.share > GOOD_SHARE:
        beginning = "It copies about as much as the author's other pages do"
    elif grade == "fair" and report.share > BAD_SHARE:
        beginning = "It copies, but so do the author's other pages"
    passages = f"passages of {PASSAGE_CHARACTERS} characters or more that are in the training text"
    longest = f"the longest has {_longest_characters(report):,} characters"
    return f"{beginning}: {roughly(report.share)} of it is in {passages}; {longest}."


def _describe_floor(floor: Floor) -> str:
    if not floor.n_characters:
        return "There is no held-out text to show how much the author repeats."
    little = f", of which there are only {floor.n_characters:,} characters"
    amount = little if floor.n_characters < LITTLE_CHARACTERS else ""
    longest = f"the longest has {floor.longest_characters:,} characters"
    return f"For comparison, {HELD_OUT}{amount}: {roughly(floor.share)}; {longest}."


def _list_measures(report: MatchReport, floor: Floor) -> tuple[Measure, ...]:
    share, longest = (
        Reference(name=HELD_OUT, value=value) if floor.n_characters else None
        for value in (floor.share, floor.longest_characters)
    )
    name = f"text in copied passages of {PASSAGE_CHARACTERS} characters or more"
    return (
        Measure(name=name, value=report.share, unit="share", floor=share, bad_from=BAD_SHARE),
        Measure(
            name="longest copied passage",
            value=_longest_characters(report),
            unit="characters",
            floor=longest,
            bad_from=BAD_LONGEST,
        ),
    )


def _list_facts(report: MatchReport, floor: Floor) -> dict[str, object]:
    longest = report.longest
    return {
        "share": report.share,
        "n_passages": len(report.passages),
        "longest_characters": _longest_characters(report),
        "passage": longest.passage if longest else None,
        "original": longest.original if longest else None,
        "document": longest.document if longest else None,
        "line": longest.line if longest else None,
        "floor_share": floor.share if floor.n_characters else None,
        "floor_longest_characters": floor.longest_characters if floor.n_characters else None,
        "floor_characters": floor.n_characters,
    }


# -- from the books that the bundled bases were trained on

ONE_IN = 64
"""One in so many passages, chosen by its hash, is in the filter and is looked up."""
N_BITS = 1 << 25
"""Of a filter, 4 MB, unless there are more than 3 million passages. A power of two."""
N_PLACES = 8
"""Bits that each passage sets."""
LEAST_LOOKED_UP = 100
"""With fewer passages of a text looked up, chance alone can make a share."""


@dataclass(frozen=True)
class TrainingBooksFilter:
    """Bloom filters of passages of the bases' training books, from which the books cannot be read."""

    filters: tuple[npt.NDArray[np.uint8], ...]
    """One of each base. The number of bits is a power of two."""
    n_passages: int

    @cached_property
    def false_positive_rate(self) -> float:
        """The probability that a passage which is in none of the books seems to be."""
        set_bits = (int.from_bytes(bits.tobytes(), "little").bit_count() for bits in self.filters)
        filled = [n / (8 * len(bits)) for n, bits in zip(set_bits, self.filters, strict=True)]
        return 1 - math.prod(1 - share**N_PLACES for share in filled)

    def measure_share(self, text: str) -> tuple[float, int]:
        """The share of a text's passages that are in the books, and how many were looked up."""
        passages = sample_passages(text)
        if not len(passages):
            return 0.0, 0
        known = np.zeros(len(passages), np.bool_)
        for bits in self.filters:
            known |= _look_up(passages, bits)
        share = (float(known.mean()) - self.false_positive_rate) / (1 - self.false_positive_rate)
        return max(0.0, float(share)), len(passages)


def _look_up(passages: Hashes, bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    known = np.ones(len(passages), np.bool_)
    for places in list_places(passages, 8 * len(bits)):
        known &= (bits[places >> np.uint64(3)] >> (7 - (places & np.uint64(7))).astype(np.uint8) & 1) == 1
    return known


def sample_passages(text: str) -> Hashes:
    """The hashes of the passages that are in the filter or looked up."""
    hashes = hash_windows(normalise(text), PASSAGE_CHARACTERS)
    chosen: Hashes = hashes[hashes % np.uint64(ONE_IN) == 0]
    return chosen


def list_places(passages: Hashes, n_bits: int) -> Iterable[Hashes]:
    """The bits that each passage sets: N_PLACES arrays, from two halves of the hash (Kirsch and Mitzenmacher 2006)."""
    first, second = passages >> np.uint64(32), (passages >> np.uint64(6)) | np.uint64(1)
    return (((first + np.uint64(number) * second) & np.uint64(n_bits - 1)) for number in range(N_PLACES))


def build_books_filter(books: Iterable[str], n_bits: int = N_BITS) -> TrainingBooksFilter:
    """The filter of some books."""
    bits = np.zeros(n_bits, np.bool_)
    n_passages = 0
    for book in books:
        passages = sample_passages(book)
        n_passages += len(passages)
        for places in list_places(passages, n_bits):
            bits[places] = True
    return TrainingBooksFilter((np.packbits(bits),), n_passages)


def write_books_filter(books: TrainingBooksFilter, path: Path) -> None:
    """Write the file that `open_books_filter` reads. Raises OutputError."""
    write_bytes(path, save({"bits": books.filters[0]}, metadata={"n_passages": str(books.n_passages)}))


@cache
def open_books_filter() -> TrainingBooksFilter:
    """The filter of all books that the bundled bases were trained on."""
    filters, n_passages = [], 0
    for profile in BASES.values():
        if (profile.folder / BOOKS).exists():
            with safe_open(profile.folder / BOOKS, "numpy") as file:
                filters.append(file.get_tensor("bits"))
                n_passages += int(file.metadata()["n_passages"])
    return TrainingBooksFilter(tuple(filters), n_passages)


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherAuthorsBooks:
    """What a text shares with the books that the bundled bases were trained on."""

    grade: Grade = "good"
    share: float | None = None
    """None if the text is too short to say."""
    sentence: str = ""
    measures: tuple[Measure, ...] = ()


def search_training_books(text: str, own: str, books: TrainingBooksFilter | None = None) -> OtherAuthorsBooks:
    """Judge whether a text copies the books that the bundled bases were trained on.

    `own`, text by the author, shows how much of it is in these books anyway: some are perhaps by the same author.
    """
    books = books or open_books_filter()
    share, n_looked_up = books.measure_share(text)
    if n_looked_up < LEAST_LOOKED_UP:
        return OtherAuthorsBooks()
    usual, n_usual = books.measure_share(own)
    floor = usual if n_usual >= LEAST_LOOKED_UP else 0.0
    certain = share - 2 * math.sqrt(share / n_looked_up)  # two standard deviations less
    is_bad, is_fair = certain > max(BAD_SHARE, USUAL_TIMES * floor), certain > max(GOOD_SHARE, USUAL_TIMES * floor)
    grade: Grade = "bad" if is_bad else "fair" if is_fair else "good"
    name = "text in copied passages of books that the bundled bases were trained on"
    reference = Reference(name="the author's own text", value=usual) if n_usual >= LEAST_LOOKED_UP else None
    copied = f"{roughly(share)} of it is in other books, on which a bundled base was trained."
    return OtherAuthorsBooks(
        grade=grade,
        share=share,
        sentence="" if grade == "good" else copied,
        measures=(Measure(name=name, value=share, unit="share", floor=reference, bad_from=BAD_SHARE),),
    )


# -- out of memory

N_PROBES = 32
PREFIX_TOKENS = 50
"""Given, and expected back. The more a model is given, the more surely it shows what it has memorized."""
MOST_TOKEN_CHARACTERS = 12
"""Hardly any text has more characters per token on average."""
TRIES = 20


def probe_memorization(
    generator: TextGenerator,
    documents: Sequence[Text],
    held_out: Sequence[Text],
    *,
    n_probes: int = N_PROBES,
    seed: int = 0,
) -> tuple[Measure, ...]:
    """How much of the training text the model continues from 50 tokens, by its likeliest token each time.

    Two measures: the mean share of 50 tokens before the first wrong one, and the share of passages without a wrong
    one. Held-out text is the floor, if it is long enough. A model with a context of fewer than 100 tokens is given
    half of its context. Empty if no document is long enough.
    """
    n_tokens = min(PREFIX_TOKENS, generator.decoder.n_positions // 2)
    training = list(_sample_token_passages(documents, generator, n_probes, 2 * n_tokens, seed))
    unseen = list(_sample_token_passages(held_out, generator, n_probes, 2 * n_tokens, seed))
    if not training:
        return ()
    recalled = _measure_recall(generator.decoder, training)
    floors = _measure_recall(generator.decoder, unseen) if unseen else (None, None)
    names = ("training text continued word for word", f"memorized passages of {n_tokens} tokens")
    return tuple(
        Measure(
            name=name,
            value=number,
            unit="share",
            floor=None if floor is None else Reference(name=HELD_OUT, value=floor),
            ceiling=Reference(name="everything memorized", value=1.0),
        )
        for name, number, floor in zip(names, recalled, floors, strict=True)
    )


def _sample_token_passages(
    documents: Sequence[Text], generator: TextGenerator, count: int, n_tokens: int, seed: int
) -> Iterator[list[int]]:
    """Passages of `n_tokens` ids from random places in the documents; fewer than `count` if those are short."""
    documents = [documents] if isinstance(documents, str) else documents
    rng, ends, n_found = random.Random(seed), list(accumulate(map(len, documents))), 0
    for _ in range(TRIES * count if ends and ends[-1] else 0):
        document = rng.choices(documents, cum_weights=ends)[0]
        start = _next_space(document, rng.randrange(len(document)))
        text = document[start : start + MOST_TOKEN_CHARACTERS * n_tokens]
        ids = encode(text, generator.tokenizer)[:n_tokens]
        if len(ids) == n_tokens:
            yield ids
            n_found += 1
        if n_found == count:
            return


def _next_space(document: Text, place: int) -> int:
    """The white space after a place, where tokens end; the place itself if words are not separated by spaces."""
    following = document[place : place + 4 * MOST_TOKEN_CHARACTERS]
    spaces = (number for number, character in enumerate(following) if character.isspace())
    return place + next(spaces, 0)


@torch.inference_mode()
def _measure_recall(decoder: Decoder, passages: list[list[int]]) -> tuple[float, float]:
    """The mean share of the second halves before the first wrong token, and the share of halves without one."""
    ids = torch.tensor(passages, dtype=torch.int64, device=decoder.device)
    prefixes, expected = ids.chunk(2, dim=1)
    state = decoder.begin(prefixes, ids.shape[1], len(ids))
    logits = state.logits
    right = torch.ones(len(ids), dtype=torch.bool, device=decoder.device)
    n_right = torch.zeros(len(ids), dtype=torch.int64, device=decoder.device)
    for number in range(expected.shape[1]):
        tokens = logits.argmax(-1)
        right &= tokens == expected[:, number]
        n_right += right
        if number + 1 < expected.shape[1] and bool(right.any()):
            logits = state.step(tokens)
    return float(n_right.double().mean()) / expected.shape[1], float(right.double().mean())
