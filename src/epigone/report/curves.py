"""Training curves, drawn by matplotlib: loss, next-token accuracy, samples and learning rate over the epochs.

They are drawn once with a title, as curves.png and curves.svg, and without one for the report page: wide for a desk
and narrow for a phone, each in light and in dark colours. Those differ only by their colours, which are replaced in
the finished SVG, since to draw one takes about 0.1 s.
"""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from epigone.files import write_bytes
from epigone.report.views import format_epoch, format_rate
from epigone.training.events import Evaluated, Event, Sampled, StepReport, effective_history, find_best

Box = tuple[float, float, float, float]
"""Left, bottom, width and height of a panel, as shares of the picture; the right margin holds the lines' names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the panels stand in a picture of this size."""

    size_inches: tuple[float, float]
    loss: Box
    accuracy: Box
    rate: Box
    samples: Box | None = None
    n_epochs: int = 12
    """About how many epochs are labelled below the losses."""


NARROW_INCHES = 5
"""Below this width of a panel its labels are short."""
Layouts = tuple[Layout, Layout]
"""Without and with a panel for the samples."""
TITLED: Layouts = (
    Layout(
        size_inches=(10.0, 6.6),
        loss=(0.065, 0.445, 0.795, 0.42),
        accuracy=(0.065, 0.085, 0.325, 0.235),
        rate=(0.535, 0.085, 0.325, 0.235),
    ),
    Layout(
        size_inches=(10.0, 6.6),
        loss=(0.065, 0.445, 0.795, 0.42),
        accuracy=(0.065, 0.085, 0.2, 0.235),
        samples=(0.385, 0.085, 0.2, 0.235),
        rate=(0.76, 0.085, 0.2, 0.235),
    ),
)
WIDE: Layouts = (
    Layout(
        size_inches=(9.6, 5.8),
        loss=(0.055, 0.475, 0.79, 0.46),
        accuracy=(0.055, 0.085, 0.325, 0.255),
        rate=(0.52, 0.085, 0.325, 0.255),
    ),
    Layout(
        size_inches=(9.6, 5.8),
        loss=(0.055, 0.475, 0.79, 0.46),
        accuracy=(0.055, 0.085, 0.2, 0.255),
        samples=(0.375, 0.085, 0.2, 0.255),
        rate=(0.76, 0.085, 0.2, 0.255),
    ),
)
"""For a page on a desk or on paper, with the title outside the picture."""
NARROW: Layouts = (
    Layout(
        size_inches=(4.6, 7.6),
        loss=(0.095, 0.6, 0.645, 0.36),
        accuracy=(0.115, 0.335, 0.625, 0.165),
        rate=(0.115, 0.06, 0.625, 0.165),
        n_epochs=6,
    ),
    Layout(
        size_inches=(4.6, 9.4),
        loss=(0.095, 0.675, 0.645, 0.29),
        accuracy=(0.115, 0.465, 0.625, 0.13),
        samples=(0.095, 0.255, 0.645, 0.13),
        rate=(0.115, 0.05, 0.625, 0.13),
        n_epochs=6,
    ),
)
"""For a page on a phone: panels one above the other, letters as large as those of the page."""


