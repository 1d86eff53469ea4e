"""What the page says of a run is right, and the command writes it where it should."""

from __future__ import annotations

import html
import math
import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from epigone.evaluation.verdict import Judgement, Measure, Reference, percent
from epigone.report.pages import ReportData, choose_evenly, render_report
from epigone.report.publish import list_changed, publish
from epigone.report.views import describe_learning, format_value, place_on_scale
from epigone.runs.folder import RunFolder
from epigone.settings import TrainSettings
from epigone.training.events import Finished
from helpers_front import TINY, command, shared_run, train_once, write_sonnets
from helpers_page import JUDGEMENT, Reader, data, evaluated, sampled

__all__ = ["data"]


def has_section(page: Reader, name: str) -> bool:
    return any(tag == "section" and attributes.get("id") == name for tag, attributes in page.tags)


# -- what it says


@pytest.mark.parametrize(
    ("losses", "beginning"),
    [
        ([4.0, 3.0, 3.5], "After epoch 2 it began to memorize the text, so"),
        ([4.0, 3.5, 3.0], "It learned without memorizing: it was best at the end, at epoch 3. It was still improving"),
        ([4.0, 3.001, 3.0], "It learned without memorizing: it was best at the end, at epoch 3."),
        ([4.0, 3.0, 3.001], "It was best at epoch 2 and hardly changed after that."),
        ([math.nan], "There is no evaluation yet"),
        ([], "There is no evaluation yet"),
    ],
)
def test_the_first_sentence_says_whether_it_overfitted(losses: Sequence[float], beginning: str) -> None:
    said = describe_learning([evaluated(number, loss) for number, loss in enumerate(losses, 1)])
    assert said[0].startswith(beginning)
    assert said[0].endswith("help.") == ("still" in beginning)


def test_a_model_that_did_not_get_better_is_not_said_to_have_learned() -> None:
    assert describe_learning([evaluated(0, 4.0)])[0].startswith("It learned nothing yet")
    assert describe_learning([evaluated(0, 4.0), evaluated(1, 4.5)])[0].startswith("Training did not help")


def test_a_slider_needs_two_epochs(data: ReportData) -> None:
    once = [sampled(1, ("", "one")), evaluated(1, 4.0)]
    assert not has_section(Reader(render_report(replace(data, events=once))), "epochs")
    twice = [*once, sampled(2, ("", "two")), evaluated(2, 3.0)]
    assert has_section(Reader(render_report(replace(data, events=twice))), "epochs")


def test_the_gap_is_that_of_the_best_epoch() -> None:
    said = " ".join(describe_learning([evaluated(1, 3.5, 3.4), evaluated(2, 3.0, 2.75), evaluated(3, 3.2, 2.0)]))
    assert "a gap of 0.250" in said and "had risen by 0.200" in said and "the training loss was 2.000" in said


@pytest.mark.parametrize(
    ("losses", "beginning"),
    [
        ([4.0, 3.0, 3.5], "After epoch 2 it began to memorize; mixing it with the base undid part of that."),
        ([4.0, 3.5, 3.0], "It learned without memorizing, and mixing it with the base improved it further."),
    ],
)
def test_a_mix_of_the_base_and_the_end_is_compared_with_both(losses: Sequence[float], beginning: str) -> None:
    epochs = [evaluated(number, loss) for number, loss in enumerate(losses, 1)]
    said = describe_learning([*epochs, replace(evaluated(3, 2.9), share=0.62)])
    assert said[0] == beginning
    assert "a mix of 62 % epoch 3 and 38 % base" in said[1] and "validation loss of 2.900" in said[1]
    assert f"The base had 4.000, the end of training {losses[-1]:.3f}." in said[1]


def test_the_same_prompt_stands_side_by_side(data: ReportData) -> None:
    events = [
        *(sampled(1, ("Once", " one"), ("", "two")), evaluated(1, 4.0)),
        *(sampled(2, ("Once", " three"), ("", "four")), evaluated(2, 3.0)),
    ]
    page = render_report(replace(data, events=events))
    groups = re.findall(r'<div class="slider".*?</div>(.*?)</div>', page, re.S)
    shown = [re.findall(r"<h3>(.*?)</h3>.*?<p[^>]*>(.*?)</p>", group, re.S) for group in groups]
    once = '<span class="prompt">Once</span>'
    assert shown == [
        [("epoch 1", f"{once} one"), ("epoch 2, kept", f"{once} three")],
        [("epoch 1", "two"), ("epoch 2, kept", "four")],
    ]


