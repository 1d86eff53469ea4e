"""The page about a run is whole and harmless, loads nothing, stays small, and says what the run did."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from epigone.judging.quiz import Question
from epigone.judging.verdicts import Judgement, Mark, Measure, Verdict
from epigone.reporting.elements import read_style
from epigone.reporting.harmless import show_controls
from epigone.reporting.page import PageFacts, build_page, choose_evenly, describe_learning
from epigone.reporting.publishing import gather_facts, list_changed, publish
from epigone.reporting.quizpage import build_quiz_page
from epigone.reporting.rulers import format_value, place_on_ruler
from epigone.runs.folder import RunFolder
from epigone.settings import Settings
from epigone.training.events import Evaluated, Event, Sample, Sampled, Stepped
from helpers_front import TINY, command, shared_run, train_once, write_sonnets

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
    return Evaluated(
        step=round(10 * epoch),
        epoch=epoch,
        training_loss=training,
        loss=loss,
        accuracy=0.25,
        perplexity=math.exp(loss),
        bits_per_byte=1.5,
        n_tokens=100,
        learning_rate=5e-5,
        seconds=60.0,
        best=True,
    )


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
                    floor=Mark(name="held-out text", value=0.0),
                    ceiling=Mark(name="the text itself", value=1.0),
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


# -- whole, harmless, small


def test_the_page_of_a_run_is_whole(facts: PageFacts) -> None:
    page = Reader(build_page(replace(facts, judgement=JUDGEMENT)))
    assert page.faults == []
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names)) > 8
    links = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
    assert links and links <= set(names)


def test_an_unclosed_tag_would_be_found() -> None:
    assert Reader("<p><b>x</p>").faults


def test_the_page_loads_nothing(facts: PageFacts) -> None:
    text = build_page(replace(facts, judgement=JUDGEMENT))
    page = Reader(text)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert str(policy).startswith("default-src 'none'") and "script" not in str(policy)
    assert page.count("script") == page.count("link") == page.count("iframe") == page.count("img") == 0
    places = [str(value) for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "xlink:href")]
    assert places and all(place.startswith("#") for place in places)
    assert not re.search(r"https?:|@import|url\((?!#)", text)


def test_a_hostile_text_changes_nothing_but_words(facts: PageFacts) -> None:
    hostile = Reader(build_page(make_hostile(facts)))
    assert hostile.faults == [] and hostile.count("script") == 0
    assert not any("onload" in attributes for _, attributes in hostile.tags)
    assert hostile.text.count("<script>alert(1)</script>") > 10
    assert not set("\x1b\x00\u202e") & set(hostile.text)
    assert "␛[31m" in hostile.text and "⟨202E⟩" in hostile.text and "שלום" in hostile.text


def test_somebody_s_words_stand_in_their_own_direction(facts: PageFacts) -> None:
    """Each is within an element with a direction of its own: the text's or, for commands, left to right."""
    page = re.sub(r"<title>.*?</title>", "", build_page(make_hostile(facts)))
    for match in re.finditer("שלום", page):
        before = page[: match.start()]
        assert before.rfind(' dir="') > max(before.rfind("</td>"), before.rfind("</p>"), before.rfind("</li>"))


def test_control_characters_are_shown_and_text_is_kept() -> None:
    assert show_controls("a\x07b\r\nc\td\x85\x7f") == "a␇b\nc\td⟨0085⟩␡"
    assert show_controls("é 詩 שָׁלוֹם \u200f 🙂") == "é 詩 שָׁלוֹם \u200f 🙂"


def test_a_huge_run_has_a_small_page(facts: PageFacts) -> None:
    events: list[Event] = []
    for step in range(1, 4_001):
        loss = 4 + math.sin(step * 12.9898) / 3
        events.append(
            Stepped(
                step=step,
                n_steps=4_000,
                epoch=step / 10,
                progress=step / 4_000,
                loss=loss,
                learning_rate=1e-3,
                tokens_per_second=1,
                seconds=step,
                seconds_left=0,
            )
        )
        events.append(evaluated(step / 10, loss))
        if step % 100 == 0:
            events.append(sampled(step / 10, *((f'"{n}"' * 500, '<"' * 50_000) for n in range(20))))
    receipt = json.loads(json.dumps(facts.receipt))
    receipt["files"] = [receipt["files"][0] | {"name": "&" * 5_000} for _ in range(5_000)]
    receipt["skipped"] = ['"' * 5_000] * 5_000
    measure = JUDGEMENT["copies"]["measures"][0] | {"name": "<" * 9_000}
    judgement = JUDGEMENT | {
        "notes": ["<" * 9_000] * 900,
        "copies": JUDGEMENT["copies"] | {"measures": [measure] * 900},
    }
    settings = [("sample_prompt", '"' * 10**6)]
    page = build_page(
        replace(
            facts,
            events=events,
            receipt=receipt,
            judgement=judgement,
            settings=settings,
            sentences=["<" * 10_000] * 8,
        )
    )
    assert len(page.encode()) < MOST_BYTES
    read = Reader(page)
    assert read.faults == [] and "3,940 more evaluations are in metrics.jsonl" in read.text
    assert "34 evaluations and 14 prompts or seeds" in read.text


