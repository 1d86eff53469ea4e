"""What the tests of pages share: a reader that finds faults, the data of a run, and a judgement to show."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from epigone.evaluation.verdict import Judgement, Measure, Reference, Verdict
from epigone.report.pages import ReportData
from epigone.report.publish import read_report_data
from epigone.report.views import Row, describe_receipt
from epigone.runs.records import ShowcaseRecord, ShownQuestion
from epigone.training.events import Evaluated, Sample, Sampled
from helpers_events import make_evaluated
from helpers_front import shared_run
from helpers_plan import change

HOSTILE = "<script>alert(1)</script>\"' onload=x &amp; \x1b[31m \u202egpj.exe \x00 שלום"
MOST_BYTES = 2_000_000
VOID = {"meta", "br", "img", "hr", "link", "input", "source"}


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
            grade="fair",
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
)


@pytest.fixture(scope="module")
def data() -> ReportData:
    return read_report_data(shared_run().folder)


def make_showcase(text: str) -> ShowcaseRecord:
    """A showcase with one text wherever it may hold one."""
    questions = tuple(ShownQuestion(text=text, genuine=number == 1) for number in range(3))
    return ShowcaseRecord(
        model_sha256="", text=text, seed=3, n_candidates=10, why=text, sentences=(text,), questions=questions
    )


def hostile_judgement() -> Judgement:
    """A judgement with a hostile text wherever it may hold one."""
    (verdict,) = JUDGEMENT.verdicts
    reference = Reference(name=HOSTILE, value=0.5)
    measure = replace(verdict.measures[0], name=HOSTILE, floor=reference, ceiling=reference, base=reference)
    passages = {"passage": HOSTILE, "original": HOSTILE, "line": HOSTILE, "document": HOSTILE}
    verdict = replace(verdict, sentence=HOSTILE, measures=(measure,), facts=passages)
    return replace(JUDGEMENT, text=HOSTILE, against=HOSTILE, verdicts=(verdict,), notes=(HOSTILE,))


def hostile_receipt() -> list[Row]:
    """The rows of a receipt with a hostile text wherever it may hold one."""
    receipt = shared_run().folder.read_receipt()
    file = replace(receipt.files[0], name=HOSTILE, first_lines=(HOSTILE,), reason=HOSTILE)
    return describe_receipt(receipt.model_copy(update={"files": (file, *receipt.files[1:]), "skipped": (HOSTILE,)}))


def make_hostile(data: ReportData) -> ReportData:
    """The data with a hostile text wherever someone else's words may stand."""
    return replace(
        data,
        folder=HOSTILE,
        run=HOSTILE,
        title=HOSTILE,
        events=[sampled(1, (HOSTILE, HOSTILE)), sampled(2, (HOSTILE, HOSTILE)), evaluated(2, 4.0)],
        plan=change(data.plan, base=HOSTILE, reasons=dict.fromkeys(data.plan.reasons, HOSTILE)),
        receipt=hostile_receipt(),
        settings=[(HOSTILE, HOSTILE)],
        versions={HOSTILE: HOSTILE},
        judgement=hostile_judgement(),
        showcase=make_showcase(HOSTILE),
    )
