"""A text, an author's own and others' in; whether it sounds like him, as a verdict, out.

Every part is a ruler on which other authors' median is 0 and his own held-out text is 100, and the verdict is the least
of them. What each kind of text reaches is in docs/attribution.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epigone.errors import TextTooShort
from epigone.judging.authors import WINDOW, Authors, load_authors, read_authors
from epigone.judging.chains import write_chain
from epigone.judging.frequencies import normalise
from epigone.judging.rulers import (
    Reading,
    Ruler,
    draw_sample,
    make_compression_ruler,
    make_frequency_rulers,
    make_order_ruler,
)
from epigone.judging.verdicts import HELD_OUT, Mark, Measure, Verdict
from epigone.training.events import LEAST_LIKENESS, Tone

Texts = Mapping[str, Sequence[str]]
LEAST = 25_000
"""Characters of the text that is judged, and of held-out text."""
LEAST_TRAINING = 60_000
"""Characters of the author's text beside what is held out."""
SAME_AUTHOR = 100.0
"""An author who is nearer than held-out text is the author himself."""
LONELY, LEAD = 50.0, 20.0
"""So is one who is half as near, and nearer than the next one by so much."""
GOOD = BAD = LEAST_LIKENESS
"""Good: the whole band lies above; bad: the score itself lies below."""
NO_SERVICE = (
    "The other authors to compare with do not write the language of this text: "
    "0 is what models of its own letters write, and its own words shuffled."
)
BORROWED = "Too little is held out: the end of the text that was learned from stands for the author's held-out text."


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Rulers for one author and one size of text, to judge any number of texts by."""

    rulers: tuple[Ruler, ...]
    size: int
    """Characters of a window."""
    scores: Mapping[str, float]
    """Where each of the other authors is on the rulers of frequencies, in the mean."""
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def read(self, text: str, seed: int = 0) -> dict[str, Reading]:
        """Where a text lies on each ruler."""
        sample = draw_sample(normalise(text), self.size, np.random.default_rng(seed))
        return {ruler.name: ruler.read(sample) for ruler in self.rulers}


def judge_style(
    text: str, train_documents: Sequence[str], held_out: str, others: Texts | None = None, *, seed: int = 0
) -> Verdict:
    """Judge whether a text sounds like the author.

    `train_documents` is what was learned from and `held_out` what was not; `others`: texts of other authors by their
    names, in place of the ones that come with the package; who has fewer than 25,000 characters does not count, and
    TextTooShort is raised if nobody does. Facts: "score", "low" and "high" of the least part,
    which is "least"; "nearest" of the other authors, "left_out", "n_others", "size_needed" and "notes".
    """
    own, held, borrowed = divide_own(train_documents, held_out)
    n_characters = len(normalise(text))
    lacking = _find_lack(n_characters, len(own), len(held))
    if lacking:
        facts = {"size_needed": LEAST, "training_needed": LEAST_TRAINING, "notes": []}
        return Verdict(topic="sounds like", tone="unsure", sentence=lacking, facts=facts)
    yardstick = make_yardstick(own, held, choose_size(n_characters, len(held)), others, seed=seed)
    readings = yardstick.read(text, seed)
    return decide(yardstick, readings, [BORROWED] if borrowed else [])


def divide_own(train_documents: Sequence[str], held_out: str) -> tuple[str, str, bool]:
    """Normalised text to learn the author from and to hold him against; whether the second was taken from the first."""
    own, held = normalise("\n".join(train_documents)), normalise(held_out)
    if len(held) >= LEAST:
        return own, held, False
    n_borrowed = min(WINDOW, max(LEAST, len(own) // 4))
    return own[:-n_borrowed], own[-n_borrowed:], True


def choose_size(n_characters: int, n_held_out: int) -> int:
    """Of windows: the text and the held-out text each have one or more, none longer than the other authors' are."""
    return n_characters // math.ceil(n_characters / min(WINDOW, n_held_out))


def _find_lack(n_characters: int, n_own: int, n_held: int) -> str:
    if n_characters < LEAST:
        return f"Not enough text to say: {n_characters:,} characters; {LEAST:,} are needed."
    if n_own < LEAST_TRAINING or n_held < LEAST:
        needed = LEAST_TRAINING + LEAST
        return (
            f"Not enough text to say: the author's own text has {n_own + n_held:,} characters; {needed:,} are needed."
        )
    return ""


