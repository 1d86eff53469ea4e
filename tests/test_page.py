"""The page about a run is whole and harmless, loads nothing, stays small, and says what the run did."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

from epigone.evaluation.quiz import Question
from epigone.report.elements import read_style
from epigone.report.escape import show_controls
from epigone.report.page import PageFacts, build_page
from epigone.report.quiz_page import build_quiz_page
from epigone.training.events import Event, StepReport
from helpers_page import HOSTILE, JUDGEMENT, MOST_BYTES, Reader, evaluated, facts, make_hostile, sampled

__all__ = ["facts"]


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
            StepReport(
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


# -- the page of a quiz


def test_the_page_of_a_quiz_is_whole_and_harmless() -> None:
    questions = [Question(text=HOSTILE, genuine=True), Question(text="Other.", genuine=False)]
    page = Reader(build_quiz_page(questions, HOSTILE))
    assert page.faults == [] and page.count("script") == 1
    policy = next(str(attributes["content"]) for _, attributes in page.tags if "http-equiv" in attributes)
    assert "script-src 'sha256-" in policy and "script-src 'unsafe" not in policy
    assert [attributes["data-is"] for _, attributes in page.tags if "data-is" in attributes] == ["author", "model"]
    assert "␛[31m" in page.text