def test_first_last_and_best_are_among_those_chosen() -> None:
    assert choose_evenly(5, 6, {2}) == [0, 1, 2, 3, 4]
    for best in (0, 37, 99):
        chosen = choose_evenly(100, 6, {best})
        assert {0, best, 99} <= set(chosen) and len(chosen) <= 6


def test_a_verdict_is_shown_with_its_scale(data: ReportData) -> None:
    page = render_report(replace(data, judgement=JUDGEMENT))
    said = html.unescape(re.sub(r"<[^>]+>", "", page))
    assert "share of copied text: 25 % (95 %: 20 to 30 %)" in said and "A note on it." in said
    assert "Copies: a little" in said and "It copies a little." in said
    read = Reader(page)
    marks = {str(attributes["class"]): attributes.get("style") for tag, attributes in read.tags if tag == "i"}
    assert set(marks) == {"band", "floor", "ceiling", "value"} and len(set(marks.values())) == 4


def test_every_scale_is_bad_on_the_left_and_good_on_the_right() -> None:
    ends = {"floor": Reference(name="a", value=4.0), "ceiling": Reference(name="b", value=1.0)}
    bits = Measure(name="n", value=2.0, unit="bits per byte", **ends)
    assert place_on_scale(bits) == {"value": 66.67, "floor": 0.0, "ceiling": 100.0}
    assert place_on_scale(Measure(name="n", value=50, unit="of 100")) == {"value": 50.0}
    copied = [Measure(name="n", value=value, unit="share", bad_from=0.05) for value in (0.0, 0.04, 0.5)]
    assert [place_on_scale(one)["value"] for one in copied] == [100.0, 20.0, 0.0]


def test_a_score_beyond_a_scale_stands_at_its_end() -> None:
    beyond = Measure(name="n", value=-93, low=-153, high=116, unit="of 100")
    assert place_on_scale(beyond) == {"value": 0.0, "low": 0.0, "high": 100.0}
    assert format_value(beyond.value, "of 100") == "0 of 100"


def test_a_number_with_nothing_to_compare_it_with_has_no_scale(data: ReportData) -> None:
    alone = Measure(name="alone", value=0.3, unit="share", high=math.inf)
    assert place_on_scale(alone) == {}
    (verdict,) = JUDGEMENT.verdicts
    judgement = replace(JUDGEMENT, verdicts=(replace(verdict, measures=(alone,)),))
    page = render_report(replace(data, judgement=judgement))
    assert "alone: <strong>30 %" in html.unescape(page).replace('<bdi dir="auto" lang="">alone</bdi>', "alone")
    assert 'class="scale"' not in page