DPI = 160
# Dark blue and orange differ to every kind of eye, and in greyscale by their lightness (21 % and 47 %).
VALIDATION = "#17375e"
TRAINING = "#c8700a"
INK = "#222222"
QUIET = "#6b6b6b"
GRID = "#e6e6e6"
FRAME = "#bbbbbb"
MARK = "#999999"
PAPER = "#ffffff"
THEMES = {
    "light": {PAPER: "#fdfdfb", QUIET: "#5f5f5f", FRAME: "#dcdcd6"},
    "dark": {
        PAPER: "#17181a",
        INK: "#e4e4e0",
        QUIET: "#a3a39d",
        GRID: "#2c2d30",
        FRAME: "#3a3b3e",
        MARK: "#77787c",
        VALIDATION: "#8db8ee",
        TRAINING: "#f0a04b",
    },
}
"""What each colour becomes on the report page, as in its style.css."""
PAGE_FONTS = ["Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "DejaVu Sans", "Arial"]

BEST_LINE = {"color": MARK, "linewidth": 1, "linestyle": (0, (2, 2)), "zorder": 1}
LABEL_POINTS = 9.5
MOST_POINTS = 600
"""Points of a line: more cannot be told apart in the picture and would make the SVG large."""

Line = NDArray[np.float64]
"""float64 [points, 2]: epoch and value, NaN where a value is missing."""


def draw_curves(events: Sequence[Event], folder: Path, *, title: str) -> tuple[Path, Path]:
    """Draw the curves of a run into `folder`, as curves.png and curves.svg. Raises OutputError."""
    figure = build_figure(events, title)
    return (
        write_bytes(folder / "curves.png", render_figure(figure, "png", {"Software": None})),
        write_bytes(folder / "curves.svg", render_figure(figure, "svg", {"Date": None, "Creator": "epigone"})),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PagePicture:
    """The curves for one kind of screen, as `data:` addresses of SVG pictures."""

    light: str
    dark: str
    size: tuple[int, int]
    """Width and height in CSS pixels."""


def draw_for_page(events: Sequence[Event], layouts: Layouts) -> PagePicture:
    """The curves without a title, for a page that loads nothing. Their words stay text, in a font of the reader's."""
    figure = build_figure(events, "", layouts)
    with matplotlib.rc_context({"svg.fonttype": "none", "font.sans-serif": PAGE_FONTS}):
        svg = render_figure(figure, "svg", {"Date": None, "Creator": "epigone"}).decode()
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    light, dark = (_encode_svg(svg, colours) for colours in (THEMES["light"], THEMES["dark"]))
    return PagePicture(light=light, dark=dark, size=(width, height))


def _encode_svg(svg: str, colours: Mapping[str, str]) -> str:
    """The picture as a `data:` address, with other colours."""
    for drawn, shown in colours.items():
        svg = svg.replace(drawn, shown)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def build_figure(events: Sequence[Event], title: str, layouts: Layouts = TITLED) -> Figure:
    """The picture before rendering; its axes are labelled "loss", "accuracy", "samples" (if any) and "rate"."""
    history = effective_history(events)
    sampled = [event for event in history if isinstance(event, Sampled) and event.found is not None]
    sampled = sampled if any(event.found.copied or event.found.repeated for event in sampled if event.found) else []
    layout = layouts[bool(sampled)]
    steps = [event for event in history if isinstance(event, StepReport)]
    evaluations = [event for event in history if isinstance(event, Evaluated)]
    figure = Figure(figsize=layout.size_inches, dpi=DPI, facecolor=PAPER)
    # A dollar sign in a title does not begin a formula.
    figure.text(
        layout.loss[0], 0.94, _shorten(title), fontsize=15, fontweight="bold", color=INK, va="bottom", parse_math=False
    )
    epochs = [step.epoch for step in steps] + [item.epoch for item in evaluations]
    last_epoch = max((epoch for epoch in epochs if 0 < epoch < math.inf), default=1.0)
    panels = [
        _add_panel(figure, "loss", layout.loss, "Loss in nats per token: lower is better", last_epoch, layout.n_epochs),
        _add_panel(figure, "accuracy", layout.accuracy, "Next-token accuracy", last_epoch),
        _add_panel(figure, "rate", layout.rate, "Learning rate", last_epoch),
    ]
    _draw_loss(panels[0], steps, evaluations)
    _draw_accuracy(panels[1], evaluations)
    _draw_rate(panels[2], steps or evaluations)
    if layout.samples is not None:
        panel = _add_panel(figure, "samples", layout.samples, "Copied and repeated", last_epoch)
        _draw_samples(panel, sampled)
    return figure


def render_figure(figure: Figure, kind: str, metadata: dict[str, str | None]) -> bytes:
    """The picture as PNG or SVG.

    The same bytes for the same figure: no date, and names in the SVG hashed with a fixed salt.
    """
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "epigone"}), warnings.catch_warnings():
        # A title in a script that the bundled font lacks shows boxes; that is not worth a warning on the terminal.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(picture, format=kind, metadata=metadata)
    return picture.getvalue()


# -- the panels