def test_no_width_is_fixed_that_a_phone_lacks() -> None:
    widths = re.findall(r"(?<![-\w])(min-width|width)\s*:\s*([\d.]+)(px|rem|em|ch)", read_style())
    assert widths and all(float(size) * (1 if unit == "px" else 16) <= 360 for _, size, unit in widths)
    assert "minmax(min(100%," in read_style() and ".box { overflow-x: auto" in read_style()


def test_every_table_scrolls_in_its_own_box_and_has_headings(facts: PageFacts) -> None:
    page = Reader(build_page(facts))
    boxes = sum(attributes.get("class") == "box" for _, attributes in page.tags)
    assert page.count("table") == page.count("caption") == boxes > 2
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")
    curves = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(curves) == 2 and all(item["role"] == "img" and item["aria-label"] for item in curves)


# -- what it says


@pytest.mark.parametrize(
    ("losses", "beginning"),
    [
        ([4.0, 3.0, 3.5], "It overfitted after epoch 2;"),
        ([4.0, 3.5, 3.0], "It did not overfit: it was best at the end, at epoch 3. It was still getting better"),
        ([4.0, 3.001, 3.0], "It did not overfit: it was best at the end, at epoch 3."),
        ([4.0, 3.0, 3.001], "It was best at epoch 2 and got no better from there"),
        ([math.nan], "There is no evaluation yet"),
        ([], "There is no evaluation yet"),
    ],
)
def test_the_first_sentence_says_whether_it_overfitted(losses: Sequence[float], beginning: str) -> None:
    said = describe_learning([evaluated(number, loss) for number, loss in enumerate(losses, 1)])
    assert said[0].startswith(beginning)
    assert said[0].endswith("help.") == ("still" in beginning)


def test_the_gap_is_that_of_the_best_epoch() -> None:
    said = " ".join(describe_learning([evaluated(1, 3.5, 3.4), evaluated(2, 3.0, 2.75), evaluated(3, 3.2, 2.0)]))
    assert "a gap of 0.250" in said and "rose by 0.200" in said and "the training loss came to 2.000" in said


def test_the_same_prompt_stands_side_by_side(facts: PageFacts) -> None:
    events = [
        *(sampled(1, ("Once", " one"), ("", "two")), evaluated(1, 4.0)),
        *(sampled(2, ("Once", " three"), ("", "four")), evaluated(2, 3.0)),
    ]
    page = build_page(replace(facts, events=events))
    groups = re.findall(r'<div class="epochs">(.*?)</div>', page, re.S)
    shown = [re.findall(r"<h4>(.*?)</h4>.*?<p[^>]*>(.*?)</p>", group) for group in groups]
    once = '<span class="prompt">Once</span>'
    assert shown == [
        [("epoch 1", f"{once} one"), ("epoch 2, the best", f"{once} three")],
        [("epoch 1", "two"), ("epoch 2, the best", "four")],
    ]


def test_first_last_and_best_are_among_those_chosen() -> None:
    assert choose_evenly(5, 6, {2}) == [0, 1, 2, 3, 4]
    for best in (0, 37, 99):
        chosen = choose_evenly(100, 6, {best})
        assert {0, best, 99} <= set(chosen) and len(chosen) <= 6


def test_a_verdict_is_shown_with_its_ruler(facts: PageFacts) -> None:
    page = build_page(replace(facts, judgement=JUDGEMENT))
    said = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "share of copied text: 25 % (95 %: 20 to 30)" in said and "A note on it." in said
    assert said.count("It copies a little.") == 2, "at the top and in its chapter"
    assert 'class="value" style="left:25.0%"' in page and 'style="left:20.0%;width:10.0%"' in page
    assert "Not judged yet" not in said and "Not judged yet" in build_page(facts)


def test_places_on_a_ruler_are_in_proportion() -> None:
    bits = {"value": 2.0, "unit": "bits per byte", "floor": {"value": 4.0}, "ceiling": {"value": 1.0}}
    assert place_on_ruler(bits) == {"value": 33.33, "floor": 100.0, "ceiling": 0.0}
    assert place_on_ruler({"value": 50, "unit": "of 100", "floor": None}) == {"value": 50.0}
    assert place_on_ruler({"value": 0.0, "unit": "share"}) == {"value": 0.0}
    assert place_on_ruler({"value": 5, "low": None, "high": math.inf}) == {"value": 100.0}


