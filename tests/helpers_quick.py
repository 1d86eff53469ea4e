"""Stand-ins that keep the tests quick: for pictures, what comes before and after training, the disk.

All tests get them but those with the marker `pictures`, `benchmark`, `trial`, `judging` or `fsync`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from matplotlib.figure import Figure

from epigone import pipeline, preparation
from epigone.planning.plan import Plan
from epigone.report import curves, share_card
from epigone.training import base_trial
from epigone.training.events import Estimate

SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><g id="curves"></g></svg>\n'
PNG = b"\x89PNG\r\n\x1a\n"
"""The eight bytes by which one is known."""
FIXED = Estimate(seconds_per_step=0.01, seconds_per_evaluation=0.01, n_evaluations=0, seconds=0.0, memory_bytes=1 << 28)
_JUDGE = pipeline.judge_quickly
_GENUINE = {"build_figure": curves.build_figure, "render_figure": curves.render_figure}


@contextmanager
def quick_pictures() -> Iterator[None]:
    """Curves are an empty picture: drawing them takes a quarter of a second, and each finished run draws four."""

    def render(_figure: Figure, kind: str, *_: object) -> bytes:
        return PNG if kind == "png" else SVG.encode()

    with (
        mock.patch.object(curves, "build_figure", lambda *_: Figure()),
        mock.patch.object(curves, "render_figure", render),
        mock.patch.object(share_card, "render_figure", render),
    ):
        yield


@contextmanager
def real_pictures() -> Iterator[None]:
    """Curves are drawn, whatever test asks for them."""
    with (
        mock.patch.multiple(curves, **_GENUINE),
        mock.patch.object(share_card, "render_figure", _GENUINE["render_figure"]),
    ):
        yield


@contextmanager
def fixed_speed() -> Iterator[None]:
    """A hundredth of a second a step, on every machine; no steps are taken to measure it."""

    def measure(_model: object, _tokens: object, plan: Plan, **_: object) -> Estimate:
        return preparation.estimate_run(plan, FIXED)

    with mock.patch.object(preparation, "measure_speed", measure):
        yield


@contextmanager
def no_fsync() -> Iterator[None]:
    """What is written is in files at once, and on the disk when the system likes: no machine loses its power here."""
    with mock.patch.object(os, "fsync", lambda _handle: None):
        yield


@contextmanager
def brief_trial() -> Iterator[None]:
    """The trial that chooses the base takes a quarter of its steps: enough where one of the two clearly wins."""
    with mock.patch.object(base_trial, "STEPS", 8):
        yield


@contextmanager
def no_judgement() -> Iterator[None]:
    """No run is judged when it ends, which takes longer than to train most models of the tests."""
    with mock.patch.object(pipeline, "judge_quickly", lambda *_: None):
        yield


@contextmanager
def real_judgement() -> Iterator[None]:
    """Runs are judged when they end, whatever test trains them."""
    with mock.patch.object(pipeline, "judge_quickly", _JUDGE):
        yield


STAND_INS = {
    "pictures": quick_pictures,
    "benchmark": fixed_speed,
    "trial": brief_trial,
    "judging": no_judgement,
    "fsync": no_fsync,
}
"""By the marker of the tests that do without."""
