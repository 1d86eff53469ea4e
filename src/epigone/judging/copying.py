"""A text and what was learned from in; how much is copied, the longest passage on both sides and a verdict out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from epigone.judging.library import PASSAGE_CHARACTERS, Library, open_library
from epigone.judging.verdicts import HELD_OUT, Mark, Measure, Verdict
from epigone.text.passages import Found, Shared, find_passages
from epigone.text.storing import Text, cut_across
from epigone.training.events import Tone

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
WORSE: tuple[Tone, ...] = ("good", "unsure", "fair", "bad")
"""The one that comes later counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What an author's own held-out text shares with what was learned from."""

    n_characters: int
    share: float
    longest_characters: int


def find_copied(text: str, documents: Iterable[Text], n_characters: int = PASSAGE_CHARACTERS) -> Found:
    """What of a text stands in documents, in passages of `n_characters` or more; case and white space play no role.

    The longest passage is found whatever its length. Raises ValueError where `n_characters` is not positive.
    """
    return find_passages([text], documents, n_characters)[0]


def judge_copying(text: str, documents: Iterable[Text], held_out: Sequence[Text]) -> Verdict:
    """Whether a text copies what was learned from, beside what the author's own held-out text does.

    `held_out` are documents too, or one text; where there is none, the verdict goes by fixed numbers and says so.
    """
    stretches = _pick_stretches([held_out] if isinstance(held_out, str) else held_out)
    found, *others = find_passages([text, *stretches], documents, PASSAGE_CHARACTERS)
    floor = _make_floor(others)
    own = stretches
    if sum(map(len, own)) < LITTLE_CHARACTERS and isinstance(documents, Sequence):
        own = _pick_stretches([*own, *documents])  # is he himself one of those whom the base has read?
    others_books = search_library(text, "\n".join(own))
    tone = max(choose_tone(found, floor), others_books.tone, key=WORSE.index)
    sentences = (_describe(found, choose_tone(found, floor)), _describe_floor(floor), others_books.sentence)
    return Verdict(
        topic="copies",
        tone=tone,
        sentence=" ".join(filter(None, sentences)),
        measures=(*_list_measures(found, floor), *others_books.measures),
        facts=_list_facts(found, floor) | {"library_share": others_books.share},
    )


# -- from other books


@dataclass(frozen=True, kw_only=True, slots=True)
class OthersBooks:
    """What a text shares with the books that the small base has read."""

    tone: Tone = "good"
    share: float | None = None
    """None where the text is too short to say."""
    sentence: str = ""
    measures: tuple[Measure, ...] = ()


def search_library(text: str, own: str, library: Library | None = None) -> OthersBooks:
    """Whether a text that is not copied from its author is copied from others' books.

    `own`, text of the author's, says how much of these he has himself: he may be one of their authors.
    """
    library = library or open_library()
    share, n_looked_at = library.measure_share(text)
    if n_looked_at < LEAST_LOOKED_AT:
        return OthersBooks()
    usual, n_usual = library.measure_share(own)
    floor = usual if n_usual >= LEAST_LOOKED_AT else 0.0
    surely = share - 2 * math.sqrt(share / n_looked_at)  # two standard deviations less
    is_bad, is_fair = surely > max(BAD_SHARE, FLOORS * floor), surely > max(GOOD_SHARE, FLOORS * floor)
    tone: Tone = "bad" if is_bad else "fair" if is_fair else "good"
    name = "text in copied passages of books that the small base has read"
    mark = Mark(name="the author's own text", value=usual) if n_usual >= LEAST_LOOKED_AT else None
    percent = f"{share:.1%}".replace("%", " %")
    return OthersBooks(
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
    return ["\n".join(cut_across(held_out, start, start + n_each)) for start in starts]


def _make_floor(others: Sequence[Found]) -> Floor:
    n_characters = sum(other.n_characters for other in others)
    n_covered = sum(other.n_covered for other in others)
    return Floor(
        n_characters=n_characters,
        share=n_covered / max(1, n_characters),
        longest_characters=max(map(_measure_longest, others), default=0),
    )


def _measure_longest(found: Found) -> int:
    return found.longest.n_characters if found.longest else 0


def choose_tone(found: Found, floor: Floor | None = None) -> Tone:
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


def _describe(found: Found, tone: Tone) -> str:
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


def _list_measures(found: Found, floor: Floor) -> tuple[Measure, ...]:
    share, longest = (
        Mark(name=HELD_OUT, value=value) if floor.n_characters else None
        for value in (floor.share, floor.longest_characters)
    )
    name = f"text in copied passages of {PASSAGE_CHARACTERS} characters or more"
    return (
        Measure(name=name, value=found.share, unit="share", floor=share),
        Measure(name="longest copied passage", value=_measure_longest(found), unit="characters", floor=longest),
    )


def _list_facts(found: Found, floor: Floor) -> dict[str, object]:
    longest: Shared | None = found.longest
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
