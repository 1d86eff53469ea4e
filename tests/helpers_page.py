"""What the tests of the page share: a reader that finds faults, facts and a judgement to show."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from epigone.evaluation.verdict import Judgement, Measure, Reference, Verdict
from epigone.report.page import PageFacts
from epigone.report.publish import gather_facts
from epigone.training.events import Evaluated, Sample, Sampled
from helpers_events import make_evaluated
from helpers_front import shared_run

HOSTILE = "<script>alert(1)</script>\"' onload=x &amp; \x1b[31m \u202egpj.exe \x00 שלום"
MOST_BYTES = 2_000_000
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Reader(HTMLParser):
    """Reads a page: its tags, its text, and whatever does not close in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        self.faults += [f"{tag} is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} is closed out of turn")

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def evaluated(epoch: float, loss: float, training: float | None = 3.0) -> Evaluated:
    return make_evaluated(round(10 * epoch), loss, epoch, training_loss=training)


def sampled(epoch: float, *texts: tuple[str, str]) -> Sampled:
    samples = tuple(Sample(prompt=prompt, text=text, seed=seed) for seed, (prompt, text) in enumerate(texts))
    return Sampled(step=round(10 * epoch), epoch=epoch, samples=samples)


JUDGEMENT = Judgement(
    text="what it wrote",
    against="the author",
    n_characters=20_000,
    verdicts=(
        Verdict(
            topic="copies",
            tone="fair",
            sentence="It copies a little.",
            measures=(
                Measure(
                    name="share of copied text",
                    value=0.25,
                    unit="share",
                    floor=Reference(name="held-out text", value=0.0),
                    ceiling=Reference(name="the text itself", value=1.0),
                    low=0.2,
                    high=0.3,
                ),
            ),
        ),
    ),
    notes=("A note on it.",),
).as_json()


@pytest.fixture(scope="module")
def facts() -> PageFacts:
    return gather_facts(shared_run().folder, with_sentences=True)


def make_hostile(facts: PageFacts) -> PageFacts:
    """The facts with a hostile text wherever somebody's words may stand."""
    receipt = json.loads(json.dumps(facts.receipt))
    receipt["files"][0] |= {"name": HOSTILE, "first_lines": [HOSTILE], "reason": HOSTILE}
    receipt["skipped"] = [HOSTILE]
    judgement = json.loads(json.dumps(JUDGEMENT).replace("It copies a little.", "X").replace("the author", "Y"))
    judgement["copies"] |= {"sentence": HOSTILE, "tone": HOSTILE}
    judgement["copies"]["measures"][0] |= {"name": HOSTILE, "unit": HOSTILE}
    judgement |= {"notes": [HOSTILE], "against": HOSTILE}
    return replace(
        facts,
        name=HOSTILE,
        events=[sampled(1, (HOSTILE, HOSTILE)), evaluated(1, 4.0)],
        plan=replace(facts.plan, base=HOSTILE, reasons=dict.fromkeys(facts.plan.reasons, HOSTILE)),
        receipt=receipt,
        settings=[(HOSTILE, HOSTILE)],
        versions={HOSTILE: HOSTILE},
        judgement=judgement,
        sentences=[HOSTILE],
    )
