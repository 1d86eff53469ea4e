"""The pages about a run are whole and harmless, load nothing and stay small."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from epigone.evaluation.quiz import Question
from epigone.report.curves import INK, PAPER, THEMES, TRAINING, VALIDATION
from epigone.report.escape import show_controls
from epigone.report.pages import (
    GENERATOR,
    TEMPLATES,
    ReportData,
    html_environment,
    markdown_environment,
    render_quiz,
    render_report,
)
from epigone.report.views import Row, describe_receipt, name_text
from epigone.training.events import Event, StepReport
from helpers_front import shared_run
from helpers_page import HOSTILE, JUDGEMENT, MOST_BYTES, Reader, data, evaluated, make_hostile, make_showcase, sampled

__all__ = ["data"]

STYLE = (TEMPLATES / "style.css").read_text("utf-8")


# -- templates


def test_every_template_escapes_what_it_shows() -> None:
    """Autoescape is on, no template turns it off, and none calls a value safe."""
    assert {"report.html", "quiz.html", "card.md"} <= {path.name for path in TEMPLATES.iterdir()}
    for path in TEMPLATES.iterdir():
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", path.read_text("utf-8")), path.name
    for environment, powers in ((html_environment(), "<\"'\x1b\x00"), (markdown_environment(), "<\x1b\x00")):
        assert environment.autoescape is True
        template = environment.from_string("{{ value }}{% macro show(it) %}{{ it }}{% endmacro %}{{ show(value) }}")
        for value in ("<b>&\"'", HOSTILE):
            assert not set(powers) & set(template.render(value=value))


def test_what_is_already_escaped_is_not_escaped_again() -> None:
    for environment in (html_environment(), markdown_environment()):
        assert environment.from_string("{{ value }}").render(value=Markup("<b>*x*</b>")) == "<b>*x*</b>"


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    for environment in (html_environment(), markdown_environment()):
        with pytest.raises(UndefinedError):
            environment.from_string("{{ missing }}").render()


# -- whole, harmless, small


def test_the_page_of_a_run_is_whole(data: ReportData) -> None:
    text = render_report(replace(data, judgement=JUDGEMENT))
    page = Reader(text)
    assert page.faults == [] and GENERATOR in text[:300]
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names)) > 8
    links = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
    assert links and links <= set(names)


def test_an_unclosed_tag_would_be_found() -> None:
    assert Reader("<p><b>x</p>").faults


def test_the_page_loads_nothing(data: ReportData) -> None:
    text = render_report(replace(data, judgement=JUDGEMENT))
    page = Reader(text)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert str(policy).startswith("default-src 'none'") and not re.search("connect|unsafe-eval|https?:", str(policy))
    assert page.count("script") == 1, "that of the passages to guess"
    assert page.count("link") == page.count("iframe") == page.count("svg") == 0
    sources = ("href", "src", "srcset")
    places = [str(value) for _, attributes in page.tags for name, value in attributes.items() if name in sources]
    assert places and all(
        place.startswith(("#", "data:image/svg+xml;base64,", "data:image/png;base64,")) for place in places
    )
    assert not re.search(r"https?:|@import|url\(", text)


@pytest.mark.pictures
def test_the_curves_are_there_for_a_desk_and_a_phone_in_light_and_dark(data: ReportData) -> None:
    page = Reader(render_report(data))
    sources = {attributes["media"]: attributes["srcset"] for tag, attributes in page.tags if tag == "source"}
    fallback, card = (attributes for tag, attributes in page.tags if tag == "img")
    assert str(card["src"]).startswith("data:image/png;base64,")
    assert fallback["alt"] and "validation loss went from" in str(fallback["alt"])
    assert len(sources) == 3 and all(re.search("40rem|dark", str(media)) for media in sources)
    pictures = [
        base64.b64decode(str(source).partition(",")[2]).decode() for source in [*sources.values(), fallback["src"]]
    ]
    assert len(set(pictures)) == 4 and all(picture.count("<text") > 10 for picture in pictures)
    for picture, media in zip(pictures, [*sources, ""], strict=True):
        shown = THEMES["dark" if "dark" in str(media) else "light"]
        assert shown[PAPER] in picture and PAPER not in picture
        assert (VALIDATION in picture) == ("dark" not in str(media))


def test_the_colours_of_curves_are_those_of_the_page() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.S)[:2]
    for theme, rules in (("light", light), ("dark", dark)):
        for name, colour in {"paper": PAPER, "ink": INK, "validation": VALIDATION, "training": TRAINING}.items():
            assert f"--{name}: {THEMES[theme].get(colour, colour)};" in rules


def test_a_hostile_text_changes_nothing_but_words(data: ReportData) -> None:
    hostile = Reader(render_report(make_hostile(data)))
    assert hostile.faults == [] and hostile.count("script") == 1
    assert not any("onload" in attributes for _, attributes in hostile.tags)
    assert hostile.text.count("<script>alert(1)</script>") > 20
    assert not set("\x1b\x00\u202e") & set(hostile.text)
    assert "␛[31m" in hostile.text and "⟨202E⟩" in hostile.text and "שלום" in hostile.text


def test_the_words_of_others_stand_in_their_own_direction(data: ReportData) -> None:
    """Each is within an element with a direction of its own: the text's or, for commands, left to right."""
    page = re.sub(r"<title>.*?</title>", "", render_report(make_hostile(data)))
    for match in re.finditer("שלום", page):
        before = page[: match.start()]
        assert before.rfind(' dir="') > max(before.rfind("</td>"), before.rfind("</p>"), before.rfind("</li>"))