def _add_panel(figure: Figure, name: str, box: Box, heading: str, last_epoch: float, n_epochs: int = 6) -> Axes:
    """Empty axes with a quiet frame, a light grid and the epochs below."""
    axes = figure.add_axes(box, label=name)
    axes.set_title(heading, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FRAME)
    axes.tick_params(colors=QUIET, labelsize=9, length=0, pad=5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(-0.012 * last_epoch, 1.012 * last_epoch)  # a dot at either end is a whole dot
    n_values = 7 if name == "loss" else 5
    axes.xaxis.set_major_locator(MaxNLocator(n_epochs, steps=[1, 2, 5, 10], integer=last_epoch >= 2))
    axes.yaxis.set_major_locator(MaxNLocator(n_values, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda epoch, _: format_epoch(epoch)))
    axes.set_xlabel("epoch", fontsize=9, color=QUIET, loc="right", labelpad=2)
    return axes


def _draw_loss(axes: Axes, steps: Sequence[StepReport], evaluations: Sequence[Evaluated]) -> None:
    every_step = _thin_out(_as_line((step.epoch, step.loss) for step in steps))
    trained, best = [item for item in evaluations if item.share == 1], find_best(evaluations)
    training = _centre_averages(trained)
    validation = _as_line((item.epoch, item.loss) for item in trained)
    kept = _as_line([] if best is None else [(best.epoch, best.loss)])
    axes.set_ylim(_choose_range([validation, training, kept], background=every_step))
    axes.plot(*every_step.T, color=TRAINING, linewidth=0.8, alpha=0.35, gid="every-step")
    _plot(axes, training, TRAINING, gid="training")
    _plot(axes, validation, VALIDATION, gid="validation")
    _name_lines(
        axes,
        [
            ("training", training if len(_numbers(training)) else every_step, TRAINING),
            ("validation", validation, VALIDATION),
        ],
    )
    if best is not None:
        _mark_kept(axes, best)


def _draw_accuracy(axes: Axes, evaluations: Sequence[Evaluated]) -> None:
    accuracy = _as_line((item.epoch, 100 * item.accuracy) for item in evaluations if item.share == 1)
    low, high = _choose_range([accuracy], least=2.0)
    axes.set_ylim(max(low, 0), high)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    best = find_best(evaluations)
    if best is not None:
        axes.axvline(best.epoch, **BEST_LINE)  # type: ignore[arg-type]
    _plot(axes, accuracy, VALIDATION, gid="accuracy")
    _name_lines(axes, [("", accuracy, VALIDATION)], unit=" %", digits=1)


def _draw_rate(axes: Axes, events: Sequence[StepReport] | Sequence[Evaluated]) -> None:
    rate = _thin_out(_as_line((event.epoch, event.learning_rate) for event in events))
    peak = max(_numbers(rate), default=0.0)
    axes.set_ylim(0, 1.12 * peak if peak > 0 else 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _shorten_rate(value)))
    axes.plot(*rate.T, color=QUIET, linewidth=1.8, solid_capstyle="round", clip_on=False, gid="rate")
    if len(rate) == 1:
        axes.plot(*rate.T, "o", color=QUIET, markersize=5, clip_on=False)


