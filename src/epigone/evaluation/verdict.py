"""What a judgement is made of: verdicts with their evidence, each number of that beside a floor and a ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from epigone.training.events import Grade

Topic = Literal["sounds like", "copies", "repeats", "learned"]
UNTOUCHED = "the untouched base"
HELD_OUT = "the author's own held-out text"
"""The name of a mark that many numbers have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A number to see another one by: "the author's own held-out text", 0.0003."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One number of the evidence."""

    name: str
    """A noun in plain words: "repeated passages of four words"."""
    value: float
    unit: Literal["", "share", "characters", "bits per byte", "of 100"] = ""
    """Of the value, the band and the marks; a share is 0 to 1 and is shown in per cent."""
    floor: Reference | None = None
    """What the number would be without style, learning or copying."""
    ceiling: Reference | None = None
    """What the author's own text comes to, or the worst that can be."""
    base: Reference | None = None
    """What the text of the untouched base comes to, where the model was made from one."""
    low: float | None = None
    """Where a 95 % band begins, if one is known."""
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One plain answer."""

    topic: Topic
    tone: Grade
    sentence: str
    """What is to be said, in one or two plain sentences."""
    measures: tuple[Measure, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More for programs and pages, as plain values: copies have "share" and "longest_characters" here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The verdicts on one text."""

    text: str
    """What was judged, by name."""
    against: str
    """Whose text it was held against, by name."""
    n_characters: int
    """Of the text that was judged."""
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    """What a reader has to know: "The bundled authors write English; this text does not."."""

    def as_json(self) -> dict[str, Any]:
        """The judgement as plain values: under each topic ("sounds_like") its verdict, its facts beside it."""
        plain: dict[str, Any] = {
            "text": self.text,
            "against": self.against,
            "n_characters": self.n_characters,
            "notes": list(self.notes),
        }
        for verdict in self.verdicts:
            said = {"tone": verdict.tone, "sentence": verdict.sentence}
            measures = [asdict(measure) for measure in verdict.measures]
            plain[verdict.topic.replace(" ", "_")] = said | dict(verdict.facts) | {"measures": measures}
        return plain