def test_control_characters_are_shown_and_text_is_kept() -> None:
    assert show_controls("a\x07b\r\nc\td\x85\x7f") == "a␇b\nc\td⟨0085⟩␡"
    assert show_controls("é 詩 שָׁלוֹם \u200f 🙂") == "é 詩 שָׁלוֹם \u200f 🙂"


def _huge_receipt() -> list[Row]:
    receipt = shared_run().folder.read_receipt()
    many = {"files": (replace(receipt.files[0], name="&" * 5_000),) * 5_000, "skipped": ('"' * 5_000,) * 5_000}
    return describe_receipt(receipt.model_copy(update=many))


def test_a_huge_run_has_a_small_page(data: ReportData) -> None:
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
    (verdict,) = JUDGEMENT.verdicts
    measures = (replace(verdict.measures[0], name="<" * 9_000),) * 900
    judgement = replace(JUDGEMENT, verdicts=(replace(verdict, measures=measures),), notes=("<" * 9_000,) * 900)
    page = render_report(
        replace(
            data,
            events=events,
            receipt=_huge_receipt(),
            judgement=judgement,
            settings=[("sample_prompt", '"' * 10**6)],
            showcase=make_showcase("<" * 10_000).model_copy(update={"sentences": ("<" * 10_000,) * 8}),
        )
    )
    assert len(page.encode()) < MOST_BYTES
    read = Reader(page)
    assert read.faults == [] and "3,940 more evaluations are in metrics.jsonl" in read.text
    assert "34 evaluations and 14 prompts or seeds" in read.text


def test_no_width_is_fixed_that_a_phone_lacks() -> None:
    widths = re.findall(r"(?<![-\w])(min-width|width)\s*:\s*([\d.]+)(px|rem|em|ch)", STYLE)
    assert widths and all(float(size) * (1 if unit == "px" else 16) <= 360 for _, size, unit in widths)


def test_every_table_scrolls_in_its_own_box_and_has_headings(data: ReportData) -> None:
    page = Reader(render_report(data))
    boxes = sum(attributes.get("class") == "box" for _, attributes in page.tags)
    assert page.count("table") == page.count("caption") == boxes > 2
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in page.tags if tag == "th")


# -- the page of a quiz


@pytest.mark.parametrize(
    ("n_files", "called"), [(1, "Sonnets"), (3, "Sonnets and 2 more"), (4, "My speeches"), (120, "My speeches")]
)
def test_many_texts_are_called_what_their_run_is_called(n_files: int, called: str) -> None:
    receipt = shared_run().folder.read_receipt()
    many = receipt.model_copy(update={"files": receipt.files[:1] * n_files})
    assert name_text(many, run="my_speeches") == called


