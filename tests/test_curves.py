from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from epigone.errors import OutputError
from epigone.report.curves import NARROW, TITLED, WIDE, Layouts, build_figure, draw_curves
from epigone.report.views import epoch_table, format_epoch, format_rate, format_seconds
from epigone.training.events import (
    Evaluated,
    Event,
    Sampled,
    SampleStats,
    Started,
    StepReport,
    effective_history,
    find_best,
)
from helpers_events import make_evaluated

pytestmark = pytest.mark.pictures


def evaluated(step: int, loss: float, training_loss: float | None = 5.0) -> Evaluated:
    return make_evaluated(step, loss, step / 10, training_loss=training_loss, accuracy=0.3, seconds=float(step))


def stepped(step: int, loss: float = 4.0) -> StepReport:
    return StepReport(
        step=step,
        n_steps=100,
        epoch=step / 10,
        progress=step / 100,
        loss=loss,
        learning_rate=5e-5,
        tokens_per_second=1000.0,
        seconds=float(step),
        seconds_left=1.0,
    )


def course(losses: list[float]) -> list[Event]:
    events: list[Event] = [Started(step=0, n_steps=10 * len(losses), epochs=float(len(losses)))]
    for epoch, loss in enumerate(losses, 1):
        events += [stepped(10 * epoch - 5, loss + 0.1), evaluated(10 * epoch, loss, loss + 0.2)]
    return events


def panel(figure: Figure, name: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == name)


def line(axes: Axes, gid: str) -> np.ndarray:
    return next(np.asarray(line.get_xydata()) for line in axes.lines if line.get_gid() == gid)


def test_the_picture_is_1600_wide_and_the_drawing_says_what_it_shows(tmp_path: Path) -> None:
    png, svg = draw_curves(course([5.0, 4.0, 4.5]), tmp_path / "new", title="A <title> & more")
    assert imread(png).shape[:2] == (1056, 1600)
    ElementTree.parse(svg)
    drawing = svg.read_text()
    for label in ("lower is better", "Next-token accuracy", "Learning rate", "kept model: 4.000"):
        assert label in drawing
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["curves.png", "curves.svg"]


def test_equal_events_give_equal_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw_curves(course([5.0, 4.0]), tmp_path / "a", title="t")]
    second = [path.read_bytes() for path in draw_curves(course([5.0, 4.0]), tmp_path / "b", title="t")]
    assert first == second


def test_the_best_epoch_is_marked_where_the_loss_is_lowest() -> None:
    axes = panel(build_figure(course([5.0, 4.0, 3.5, 3.9]), "t"), "loss")
    assert line(axes, "best")[:, 0].tolist() == [3.0, 3.0]
    assert "kept model: 3.500" in [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("layouts", [TITLED, WIDE, NARROW], ids=["titled", "wide", "narrow"])
def test_the_mark_has_room_where_the_best_lies_between_the_base_and_the_end(layouts: Layouts) -> None:
    *epochs, last = course([5.0, 4.0, 3.5])
    assert isinstance(last, Evaluated)
    figure = build_figure([*epochs, last, replace(last, loss=3.25, share=0.77)], "t", layouts)
    how = "" if layouts is NARROW else ", mixed with the base"
    (mark,) = (text for text in panel(figure, "loss").texts if text.get_text() == f"kept model: 3.250{how}")
    assert figure.bbox.containsx(mark.get_window_extent().x0) and figure.bbox.containsx(mark.get_window_extent().x1)


def test_an_average_stands_in_the_middle_of_what_it_averages() -> None:
    axes = panel(build_figure(course([5.0, 4.0]), "t"), "loss")
    assert line(axes, "training").tolist() == [[0.5, 5.2], [1.5, 4.2]]
    assert line(axes, "validation").tolist() == [[1.0, 5.0], [2.0, 4.0]]


def test_a_huge_first_loss_does_not_flatten_the_rest() -> None:
    events = [evaluated(0, 10.8, None), *course([3.0 - 0.05 * epoch for epoch in range(20)])]
    low, high = panel(build_figure(events, "t"), "loss").get_ylim()
    assert low < 2.05 and 3.0 < high < 9


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    figure = build_figure([evaluated(10, 4.0, 4.0), evaluated(20, 3.0, 3.001)], "t")
    figure.draw_without_rendering()
    axes = panel(figure, "loss")
    names = [text for text in axes.texts if text.get_text().startswith(("training", "validation"))]
    first, second = (text.get_window_extent() for text in names)
    assert len(names) == 2 and not first.overlaps(second)


def test_whole_epochs_have_whole_numbers_on_the_axis() -> None:
    ticks = panel(build_figure(course([5.0, 4.0, 3.0]), "t"), "loss").get_xticks()
    assert all(tick == round(tick) for tick in ticks)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [stepped(1)],
        [evaluated(0, 10.0, None)],
        [evaluated(5, math.nan, math.inf), stepped(3, math.nan)],
        course([4.0] * 100),
        [event for event in course([5.0, 4.0]) if isinstance(event, Evaluated)],
        [stepped(step) for step in range(1, 5000)],
    ],
    ids=["nothing", "one step", "untrained", "no numbers", "hundred", "no steps", "many steps"],
)
def test_every_course_can_be_drawn(events: list[Event], tmp_path: Path) -> None:
    for path in draw_curves(events, tmp_path, title="$x^{ \\frac 詩"):
        assert path.stat().st_size > 1000


