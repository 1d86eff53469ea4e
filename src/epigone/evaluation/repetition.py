"""A text and its author's own in; how much the text repeats itself, beside what the author does, and a verdict out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from epigone.evaluation.verdict import Measure, Reference, Verdict
from epigone.text_reuse.hashing import normalise
from epigone.training.events import Grade

Unit = Literal["words", "characters"]
WINDOW_UNITS = 256
"""A loop of a sentence or two comes round in so many words, and an author's theme does not yet."""
GRAM_UNITS = 4
PIECE_CHARACTERS = 2_000
LONGEST_WORD = 20
"""Characters a word on average: no language that puts spaces between words comes near, Chinese or Thai is far above."""
NEAR_REPEATED, FAR_REPEATED = 0.02, 0.10
"""Above the author's own range: five passages of four words in a window, and a tenth of all."""
NEAR_COMPRESSION, FAR_COMPRESSION = 1.05, 1.30
"""Times the top of the author's own range."""
LOOPED = 0.5
"""A window with more repeated than this goes round in circles."""
FAR_LOOPED = 0.10
"""Windows of a text that may do so, beyond the author's own, before it is bad."""
SHORT_UNITS = 50
AUTHOR = "the author's own text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Repetition:
    """How much a text repeats itself."""

    unit: Unit
    repeated: tuple[float, ...]
    """Of each window, the share of its passages of four that came in it before: 0 to 1."""
    compression: tuple[float, ...]
    """Of each piece, its bytes for each byte that zlib makes of it. The more it repeats, the higher."""

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
        """The share of the windows that go round in circles."""
        return sum(share > LOOPED for share in self.repeated) / max(1, len(self.repeated))


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorRange:
    """What an author's own windows and pieces come to: from their 5th to their 95th percentile."""

    own: Repetition
    repeated: tuple[float, float]
    compression: tuple[float, float]
    n_units: int
    n_characters: int
    """The sizes of a window and a piece."""


def choose_unit(text: str) -> Unit:
    """Words, or characters where a text puts no spaces between words."""
    return "characters" if len(text) > LONGEST_WORD * max(1, len(text.split())) else "words"


def measure_repetition(
    text: str, unit: Unit | None = None, *, n_units: int = WINDOW_UNITS, n_characters: int = PIECE_CHARACTERS
) -> Repetition:
    """Repeated passages of four words in windows of `n_units`, and how far pieces of `n_characters` can be compressed.

    Where `unit` is not given, the text decides. Windows and pieces that are not full do not count, unless there is
    only one. Case and white space play no role for the words.
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
    """An author's own range, from his text. For short samples give sizes that they can fill."""
    own = measure_repetition(text, unit, n_units=n_units, n_characters=n_characters)
    repeated, compression = _find_range(own.repeated), _find_range(own.compression)
    return AuthorRange(own=own, repeated=repeated, compression=compression, n_units=n_units, n_characters=n_characters)


def _find_range(values: Sequence[float]) -> tuple[float, float]:
    """The 5th and the 95th percentile, each one of the values."""
    ordered = sorted(values) or [0.0]
    return ordered[round(0.05 * (len(ordered) - 1))], ordered[round(0.95 * (len(ordered) - 1))]


def check_repetition(text: str, usual: AuthorRange) -> tuple[Repetition, Grade]:
    """How much a text repeats itself and whether that is in the author's range; about a millisecond for a page."""
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
    """Whether a text repeats itself more than its author does, by his own text.

    Windows and pieces are as long as the shorter of the two texts allows.
    """
    unit: Unit = "words" if {choose_unit(text), choose_unit(held_out)} == {"words"} else "characters"
    n_units = min(len(list_units(text, unit)), len(list_units(held_out, unit)))
    sizes = {
        "n_units": max(1, min(WINDOW_UNITS, n_units)),
        "n_characters": max(1, min(PIECE_CHARACTERS, len(text), len(held_out))),
    }
    usual = measure_range(held_out, unit, **sizes)
    found, tone = check_repetition(text, usual)
    tone = "unsure" if n_units < SHORT_UNITS else tone
    return Verdict(
        topic="repeats",
        tone=tone,
        sentence=_describe(found, usual, tone),
        measures=_list_measures(found, usual),
        facts=_list_facts(found, usual),
    )


def _describe(found: Repetition, usual: AuthorRange, tone: Grade) -> str:
    beginning = {
        "good": "It repeats itself no more than the author does",
        "fair": "It repeats itself somewhat more than the author does",
        "bad": "It repeats itself",
        "unsure": "There is too little text to say whether it repeats itself",
    }[tone]
    low, high = (f"{share:.1%}".replace("%", " %") for share in usual.repeated)
    share = f"{found.mean_repeated:.1%}".replace("%", " %")
    repeated = f"{share} of its passages of four {found.unit} come again within {usual.n_units} {found.unit}"
    return f"{beginning}: {repeated}; of the author's own it is {low} to {high}."


def _list_measures(found: Repetition, usual: AuthorRange) -> tuple[Measure, ...]:
    return (
        Measure(
            name=f"repeated passages of four {found.unit}",
            value=found.mean_repeated,
            unit="share",
            ceiling=Reference(name=AUTHOR, value=usual.own.mean_repeated),
        ),
        Measure(
            name="times that a page can be compressed",
            value=found.mean_compression,
            ceiling=Reference(name=AUTHOR, value=usual.own.mean_compression),
        ),
    )


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
