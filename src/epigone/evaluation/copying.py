"""A text and what was learned from in; how much is copied, the longest passage on both sides and a verdict out."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save

from epigone.corpus.large_text import Text, slice_across
from epigone.evaluation.verdict import HELD_OUT, Measure, Reference, Verdict
from epigone.files import write_bytes
from epigone.generation.generator import TextGenerator
from epigone.model.decoder import AnyDecoder
from epigone.text_reuse.hashing import Hashes, hash_windows, normalise
from epigone.text_reuse.matches import Match, MatchReport, find_matches
from epigone.tokens.tokenizer import encode
from epigone.training.events import Grade

BUNDLE = "library.safetensors"
PASSAGE_CHARACTERS = 50
"""Shorter ones are shared by chance: the longest that the last tenth of eight novels has of the rest is of 42."""
ONE_IN = 64
"""Of the passages are kept and looked at."""
N_BITS = 25
"""The filter has 2^25 bits, 4 MB."""
N_PLACES = 8
"""Bits that each passage sets."""


@dataclass(frozen=True, slots=True)
class TrainingBooksFilter:
    """What is kept of the books."""

    bits: npt.NDArray[np.uint8]
    """[2^22]: a filter of 2^25 bits."""
    n_passages: int

    @property
    def chance(self) -> float:
        """That a passage which stands in none of the books seems to."""
        return float(np.unpackbits(self.bits).mean()) ** N_PLACES

    def measure_share(self, text: str) -> tuple[float, int]:
        """The share of a text's passages that stand in the books, and how many were looked at."""
        passages = choose_passages(text)
        if not len(passages):
            return 0.0, 0
        known = np.ones(len(passages), np.bool_)
        for places in list_places(passages):
            known &= (self.bits[places >> np.uint64(3)] >> (7 - (places & np.uint64(7))).astype(np.uint8) & 1) == 1
        share = (float(known.mean()) - self.chance) / (1 - self.chance)
        return max(0.0, float(share)), len(passages)


def choose_passages(text: str) -> Hashes:
    """The hashes of the passages of a text that count."""
    hashes = hash_windows(normalise(text), PASSAGE_CHARACTERS)
    chosen: Hashes = hashes[hashes % np.uint64(ONE_IN) == 0]
    return chosen


def list_places(passages: Hashes) -> Iterable[Hashes]:
    """Which bits each passage sets: N_PLACES arrays, made of two halves of the hash (Kirsch and Mitzenmacher 2006)."""
    first, second = passages >> np.uint64(32), (passages >> np.uint64(6)) | np.uint64(1)
    return (((first + np.uint64(number) * second) & np.uint64((1 << N_BITS) - 1)) for number in range(N_PLACES))


def build_books_filter(books: Iterable[str]) -> TrainingBooksFilter:
    """The filter of some books."""
    bits = np.zeros(1 << N_BITS, np.bool_)
    n_passages = 0
    for book in books:
        passages = choose_passages(book)
        n_passages += len(passages)
        for places in list_places(passages):
            bits[places] = True
    return TrainingBooksFilter(np.packbits(bits), n_passages)


def write_books_filter(library: TrainingBooksFilter, path: Path) -> None:
    """Write it to a file. Raises OutputError."""
    write_bytes(path, save({"bits": library.bits}, metadata={"n_passages": str(library.n_passages)}))


@cache
def open_books_filter() -> TrainingBooksFilter:
    """That which comes with the package."""
    with safe_open(Path(str(files("epigone.evaluation") / BUNDLE)), "numpy") as found:
        return TrainingBooksFilter(found.get_tensor("bits"), int(found.metadata()["n_passages"]))


N_PROBES = 32
PREFIX_TOKENS = 50
"""As many are asked for. A model gives away what it knows by heart the more surely the more it is told (Carlini et al.
2023)."""
TOKEN_CHARACTERS = 12
"""Hardly any text has more for each token on average."""
TRIES = 20