def test_the_page_of_a_quiz_is_whole_and_harmless() -> None:
    questions = [Question(text=HOSTILE, genuine=True), Question(text="Other.", genuine=False)]
    text = render_quiz(questions, HOSTILE)
    page = Reader(text)
    assert page.faults == [] and page.count("script") == 1 and GENERATOR in text[:300]
    assert [attributes["data-is"] for _, attributes in page.tags if "data-is" in attributes] == ["author", "model"]
    assert "␛[31m" in page.text


def test_the_page_of_a_quiz_knows_what_to_say_for_each_number_of_right_answers() -> None:
    questions = [Question(text=f"Text {n}.", genuine=n % 2 == 0) for n in range(20)]
    outcomes, shares = list_lines(render_quiz(questions, "My *novel*"))
    assert len(outcomes) == len(shares) == 21
    assert [re.search(r"I got (\d+) of 20 right", line)[1] for line in shares] == list(map(str, range(21)))  # type: ignore[index]
    assert all("on “My *novel*”, made with epigone" in line and "Text" not in line for line in shares)
    for n_hits, verdict in ((2, "mistook one"), (13, "could not tell"), (15, "could tell them apart")):
        assert outcomes[n_hits].startswith(f"Right: {n_hits} of 20, {5 * n_hits} % (95 % interval:")
        assert verdict in outcomes[n_hits]


def test_a_report_has_a_line_to_share_for_each_number_of_right_answers(data: ReportData) -> None:
    text = render_report(data)
    assert data.showcase is not None
    (shares,) = list_lines(text)
    assert len(shares) == 1 + len(data.showcase.questions) and all(data.title in line for line in shares)
    without = render_report(replace(data, showcase=None))
    assert list_lines(without) == [] and Reader(without).count("script") == 0 and "script-src" not in without


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quiz", "report"])
def test_in_a_browser_the_line_to_share_is_that_of_the_first_answers_and_can_be_copied(
    browser: Any, data: ReportData, tmp_path: Path, kind: str
) -> None:
    questions = [Question(text=f"Text {n}.", genuine=n % 2 == 0) for n in range(3)]
    shown = render_quiz(questions, data.title) if kind == "quiz" else render_report(data)
    (tmp_path / "page.html").write_text(shown, "utf-8")
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    faults: list[object] = []
    page.on("pageerror", lambda error: faults.append(error))  # playwright marks what it calls
    page.goto((tmp_path / "page.html").as_uri())
    passages, line = page.locator(".question, .guess"), page.locator(".share .line")
    assert passages.count() == 3 and not line.is_visible()
    for number in range(3):
        passages.nth(number).get_by_text("the author", exact=True).click()
    n_genuine = passages.locator("xpath=self::*[@data-is='author' or contains(@class,'is-author')]").count()
    passages.nth(0).get_by_text("the model", exact=True).click()
    assert f"I got {n_genuine} of 3 right in a quiz on “{data.title}”" in str(line.text_content())
    page.locator(".share button").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == line.text_content() and faults == []
    context.close()


def list_lines(page: str) -> list[list[str]]:
    """What the page's script may show, for each number of right answers: hidden lists."""
    lists = re.findall(r'<ol class="(?:outcomes|shares)" hidden>(.*?)</ol>', page, re.S)
    return [[html.unescape(line) for line in re.findall("<li.*?>(.*?)</li>", one)] for one in lists]


@pytest.mark.parametrize("kind", ["quiz", "report"])
def test_only_the_script_of_the_quiz_may_run(data: ReportData, kind: str) -> None:
    text = render_quiz([Question(text="One.", genuine=True)], "quiz") if kind == "quiz" else render_report(data)
    policy = next(str(attributes["content"]) for _, attributes in Reader(text).tags if "http-equiv" in attributes)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    fingerprint = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{fingerprint}'" in policy and "script-src 'unsafe" not in policy