def test_values_are_told_in_their_unit() -> None:
    told = [(0.0003, "share"), (1.0, "share"), (61.0, "characters"), (62.4, "of 100"), (2.45, "bits per byte")]
    assert [format_value(*item) for item in told] == [
        *("under 1 %", "100 %", "61 characters", "62 of 100", "2.45 bits per byte"),
    ]
    assert [percent(0.3), percent(0.625, 0), percent(1, 0)] == ["30.0 %", "62 %", "100 %"]


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"copies": 3},
        {"copies": {"sentence": "s", "measures": 7}},
        {"copies": {"sentence": "s", "measures": [{}, 1]}},
        {"copies": {"sentence": "s", "measures": [{"name": "n", "value": "x"}]}, "notes": 5, "text": None},
        JUDGEMENT.as_json() | {"copies": 3},
        JUDGEMENT.as_json() | {"copies": {"sentence": "s", "grade": "excellent"}},
        JUDGEMENT.as_json() | {"copies": {"sentence": "s", "grade": "good", "measures": [{"name": "n", "value": []}]}},
    ],
)
def test_a_damaged_judgement_counts_as_none(tmp_path: Path, plain: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Judgement.from_json(plain)
    shutil.copytree(shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.write_judgement(plain, folder.hash_model())
    publish(folder, at_once=True)
    page = Reader(folder.report.read_text("utf-8"))
    assert page.faults == [] and not has_section(page, "verdicts")


def test_a_judgement_comes_back_from_json_as_it_was() -> None:
    assert Judgement.from_json(JUDGEMENT.as_json()) == JUDGEMENT


def test_a_number_that_is_not_finite_is_left_out(data: ReportData) -> None:
    (verdict,) = JUDGEMENT.verdicts
    measures = (replace(verdict.measures[0], value=math.nan), replace(verdict.measures[0], name="kept", low=math.inf))
    page = Reader(
        render_report(replace(data, judgement=replace(JUDGEMENT, verdicts=(replace(verdict, measures=measures),))))
    )
    assert (
        page.faults == []
        and "kept: 25 %" in page.text
        and "nan" not in page.text
        and "share of copied" not in page.text
    )


def test_the_page_says_which_part_of_a_text_was_read(data: ReportData) -> None:
    end = next(event for event in data.events if isinstance(event, Finished))
    page = render_report(replace(data, events=[*data.events, replace(end, epoch=0.05, seconds=58.0)]))
    assert "It learned from 11 KB of text" in render_report(data)
    assert "It read 5 % of 11 KB of text in 58 s." in page and "It learned from" not in page


def test_only_settings_that_were_changed_are_listed() -> None:
    assert list_changed(TrainSettings()) == []
    assert list_changed(TrainSettings(seed=3, sample_prompt=("é",))) == [("seed", "3"), ("sample_prompt", '["é"]')]


# -- the command


def test_a_run_leaves_its_page_and_says_where() -> None:
    run, outcome = train_once()
    page = (run.path / "report.html").read_text("utf-8")
    assert f"the report in {run.path / 'report.html'}." in outcome.out
    assert "Trained for" in page, "it was written when training was over"
    assert str(run.path.parent) not in page, "it names no folder of this machine"
    assert "sonnets.txt" in page


@pytest.mark.pictures
def test_the_page_is_rebuilt_by_its_command(tmp_path: Path) -> None:
    run = shared_run().path
    assert command("report", run, "--out", tmp_path / "a.html").code == 0
    assert (tmp_path / "a.html").read_bytes() == (run / "report.html").read_bytes()
    assert command("report", run, "--out", tmp_path / "a.html").code == 0, "a page of ours may be replaced"


def test_a_file_that_epigone_did_not_write_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.html").write_text("<p>mine</p>", "utf-8")
    outcome = command("report", shared_run().path, "--out", tmp_path / "thesis.html")
    assert outcome.code == 2 and "is already there" in outcome.err
    assert (tmp_path / "thesis.html").read_text("utf-8") == "<p>mine</p>"


def test_no_page_without_a_run(tmp_path: Path) -> None:
    outcome = command("report", tmp_path / "nothing")
    assert outcome.code == 2 and "There is no run" in outcome.err


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
    folder.write_judgement(JUDGEMENT.as_json(), folder.hash_model())
    assert command("report", folder.path).code == 0 and "It copies a little." in folder.report.read_text("utf-8")
    folder.judgement.write_text("{", "utf-8")
    assert command("report", folder.path).code == 0
    assert not has_section(Reader(folder.report.read_text("utf-8")), "verdicts")


def test_a_run_without_samples_has_a_page(tmp_path: Path) -> None:
    text = write_sonnets(tmp_path)
    assert command("train", text, *TINY, "--quiet", "--out", tmp_path / "run").code == 0
    page = Reader((tmp_path / "run" / "report.html").read_text("utf-8"))
    assert page.faults == [] and not has_section(page, "epochs")


@pytest.mark.pictures
def test_during_training_the_curves_are_drawn_now_and_then_and_at_the_end_at_once(tmp_path: Path) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    pictures = [place / name for place in (folder.path, folder.model) for name in ("curves.png", "curves.svg")]
    drawn = [picture.read_bytes() for picture in pictures]

    def spoil(seconds_ago: float) -> None:
        for picture in pictures:
            picture.write_bytes(b"old")
            os.utime(picture, (time.time() - seconds_ago,) * 2)

    spoil(0)
    publish(folder)
    assert all(picture.read_bytes() == b"old" for picture in pictures)
    publish(folder, at_once=True)
    assert [picture.read_bytes() for picture in pictures] == drawn  # the run's own were those of its end
    spoil(60)
    publish(folder)
    assert [picture.read_bytes() for picture in pictures] == drawn


def test_during_training_the_page_is_written_only_now_and_then(tmp_path: Path) -> None:
    shutil.copytree(shared_run().path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.report.write_text("old", "utf-8")
    publish(folder)
    assert folder.report.read_text("utf-8") == "old"
    os.utime(folder.report, (0, 0))
    publish(folder)
    assert Reader(folder.report.read_text("utf-8")).faults == []
    folder.report.unlink()
    os.utime(folder.manifest, (time.time(),) * 2)
    publish(folder)
    assert not folder.report.exists(), "the run has just begun"
    os.utime(folder.manifest, (0, 0))
    publish(folder)
    assert Reader(folder.report.read_text("utf-8")).faults == []
