"""Does a text repeat itself more than its author does? Repeated four-word passages, and how well zlib compresses it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from epigone.evaluation.verdict import Measure, Reference, Verdict, roughly
from epigone.text_reuse.hashing import normalise
from epigone.training.events import Grade

Unit = Literal["words", "characters"]
WINDOW_UNITS = 256
"""Enough for a loop of a sentence or two to show, and too few for an author's themes to recur."""
GRAM_UNITS = 4
PIECE_CHARACTERS = 2_000
LONGEST_WORD = 20
"""Characters per word on average: languages with spaces between words stay far below, Chinese or Thai is far above."""
NEAR_REPEATED, FAR_REPEATED = 0.02, 0.10
"""Above the author's own range: five four-word passages in a window, and a tenth of all."""
NEAR_COMPRESSION, FAR_COMPRESSION = 1.05, 1.30
"""Times the top of the author's own range."""
LOOPED = 0.5
"""A window with a larger share of repeated passages is in a loop."""
FAR_LOOPED = 0.10
"""The share of windows in a loop, above the author's own, from which on the grade is bad."""
SHORT_UNITS = 50
AUTHOR = "the author's own text"

# -- measuring


@dataclass(frozen=True, kw_only=True, slots=True)
class Repetition:
    """How much a text repeats itself."""

    unit: Unit
    repeated: tuple[float, ...]
    """For each window, the share of its four-word passages that occurred in it before: 0 to 1."""
    compression: tuple[float, ...]
    """For each piece, bytes per byte of zlib output: the more it repeats itself, the higher."""

    @property
    def mean_repeated(self) -> float:
        """Over all windows."""
        return sum(self.repeated) / max(1, len(self.repeated))

    @property
    def mean_compression(self) -> float:
        """Over all pieces."""
        return sum(self.compression) / max(1, len(self.compression))

    @property
    def looped(self) -> float:
        """The share of windows that are in a loop."""
        return sum(share > LOOPED for share in self.repeated) / max(1, len(self.repeated))


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorRange:
    """The range of an author's own windows and pieces, from the 5th to the 95th percentile."""

    own: Repetition
    repeated: tuple[float, float]
    compression: tuple[float, float]
    n_units: int
    n_characters: int
    """The sizes of a window and of a piece."""


def choose_unit(text: str) -> Unit:
    """Words, or characters for a text without spaces between words."""
    return "characters" if len(text) > LONGEST_WORD * max(1, len(text.split())) else "words"


def measure_repetition(
    text: str, unit: Unit | None = None, *, n_units: int = WINDOW_UNITS, n_characters: int = PIECE_CHARACTERS
) -> Repetition:
    """Repeated four-word passages in windows of `n_units`, and the compression of pieces of `n_characters`.

    The text decides on the unit if none is given. Incomplete windows and pieces are ignored, unless there is only one.
    For the words, case and white space are ignored.
    """
    unit = unit or choose_unit(text)
    units = list_units(text, unit)
    windows = [units[start : start + n_units] for start in _list_starts(len(units), n_units)]
    pieces = [text[start : start + n_characters] for start in _list_starts(len(text), n_characters)]
    return Repetition(
        unit=unit,
        repeated=tuple(map(_measure_repeated, windows)),
        compression=tuple(map(_measure_compression, pieces)),
    )


def list_units(text: str, unit: Unit) -> Sequence[str]:
    """The text's words, or its characters, as they are compared."""
    return normalise(text).split() if unit == "words" else normalise(text).strip()


def _list_starts(n_all: int, size: int) -> range:
    return range(0, max(1, n_all - size + 1), size) if n_all else range(0)


