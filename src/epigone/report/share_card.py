"""The card to share: a picture that quotes what the model wrote, and says who wrote it and from what it learned."""

from __future__ import annotations

import textwrap
from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle

from epigone.corpus.words import SENTENCE_END
from epigone.report.curves import INK, PAPER, QUIET, THEMES, VALIDATION, render_figure

SIZE_INCHES, DPI = (12.0, 6.3), 100
"""1200 by 630 pixels: what messengers and social networks show in full."""
FONTS = ["DejaVu Serif", "DejaVu Sans"]
MOST_CHARACTERS, MOST_LINES = 320, 9
SIZES = ((6, 40, 30.0), (7, 48, 26.0), (9, 58, 22.0))
"""Lines, characters in each and points of the letters, of which the first is taken that the quotation fits into;
verse keeps its lines where one of them allows it."""


def draw_share_card(text: str, title: str, about: str) -> bytes | None:
    """The card as PNG; None where matplotlib's own fonts lack a letter of it, as they do of most scripts.

    `text`: what the model wrote, of which the beginning is quoted; `about`: who wrote it, in a sentence.
    """
    quotation = cut_quotation(text)
    if not quotation or not _has_letters(quotation + title + about):
        return None
    lines, points = _set_lines(quotation)
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor=THEMES["light"][PAPER])
    figure.add_artist(Rectangle((0, 0), 0.012, 1, color=VALIDATION))
    how: dict[str, Any] = {"parse_math": False, "family": FONTS}
    figure.text(0.07, 0.55, "\n".join(lines), fontsize=points, color=INK, va="center", linespacing=1.45, **how)
    how = {"parse_math": False, "family": FONTS[::-1]}
    figure.text(0.07, 0.87, "“", fontsize=60, color=VALIDATION, va="center", **how)
    figure.text(0.07, 0.13, f"An imitation of {title}", fontsize=17, fontweight="bold", color=INK, va="center", **how)
    figure.text(0.07, 0.065, about, fontsize=13, color=QUIET, va="center", **how)
    figure.text(0.96, 0.065, "made with epigone", fontsize=13, color=QUIET, va="center", ha="right", **how)
    return render_figure(figure, "png", {"Software": None})


def cut_quotation(text: str) -> str:
    """The beginning of a text that fits on the card: whole sentences where possible, else whole lines or words."""
    text = "\n".join(" ".join(line.split()) for line in text.strip().split("\n"))
    start = text[: MOST_CHARACTERS + 1]
    if len(text) > MOST_CHARACTERS:
        ends = [match.end() for match in SENTENCE_END.finditer(start) if match.end() >= MOST_CHARACTERS // 3]
        start = start[: ends[-1]] if ends else start.rpartition(" ")[0] + " …"
    return "\n".join(start.strip().split("\n")[:MOST_LINES])


def _set_lines(quotation: str) -> tuple[list[str], float]:
    """The lines on the card, and the points of its letters."""
    whole = quotation.split("\n")
    for most, width, points in SIZES:
        lines = [part for line in whole for part in textwrap.wrap(line, width) or [""]]
        if len(lines) <= most and (len(lines) == len(whole) or len(whole) == 1):
            return lines, points
    most, width, points = SIZES[-1]
    lines = [part for line in whole for part in textwrap.wrap(line, width) or [""]]
    return (lines if len(lines) <= most else [*lines[: most - 1], "…"]), points


def _has_letters(text: str) -> bool:
    return all(letter.isspace() or any(ord(letter) in letters for letters in _list_letters()) for letter in text)


@cache
def _list_letters() -> tuple[frozenset[int], ...]:
    """The letters of each font."""
    return tuple(frozenset(FT2Font(font_manager.findfont(name)).get_charmap()) for name in FONTS)