def make_yardstick(own: str, held_out: str, size: int, others: Texts | None = None, *, seed: int = 0) -> Yardstick:
    """Make the rulers from normalised text of the author, to judge texts in windows of `size` characters."""
    source = np.random.default_rng(seed)
    held = draw_sample(held_out, size, source)
    others = _drop_small(others) if others else {}
    authors = read_authors(others) if others else load_authors()
    serves = authors.serves(own)
    authors = authors if serves else imitate(own, source)
    rulers, scores = make_frequency_rulers(authors, own, held, size, source)
    left_out = tuple(name for name in find_same(scores) if serves and len(scores) > 1)
    if left_out:
        rulers, scores = make_frequency_rulers(authors.without(left_out), own, held, size, source)
    readable = {name: texts for name, texts in others.items() if serves and name not in left_out}
    rulers += [make_compression_ruler(own, held, readable, source), make_order_ruler(own, held, size, source)]
    if not serves:
        rulers = [_rename(ruler) for ruler in rulers]
    return Yardstick(tuple(rulers), size, scores, left_out, () if serves else (NO_SERVICE,))


def _drop_small(others: Texts) -> Texts:
    kept = {name: texts for name, texts in others.items() if sum(map(len, texts)) >= LEAST}
    if not kept:
        hint = "Give more of their texts, or none: then those that come with epigone are taken."
        raise TextTooShort(f"None of the other authors has {LEAST:,} characters.", hint=hint)
    return kept


def find_same(scores: Mapping[str, float]) -> list[str]:
    """The other authors who are so near that they must be the author."""
    ranked = sorted(scores.items(), key=lambda one: -one[1])
    same = [name for name, score in ranked if score > SAME_AUTHOR]
    if same or len(ranked) < 3:
        return same
    (first, score), (_, second) = ranked[:2]
    return [first] if score >= LONELY and score - second >= LEAD else []


def imitate(own: str, source: np.random.Generator) -> Authors:
    """In place of other authors: what models of pairs and triples of the author's own letters write."""
    texts = {}
    for order, name in enumerate(("a model of letter pairs", "a model of letter triples"), 1):
        texts[name] = ["".join(write_chain(own[:200_000], 4 * WINDOW, order, source))]
    return read_authors(texts)


def _rename(ruler: Ruler) -> Ruler:
    name = ruler.floor_name.replace("other authors' median", "models of its letters")
    return Ruler(ruler.name, name, ruler.floor, ruler.ceilings, ruler.take)


# -- the verdict


def decide(yardstick: Yardstick, readings: Mapping[str, Reading], notes: Sequence[str] = ()) -> Verdict:
    """The verdict that readings on a yardstick come to."""
    measures = tuple(_show(ruler, readings[ruler.name]) for ruler in yardstick.rulers if ruler.tells)
    untold = [ruler.name for ruler in yardstick.rulers if not ruler.tells]
    facts = _list_facts(yardstick, notes)
    if not measures:
        return Verdict(topic="sounds like", tone="unsure", sentence=_UNTOLD.format(" and ".join(untold)), facts=facts)
    least = min(measures, key=lambda measure: measure.value).name
    reading = readings[least]
    tone = grade(reading)
    if untold and tone != "bad":
        tone, sentence = "unsure", _UNTOLD.format(" and ".join(untold))
    else:
        sentence = _SENTENCES[tone].format(_describe(reading, least))
    facts |= {"least": least, "score": reading.score, "low": reading.low, "high": reading.high}
    return Verdict(topic="sounds like", tone=tone, sentence=sentence, measures=measures, facts=facts)


def _list_facts(yardstick: Yardstick, notes: Sequence[str]) -> dict[str, Any]:
    nearest = sorted(yardstick.scores, key=lambda name: -yardstick.scores[name])[:3]
    others = {"nearest": nearest, "left_out": list(yardstick.left_out), "n_others": len(yardstick.scores)}
    needed = {"size_needed": LEAST, "training_needed": LEAST_TRAINING}
    return others | needed | {"notes": [*yardstick.notes, *notes]}


def grade(reading: Reading) -> Tone:
    """What the least part comes to."""
    if reading.score < BAD:
        return "bad"
    return "good" if reading.low >= GOOD else "fair"


_SENTENCES = {
    "good": "It sounds like the author: {}.",
    "fair": "It sounds somewhat like the author: {}.",
    "bad": "It does not sound like the author: {}.",
}
_UNTOLD = "Not enough text to say: by {}, the author's own held-out text is not surely nearer to him than what is 0."


def _describe(reading: Reading, least: str) -> str:
    return f"{reading.score:.0f} of 100 ({reading.low:.0f} to {reading.high:.0f}) in the least part, {least}"


def _show(ruler: Ruler, reading: Reading) -> Measure:
    floor, ceiling = Mark(name=ruler.floor_name, value=0.0), Mark(name=HELD_OUT, value=100.0)
    return Measure(
        name=ruler.name,
        value=reading.score,
        unit="of 100",
        floor=floor,
        ceiling=ceiling,
        low=reading.low,
        high=reading.high,
    )