def _measure_repeated(units: Sequence[str]) -> float:
    grams = [tuple(units[start : start + GRAM_UNITS]) for start in range(len(units) - GRAM_UNITS + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _measure_compression(piece: str) -> float:
    data = piece.encode("utf-8", "surrogatepass")
    return len(data) / len(zlib.compress(data, 9))


def measure_range(
    text: str, unit: Unit | None = None, *, n_units: int = WINDOW_UNITS, n_characters: int = PIECE_CHARACTERS
) -> AuthorRange:
    """An author's range, from text of their own. To judge short texts, give sizes that those can fill."""
    own = measure_repetition(text, unit, n_units=n_units, n_characters=n_characters)
    repeated, compression = _percentiles(own.repeated), _percentiles(own.compression)
    return AuthorRange(own=own, repeated=repeated, compression=compression, n_units=n_units, n_characters=n_characters)


def choose_sizes(text: str, other: str, unit: Unit) -> dict[str, int]:
    """The sizes of windows and pieces, as far as both texts can fill them."""
    n_units = min(len(list_units(text, unit)), len(list_units(other, unit)))
    return {
        "n_units": max(1, min(WINDOW_UNITS, n_units)),
        "n_characters": max(1, min(PIECE_CHARACTERS, len(text), len(other))),
    }


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The 5th and the 95th percentile, each one of the values."""
    ordered = sorted(values) or [0.0]
    return ordered[round(0.05 * (len(ordered) - 1))], ordered[round(0.95 * (len(ordered) - 1))]


# -- judging


def check_repetition(text: str, usual: AuthorRange) -> tuple[Repetition, Grade]:
    """How much a text repeats itself, and the grade beside the author's range; about a millisecond for a page."""
    found = measure_repetition(text, usual.own.unit, n_units=usual.n_units, n_characters=usual.n_characters)
    return found, _choose_grade(found, usual)


def _choose_grade(found: Repetition, usual: AuthorRange) -> Grade:
    repeated, looped = found.mean_repeated - usual.repeated[1], found.looped - usual.own.looped
    compression = found.mean_compression / max(1e-9, usual.compression[1])
    if repeated > FAR_REPEATED or compression > FAR_COMPRESSION or looped > FAR_LOOPED:
        return "bad"
    is_near = repeated <= NEAR_REPEATED and compression <= NEAR_COMPRESSION and looped <= 0
    return "good" if is_near else "fair"


def judge_repetition(text: str, held_out: str) -> Verdict:
    """Judge whether a text repeats itself more than its author does, by the author's held-out text.

    Windows and pieces are as long as the shorter of the two texts allows.
    """
    unit: Unit = "words" if {choose_unit(text), choose_unit(held_out)} == {"words"} else "characters"
    sizes = choose_sizes(text, held_out, unit)
    usual = measure_range(held_out, unit, **sizes)
    found, grade = check_repetition(text, usual)
    grade = "unsure" if sizes["n_units"] < SHORT_UNITS else grade
    measures = (
        Measure(
            name=f"repeated passages of four {found.unit}",
            value=found.mean_repeated,
            unit="share",
            ceiling=Reference(name=AUTHOR, value=usual.own.mean_repeated),
            bad_from=usual.repeated[1] + FAR_REPEATED,
        ),
        Measure(
            name="compression ratio of a page",
            value=found.mean_compression,
            ceiling=Reference(name=AUTHOR, value=usual.own.mean_compression),
            bad_from=FAR_COMPRESSION * usual.compression[1],
        ),
    )
    sentence, facts = _describe(found, usual, grade), _list_facts(found, usual)
    return Verdict(topic="repeats", grade=grade, sentence=sentence, measures=measures, facts=facts)


def _describe(found: Repetition, usual: AuthorRange, grade: Grade) -> str:
    beginning = {
        "good": "It repeats itself no more than the author does",
        "fair": "It repeats itself somewhat more than the author does",
        "bad": "It repeats itself",
        "unsure": "There is too little text to say whether it repeats itself",
    }[grade]
    passages = f"passages of four {found.unit} recur within {usual.n_units} {found.unit}"
    most = roughly(usual.repeated[1])
    own = most if most == "none" or most.startswith("under") else f"up to {most}"
    return f"{beginning}: {roughly(found.mean_repeated)} of its {passages}; for the author it is {own}."


def _list_facts(found: Repetition, usual: AuthorRange) -> dict[str, object]:
    return {
        "unit": found.unit,
        "repeated": found.mean_repeated,
        "repeated_range": list(usual.repeated),
        "compression": found.mean_compression,
        "compression_range": list(usual.compression),
        "looped": found.looped,
        "looped_by_author": usual.own.looped,
        "window": usual.n_units,
    }