def probe_memorization(
    writer: TextGenerator,
    documents: Sequence[Text],
    held_out: Sequence[Text],
    *,
    n_probes: int = N_PROBES,
    seed: int = 0,
) -> tuple[Measure, ...]:
    """How much of a text the model says by itself when it is given the 50 tokens before; its likeliest token each time.

    Two numbers: the mean share of 50 tokens that come before the first wrong one, and the share of passages without a
    wrong one. What was held out is their floor, if it is long enough. A model that reads fewer than 100 tokens at once
    is given half of what it reads. There are none where no document is long enough.
    """
    n_tokens = min(PREFIX_TOKENS, writer.decoder.n_positions // 2)
    learned = list(_pick_passages(documents, writer, n_probes, 2 * n_tokens, seed))
    others = list(_pick_passages(held_out, writer, n_probes, 2 * n_tokens, seed))
    if not learned:
        return ()
    numbers = _measure_recall(writer.decoder, learned)
    floors = _measure_recall(writer.decoder, others) if others else (None, None)
    names = ("learned text continued word for word", f"passages of {n_tokens} tokens known by heart")
    return tuple(
        Measure(
            name=name,
            value=number,
            unit="share",
            floor=None if floor is None else Reference(name=HELD_OUT, value=floor),
            ceiling=Reference(name="all known by heart", value=1.0),
        )
        for name, number, floor in zip(names, numbers, floors, strict=True)
    )


def _pick_passages(
    documents: Sequence[Text], writer: TextGenerator, count: int, n_tokens: int, seed: int
) -> Iterator[list[int]]:
    """Ids of passages from anywhere in the documents, all of one length; fewer where the documents are short."""
    documents = [documents] if isinstance(documents, str) else documents
    chance, ends, n_found = random.Random(seed), list(accumulate(map(len, documents))), 0
    for _ in range(TRIES * count if ends and ends[-1] else 0):
        document = chance.choices(documents, cum_weights=ends)[0]
        start = _find_edge(document, chance.randrange(len(document)))
        ids = encode(document[start : start + TOKEN_CHARACTERS * n_tokens], writer.tokenizer)[:n_tokens]
        if len(ids) == n_tokens:
            yield ids
            n_found += 1
        if n_found == count:
            return


def _find_edge(document: Text, place: int) -> int:
    """The white space after a place, before which tokens end; the place itself where words are not so divided."""
    following = document[place : place + 4 * TOKEN_CHARACTERS]
    spaces = (number for number, character in enumerate(following) if character.isspace())
    return place + next(spaces, 0)


@torch.inference_mode()
def _measure_recall(decoder: AnyDecoder, passages: list[list[int]]) -> tuple[float, float]:
    """The mean share of the second halves before the first wrong token, and the share of those without one."""
    ids = torch.tensor(passages, dtype=torch.int64, device=decoder.device)
    prefixes, expected = ids.chunk(2, dim=1)
    logits = decoder.begin(prefixes, ids.shape[1], len(ids))
    right = torch.ones(len(ids), dtype=torch.bool, device=decoder.device)
    n_right = torch.zeros(len(ids), dtype=torch.int64, device=decoder.device)
    for number in range(expected.shape[1]):
        tokens = logits.argmax(-1)
        right &= tokens == expected[:, number]
        n_right += right
        if number + 1 < expected.shape[1] and bool(right.any()):
            logits = decoder.step(tokens)
    return float(n_right.double().mean()) / expected.shape[1], float(right.double().mean())


GOOD_SHARE, BAD_SHARE = 0.01, 0.05
FLOORS = 3
"""The share may be so many times that of the author's own held-out text, whatever that is: some live by refrains."""
GOOD_LONGEST, BAD_LONGEST = 100, 150
"""Characters: a sentence; two lines of verse and a half. Nobody writes so much again without meaning to."""
SHORT_CHARACTERS = 2_000
"""One passage of 50 characters is more than 2 % of a text shorter than this."""
PLAIN_SHARE = 0.5
"""So much is copying in a short text too."""
FLOOR_CHARACTERS, FLOOR_STRETCHES = 200_000, 10
"""The held-out text that is compared: so much at most, from so many places."""
LITTLE_CHARACTERS = 20_000
"""Less held-out text than this says little of how much an author repeats himself."""
LEAST_LOOKED_AT = 100
"""Passages of a text that are looked up in the library: of fewer, chance makes a share."""
WORSE: tuple[Grade, ...] = ("good", "unsure", "fair", "bad")
"""The one that comes later counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What an author's own held-out text shares with what was learned from."""

    n_characters: int
    share: float
    longest_characters: int


def find_copied(text: str, documents: Iterable[Text], n_characters: int = PASSAGE_CHARACTERS) -> MatchReport:
    """What of a text stands in documents, in passages of `n_characters` or more; case and white space play no role.

    The longest passage is found whatever its length. Raises ValueError where `n_characters` is not positive.
    """
    return find_matches([text], documents, n_characters)[0]


def judge_copying(text: str, documents: Iterable[Text], held_out: Sequence[Text]) -> Verdict:
    """Whether a text copies what was learned from, beside what the author's own held-out text does.

    `held_out` are documents too, or one text; where there is none, the verdict goes by fixed numbers and says so.
    """
    stretches = _pick_stretches([held_out] if isinstance(held_out, str) else held_out)
    found, *others = find_matches([text, *stretches], documents, PASSAGE_CHARACTERS)
    floor = _make_floor(others)
    own = stretches
    if sum(map(len, own)) < LITTLE_CHARACTERS and isinstance(documents, Sequence):
        own = _pick_stretches([*own, *documents])  # is he himself one of those whom the base has read?
    others_books = search_training_books(text, "\n".join(own))
    tone = max(choose_grade(found, floor), others_books.tone, key=WORSE.index)
    sentences = (_describe(found, choose_grade(found, floor)), _describe_floor(floor), others_books.sentence)
    return Verdict(
        topic="copies",
        tone=tone,
        sentence=" ".join(filter(None, sentences)),
        measures=(*_list_measures(found, floor), *others_books.measures),
        facts=_list_facts(found, floor) | {"library_share": others_books.share},
    )


# -- from other books


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherAuthorsBooks:
    """What a text shares with the books that the small base has read."""

    tone: Grade = "good"
    share: float | None = None
    """None where the text is too short to say."""
    sentence: str = ""
    measures: tuple[Measure, ...] = ()


def search_training_books(text: str, own: str, library: TrainingBooksFilter | None = None) -> OtherAuthorsBooks:
    """Whether a text that is not copied from its author is copied from others' books.

    `own`, text of the author's, says how much of these he has himself: he may be one of their authors.
    """
    library = library or open_books_filter()
    share, n_looked_at = library.measure_share(text)
    if n_looked_at < LEAST_LOOKED_AT:
        return OtherAuthorsBooks()
    usual, n_usual = library.measure_share(own)
    floor = usual if n_usual >= LEAST_LOOKED_AT else 0.0
    surely = share - 2 * math.sqrt(share / n_looked_at)  # two standard deviations less
    is_bad, is_fair = surely > max(BAD_SHARE, FLOORS * floor), surely > max(GOOD_SHARE, FLOORS * floor)
    tone: Grade = "bad" if is_bad else "fair" if is_fair else "good"
    name = "text in copied passages of books that the small base has read"
    mark = Reference(name="the author's own text", value=usual) if n_usual >= LEAST_LOOKED_AT else None
    percent = f"{share:.1%}".replace("%", " %")
    return OtherAuthorsBooks(
        tone=tone,
        share=share,
        sentence="" if tone == "good" else f"{percent} of it stands in other books, which the small base has read.",
        measures=(Measure(name=name, value=share, unit="share", floor=mark),),
    )


# -- from what was learned


def _pick_stretches(held_out: Sequence[Text]) -> list[str]:
    """At most FLOOR_CHARACTERS from all over the texts."""
    n_characters, n_each = sum(map(len, held_out)), FLOOR_CHARACTERS // FLOOR_STRETCHES
    if n_characters <= FLOOR_CHARACTERS:
        return list(map(str, held_out))
    starts = [round(number * (n_characters - n_each) / (FLOOR_STRETCHES - 1)) for number in range(FLOOR_STRETCHES)]
    return ["\n".join(slice_across(held_out, start, start + n_each)) for start in starts]


def _make_floor(others: Sequence[MatchReport]) -> Floor:
    n_characters = sum(other.n_characters for other in others)
    n_covered = sum(other.n_covered for other in others)
    return Floor(
        n_characters=n_characters,
        share=n_covered / max(1, n_characters),
        longest_characters=max(map(_measure_longest, others), default=0),
    )


def _measure_longest(found: MatchReport) -> int:
    return found.longest.n_characters if found.longest else 0


def choose_grade(found: MatchReport, floor: Floor | None = None) -> Grade:
    """What the numbers come to; without a floor, fixed ones decide."""
    floor = floor or Floor(n_characters=0, share=0.0, longest_characters=0)
    longest, usual = _measure_longest(found), FLOORS * floor.share
    copies = longest >= max(BAD_LONGEST, floor.longest_characters + 1)
    if found.n_characters < SHORT_CHARACTERS:
        return "bad" if copies or found.share >= PLAIN_SHARE else "unsure"
    if copies or found.share > max(BAD_SHARE, usual):
        return "bad"
    is_usual = longest < max(GOOD_LONGEST, floor.longest_characters + 1)
    return "good" if is_usual and found.share <= max(GOOD_SHARE, usual) else "fair"


def _describe(found: MatchReport, tone: Grade) -> str:
    beginning = {
        "good": "It does not copy",
        "fair": "It copies a little",
        "bad": "It copies",
        "unsure": "It is too short to say whether it copies",
    }[tone]
    share = f"{found.share:.2%} of it stands in the text that was learned from, in passages of {PASSAGE_CHARACTERS}"
    longest = _measure_longest(found)
    return f"{beginning}: {share.replace('%', ' %')} characters or more, and the longest has {longest:,}."


def _describe_floor(floor: Floor) -> str:
    if not floor.n_characters:
        return "There is no held-out text to say how much an author repeats himself."
    numbers = f"{floor.share:.2%} and {floor.longest_characters:,}".replace("%", " %")
    if floor.n_characters < LITTLE_CHARACTERS:
        little = f"of which there are only {floor.n_characters:,} characters"
        return f"Of {HELD_OUT}, {little}, it is {numbers}."
    return f"Of {HELD_OUT} it is {numbers}."


def _list_measures(found: MatchReport, floor: Floor) -> tuple[Measure, ...]:
    share, longest = (
        Reference(name=HELD_OUT, value=value) if floor.n_characters else None
        for value in (floor.share, floor.longest_characters)
    )
    name = f"text in copied passages of {PASSAGE_CHARACTERS} characters or more"
    return (
        Measure(name=name, value=found.share, unit="share", floor=share),
        Measure(name="longest copied passage", value=_measure_longest(found), unit="characters", floor=longest),
    )


def _list_facts(found: MatchReport, floor: Floor) -> dict[str, object]:
    longest: Match | None = found.longest
    return {
        "share": found.share,
        "n_passages": len(found.passages),
        "longest_characters": _measure_longest(found),
        "passage": longest.passage if longest else None,
        "original": longest.original if longest else None,
        "document": longest.document if longest else None,
        "line": longest.line if longest else None,
        "floor_share": floor.share if floor.n_characters else None,
        "floor_longest_characters": floor.longest_characters if floor.n_characters else None,
        "floor_characters": floor.n_characters,
    }
