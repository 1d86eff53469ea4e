"""What a judgement consists of: verdicts in words, and their evidence, with a floor and a ceiling for each number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from epigone.training.events import Grade

Topic = Literal["sounds like", "makes sense", "copies", "repeats", "learned"]
UNTOUCHED = "the untouched base"
SENSE_LIMITS = "Whether one sentence follows from another is not measured."
HELD_OUT = "the author's own held-out text"
"""The name of a reference that many measures have."""
WORD_ORDER = "word order"
"""The style scale that needs the most text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A number to compare another one with: "the author's own held-out text", 0.0003."""

    name: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One number of the evidence."""

    name: str
    """A noun in plain words: "repeated four-word passages"."""
    value: float
    unit: Literal["", "share", "characters", "bits per byte", "of 100"] = ""
    """Of the value, the band and the references. A share is 0 to 1 and is shown in per cent."""
    floor: Reference | None = None
    """What the number would be without style, learning or copying."""
    ceiling: Reference | None = None
    """What the author's own text reaches, or the worst possible value."""
    base: Reference | None = None
    """What text by the untouched base reaches, if the model was trained from one."""
    low: float | None = None
    """Lower end of the 95 % band, if one is known."""
    high: float | None = None
    bad_from: float | None = None
    """The value from which on it is bad, where less is better and there is such a limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The answer to one question."""

    topic: Topic
    grade: Grade
    sentence: str
    """The answer in one or two plain sentences."""
    measures: tuple[Measure, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More for programs and pages, as plain values: "copies" has "share" and "longest_characters" here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The verdicts on one text."""

    text: str
    """The name of what was judged."""
    against: str
    """The name of the author's text that it was compared with."""
    n_characters: int
    """Of the text that was judged."""
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know, such as that the bundled authors write another language."""
    quick: bool = False
    """Whether it is the one that ends training, of less text: its bands are wider, and it says less of the model."""

    def as_json(self) -> dict[str, Any]:
        """The judgement as plain values: under each topic ("sounds_like") its verdict together with its facts."""
        plain: dict[str, Any] = {
            "text": self.text,
            "against": self.against,
            "n_characters": self.n_characters,
            "notes": list(self.notes),
            "quick": self.quick,
        }
        for verdict in self.verdicts:
            answer = {"grade": verdict.grade, "sentence": verdict.sentence}
            measures = [asdict(measure) for measure in verdict.measures]
            plain[verdict.topic.replace(" ", "_")] = answer | dict(verdict.facts) | {"measures": measures}
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Judgement:
        """The judgement that `as_json` gave as plain values. Raises ValueError where they are not such a judgement."""
        said = {topic: plain[name] for topic in get_args(Topic) if (name := topic.replace(" ", "_")) in plain}
        verdicts = [_split_facts(topic, values) for topic, values in said.items()]
        judgement: Judgement = _adapter().validate_python({**plain, "verdicts": verdicts})
        return judgement


def _split_facts(topic: Topic, values: object) -> dict[str, Any]:
    """The values of a verdict, with its facts in a place of their own."""
    if not isinstance(values, Mapping):
        raise ValueError(f"The verdict on {topic!r} is not an object.")
    fields = ("grade", "sentence", "measures")
    facts = {name: value for name, value in values.items() if name not in fields}
    return {"topic": topic, "facts": facts, **{name: values[name] for name in fields if name in values}}


@cache
def _adapter() -> TypeAdapter[Judgement]:
    return TypeAdapter(Judgement)


def roughly(share: float) -> str:
    """A share of 0 to 1 as people say it: "none", "under 1 %", "12 %"."""
    return "none" if share <= 0 else "under 1 %" if share < 0.01 else percent(share, 0)


def percent(share: float, digits: int = 1) -> str:
    """A share of 0 to 1 as "12.3 %"."""
    return f"{share:.{digits}%}".replace("%", " %")