def test_values_are_told_in_their_unit() -> None:
    told = [(0.0003, "share"), (1.0, "share"), (61.0, "characters"), (62.4, "of 100"), (2.45, "bits per byte")]
    assert [format_value(*item) for item in told] == [
        *("0.03 %", "100 %", "61 characters", "62 of 100", "2.450 bits per byte"),
    ]


@pytest.mark.parametrize(
    "judgement",
    [
        {},
        {"copies": 3},
        {"copies": {"sentence": "s", "measures": 7}},
        {"copies": {"sentence": "s", "measures": [{}, 1]}},
        {"copies": {"sentence": "s", "measures": [{"name": "n", "value": "x"}]}, "notes": 5, "text": None},
    ],
)
def test_a_judgement_that_is_not_as_it_should_be_breaks_no_page(facts: PageFacts, judgement: dict[str, object]) -> None:
    assert Reader(build_page(replace(facts, judgement=judgement))).faults == []


def test_only_settings_that_were_changed_are_listed() -> None:
    assert list_changed(Settings()) == []
    assert list_changed(Settings(seed=3, sample_prompt=("é",))) == [("seed", "3"), ("sample_prompt", '["é"]')]


# -- the command


def test_a_run_leaves_its_page_and_says_where() -> None:
    run, outcome = train_once()
    page = (run.path / "report.html").read_text("utf-8")
    assert f"all about it in {run.path / 'report.html'}." in outcome.out
    assert "Done in" in page, "it was written when training was over"
    assert str(run.path.parent) not in page, "it names no folder of this machine"
    assert "sonnets.txt" in page and "They are chosen when" not in page


def test_the_page_is_made_anew_by_its_verb(tmp_path: Path) -> None:
    run = shared_run().path
    assert command("report", run, "--out", tmp_path / "a.html").code == 0
    assert (tmp_path / "a.html").read_bytes() == (run / "report.html").read_bytes()
    assert command("report", run, "--out", tmp_path / "a.html").code == 0, "a page of ours may be made anew"


def test_a_file_that_is_no_page_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.html").write_text("<p>mine</p>", "utf-8")
    outcome = command("report", shared_run().path, "--out", tmp_path / "thesis.html")
    assert outcome.code == 2 and "is already there" in outcome.err
    assert (tmp_path / "thesis.html").read_text("utf-8") == "<p>mine</p>"


def test_no_page_without_a_run(tmp_path: Path) -> None:
    outcome = command("report", tmp_path / "nothing")
    assert outcome.code == 2 and "does not exist" in outcome.err


@pytest.mark.parametrize("receipt", [None, "{", "[]", "{}"])
def test_a_run_with_a_damaged_receipt_is_reported_as_such(tmp_path: Path, receipt: str | None) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    (tmp_path / "run" / "receipt.json").unlink()
    if receipt is not None:
        (tmp_path / "run" / "receipt.json").write_text(receipt, "utf-8")
    outcome = command("report", tmp_path / "run")
    assert outcome.code == 2 and "receipt.json" in outcome.err


def test_a_judgement_in_the_folder_is_shown_and_a_broken_one_is_not(tmp_path: Path) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.write_judgement(JUDGEMENT, folder.hash_model())
    assert command("report", folder.path).code == 0 and "It copies a little." in folder.report.read_text("utf-8")
    folder.judgement.write_text("{", "utf-8")
    assert command("report", folder.path).code == 0 and "Not judged yet" in folder.report.read_text("utf-8")


def test_a_run_without_samples_has_a_page(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path)
    assert command("train", text, *TINY, "--quiet", "--out", tmp_path / "run").code == 0
    page = Reader((tmp_path / "run" / "report.html").read_text("utf-8"))
    assert page.faults == [] and "No samples were asked for." in page.text


def test_while_it_learns_the_page_is_written_only_now_and_then(tmp_path: Path) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.report.write_text("old", "utf-8")
    publish(folder)
    assert folder.report.read_text("utf-8") == "old"
    os.utime(folder.report, (0, 0))
    publish(folder)
    assert Reader(folder.report.read_text("utf-8")).faults == []
    folder.report.unlink()
    publish(folder)
    assert "They are chosen when the run is finished" in folder.report.read_text("utf-8")


# -- the page of a quiz


def test_the_page_of_a_quiz_is_whole_and_harmless() -> None:
    questions = [Question(text=HOSTILE, genuine=True), Question(text="Other.", genuine=False)]
    page = Reader(build_quiz_page(questions, HOSTILE))
    assert page.faults == [] and page.count("script") == 1
    policy = next(str(attributes["content"]) for _, attributes in page.tags if "http-equiv" in attributes)
    assert "script-src 'sha256-" in policy and "script-src 'unsafe" not in policy
    assert [attributes["data-is"] for _, attributes in page.tags if "data-is" in attributes] == ["author", "model"]
    assert "␛[31m" in page.text