def test_many_steps_are_thinned_to_their_averages() -> None:
    events = [stepped(step, loss=4.0 + step % 2) for step in range(1, 20_001)]
    thin = line(panel(build_figure(events, "t"), "loss"), "every-step")
    assert len(thin) == 600 and abs(thin[1:-1, 1].mean() - 4.5) < 0.01


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        draw_curves([], tmp_path / "file", title="t")


def test_steps_that_a_resume_repeats_count_once() -> None:
    lost, again = evaluated(30, 3.0), evaluated(30, 3.1)
    events = [*course([5.0, 4.0]), lost, Started(step=20, n_steps=30, epochs=3.0, resumed=True), again]
    kept = [event for event in effective_history(events) if isinstance(event, Evaluated)]
    assert [event.step for event in kept] == [10, 20, 30] and kept[-1] is again


def test_the_table_marks_one_best_row_and_never_one_without_a_number() -> None:
    rows = [evaluated(0, math.nan, None), evaluated(10, 3.0), evaluated(20, 3.0), evaluated(30, 4.0)]
    table = epoch_table(rows)
    assert [row["best"] for row in table] == ["", "best", "", ""]
    assert (table[0]["training loss"], table[1]["accuracy"], table[3]["perplexity"]) == ("–", "30.0 %", "54.6")
    assert find_best([replace(rows[0])]) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (192, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (7199, "2 h 00 min"),
        (math.inf, "–"),
    ],
)
def test_durations_are_in_hours_minutes_and_seconds(seconds: float, words: str) -> None:
    assert format_seconds(seconds) == words


def test_epochs_and_rates_are_short() -> None:
    assert [format_epoch(epoch) for epoch in (3.0, 2.5, 0.25, 10.0)] == ["3", "2.5", "0.25", "10"]
    assert [format_rate(rate) for rate in (4.75e-5, 0.02, 0.0)] == ["4.75e-5", "2.00e-2", "0"]


def sampled(step: int, copied: float | None) -> Sampled:
    found = None
    if copied is not None:
        numbers = {"longest_copied": 80, "copying": "good", "repeated": 0.01, "repeating": "good", "sounds_like": None}
        found = SampleStats(n_characters=900, copied=copied, **numbers)
    return Sampled(step=step, epoch=step / 10, samples=(), found=found)


@pytest.mark.parametrize("layouts", [TITLED, WIDE, NARROW], ids=["titled", "wide", "narrow"])
def test_copying_in_samples_has_its_own_panel_where_it_is_known(layouts: Layouts) -> None:
    events = course([4.0, 3.5, 3.2])
    assert [axes.get_label() for axes in build_figure(events, "", layouts).axes] == ["loss", "accuracy", "rate"]
    unknown = [*events, sampled(30, None)]
    assert len(build_figure(unknown, "", layouts).axes) == 3
    figure = build_figure([*events, sampled(10, 0.0), sampled(20, 0.25), sampled(30, 0.5)], "", layouts)
    panel = next(axes for axes in figure.axes if axes.get_label() == "samples")
    lines = {line.get_gid(): line.get_ydata() for line in panel.get_lines()}
    assert list(lines["copied"]) == [0, 25, 50] and list(lines["repeated"]) == [1, 1, 1]
    assert panel.get_ylim()[1] >= 50
    boxes = [axes.get_position() for axes in figure.axes]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])


def test_what_samples_repeat_stays_in_the_picture_however_seldom() -> None:
    shares = [0.0, 0.0, 0.3, 0.0, 0.0]
    events = [event for step, share in enumerate(shares) for event in (evaluated(step, 4.0, 4.0), sampled(step, share))]
    figure = build_figure(events, "t")
    (axes,) = (axes for axes in figure.axes if axes.get_label() == "samples")
    assert axes.get_ylim()[1] > 30