def _draw_samples(axes: Axes, sampled: Sequence[Sampled]) -> None:
    """The share of the samples that is copied, and the share of their four-word passages that are repeated."""
    copied, repeated = (
        _as_line((event.epoch, 100 * getattr(event.found, name)) for event in sampled)
        for name in ("copied", "repeated")
    )
    axes.set_ylim(0, max(2.0, 1.08 * max(_numbers(np.concatenate([copied, repeated])), default=0.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    _plot(axes, repeated, TRAINING, gid="repeated")
    _plot(axes, copied, VALIDATION, gid="copied")
    _name_lines(axes, [("copied", copied, VALIDATION), ("repeated", repeated, TRAINING)], unit=" %", digits=1)


# -- lines


def _as_line(points: Iterable[tuple[float, float]]) -> Line:
    line = np.array(list(points), dtype=np.float64).reshape(-1, 2)
    line[~np.isfinite(line)] = np.nan
    return line


def _centre_averages(evaluations: Sequence[Evaluated]) -> Line:
    """Training losses, each in the middle of the steps it averages, where the line of single steps passes too."""
    starts = [0.0, *(item.epoch for item in evaluations)]
    return _as_line(
        ((start + item.epoch) / 2, item.training_loss)
        for start, item in zip(starts, evaluations, strict=False)
        if item.training_loss is not None
    )


def _thin_out(line: Line) -> Line:
    """Averages of neighbours, so that at most `MOST_POINTS` remain; both ends stay where they are."""
    if len(line) <= MOST_POINTS:
        return line
    inner = [part.mean(axis=0) for part in np.array_split(line[1:-1], MOST_POINTS - 2)]
    return np.vstack([line[0], *inner, line[-1]])


def _numbers(line: Line) -> NDArray[np.float64]:
    """The finite values, without their epochs."""
    values: NDArray[np.float64] = line[:, 1]
    return values[np.isfinite(values)]


def _choose_range(lines: Sequence[Line], background: Line | None = None, least: float = 0.05) -> tuple[float, float]:
    """Bottom and top of the axis, at least `least` apart.

    The first losses of a new model are so high that they would flatten everything after them: what lies far above the
    bulk may leave the picture at the top. The ends of lines stay inside, and all but a few points of the noisy
    `background` do.
    """
    values = _numbers(np.concatenate(lines))
    noise = _numbers(background) if background is not None else values[:0]
    everything = np.concatenate([values, noise])
    if not len(everything):
        return 0.0, 1.0
    low = min([*values, *(np.quantile(noise, [0.02]) if len(noise) else [])])
    bulk = low + 6 * (np.median(everything) - low)
    ends = [_numbers(line)[-1] for line in lines if len(_numbers(line))]
    high = max([min(everything.max(), bulk), *ends])
    least = max(least, 1e-6 * max(abs(low), abs(high)))  # a small distance vanishes next to huge numbers
    margin = 0.08 * (high - low) + max(0, least - (high - low)) / 2
    return float(low - margin), float(high + margin)


def _plot(axes: Axes, line: Line, color: str, gid: str) -> None:
    """A line with a dot for each evaluation, as long as the dots can be told apart."""
    line = _thin_out(line)
    dots = {"marker": "o", "markersize": 4.5, "markeredgecolor": PAPER, "markeredgewidth": 0.8}
    look = dots if len(line) <= 40 else {}
    axes.plot(*line.T, color=color, linewidth=2, solid_capstyle="round", gid=gid, **look)  # type: ignore[arg-type]


# -- labels


def _name_lines(axes: Axes, lines: Sequence[tuple[str, Line, str]], unit: str = "", digits: int = 3) -> None:
    """Name and last value of each (name, line, colour), in the margin next to its end, without overlaps."""
    named = [(name, _numbers(line)[-1], color) for name, line, color in lines if len(_numbers(line))]
    low, high = axes.get_ylim()
    height_points = axes.get_window_extent().height * 72 / DPI
    gap = 1.35 * LABEL_POINTS / height_points * (high - low)
    place = -math.inf
    for name, value, color in sorted(named, key=lambda item: item[1]):
        place = max(value, place + gap)
        text = f"{name} {value:.{digits}f}{unit}".strip()
        axes.annotate(
            text,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(9, 0),
            textcoords="offset points",
            color=color,
            fontsize=LABEL_POINTS,
            va="center",
            annotation_clip=False,
        )


def _mark_kept(axes: Axes, best: Evaluated) -> None:
    """A ring around the kept model, with its loss at the top of the panel: losses have fallen by then.

    A mix with the base has a ring below the end of the line.
    """
    axes.axvline(best.epoch, **BEST_LINE, gid="best")  # type: ignore[arg-type]
    ring = {"markersize": 11, "markeredgewidth": 2, "clip_on": False, "zorder": 5}
    axes.plot([best.epoch], [best.loss], "o", color=VALIDATION, markerfacecolor="none", gid="kept", **ring)  # type: ignore[arg-type]
    is_narrow = axes.bbox.width < NARROW_INCHES * axes.figure.dpi  # there the words would lie on the lines
    mixed = "" if best.share == 1 or is_narrow else ", mixed with the base"
    late = best.epoch > 0.7 * axes.get_xlim()[1]
    axes.annotate(
        f"kept model: {best.loss:.3f}{mixed}",
        (best.epoch, 0.985),
        xycoords=("data", "axes fraction"),
        xytext=(-7 if late else 7, 0),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        color=VALIDATION,
        fontsize=LABEL_POINTS,
        fontweight="bold",
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def _shorten(title: str, most: int = 60) -> str:
    """The title on one line that fits."""
    line = " ".join(title.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _shorten_rate(rate: float) -> str:
    """A learning rate at a tick: "5e-5" and not "5.00e-5"."""
    digits, _, exponent = format_rate(rate).partition("e")
    return f"{float(digits):g}" + (f"e{exponent}" if exponent else "")
