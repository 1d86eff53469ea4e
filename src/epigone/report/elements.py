"""Words, rows and pictures in; parts of an offline page out, in which nothing that somebody wrote has any power."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from epigone import __version__
from epigone.report.escape import show_controls

GENERATOR = '<meta name="generator" content="epigone'
"""Stands at the beginning of each page, so that a page is known as ours."""
COLOURS = {"#17375e": "validation", "#c8700a": "training", "#222222": "ink", "#6b6b6b": "quiet", "#e6e6e6": "grid"} | {
    "#ffffff": "paper",
    "#bbbbbb": "line",
    "#999999": "mark",
}
"""Of the curves, each with its name in page.css, which has another shade for the dark."""


def draw_page(title: str, body: str, script: str = "", policy: str = "") -> str:
    """A whole page that loads nothing: what it needs is in it. `policy` says what it may do beside showing itself."""
    rules = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:{policy}; base-uri 'none'; form-action 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{GENERATOR} {__version__}">
<meta http-equiv="Content-Security-Policy" content="{rules}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>
{read_style()}</style>
</head>
<body>
{body}
{f"<script>{script}</script>" if script else ""}</body>
</html>
"""


@cache
def read_style() -> str:
    """How a page looks."""
    return (Path(__file__).parent / "page.css").read_text("utf-8")


def escape(text: str) -> str:
    """Text for a page, as it is: marks, quotes and control characters in it are shown and do nothing."""
    return html.escape(show_controls(text))


def shorten_text(text: str, most: int) -> str:
    """The text, or its beginning and a mark where it is longer."""
    return text if len(text) <= most else text[:most].rstrip() + " …"


def quote(text: str, most: int = 300) -> str:
    """Somebody's words within a sentence of ours, in whatever language and direction."""
    return f'<bdi dir="auto" lang="">{escape(shorten_text(text, most))}</bdi>'


def draw_chapter(name: str, heading: str, parts: Iterable[str]) -> str:
    """A chapter under its heading, empty without parts."""
    inside = "\n".join(part for part in parts if part)
    return f'<section id="{name}" aria-labelledby="{name}-h">\n<h2 id="{name}-h">{heading}</h2>\n{inside}\n</section>'


def draw_paragraph(text: str, kind: str = "") -> str:
    """A paragraph of a plain sentence."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def draw_table(
    caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str, best: int | None = None
) -> str:
    """A table in a box of its own, in which it may be wider than the page. `kind` is "numbers" or "words"."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines = [_draw_row(row, ' class="best"' if number == best else "") for number, row in enumerate(rows)]
    name = escape(caption)
    return (
        f'<div class="box" role="region" tabindex="0" aria-label="{name}">\n<table class="{kind}">\n'
        f"<caption>{name}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n"
        "</table>\n</div>"
    )


def _draw_row(cells: Sequence[str], kind: str) -> str:
    shown = [quote(cell) for cell in cells]
    rest = "".join(f"<td>{cell}</td>" for cell in shown[1:])
    return f'<tr{kind}><th scope="row">{shown[0]}</th>{rest}</tr>'


def place_svg(svg: str, kind: str, title: str) -> str:
    """A picture from curves.py as a part of the page: as wide as that, in its colours, with its own names inside."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)
    box = re.search(r'viewBox="([^"]*)"', svg)
    inside = svg[svg.index(">") + 1 :]
    inside = re.sub(r' id="', f' id="{kind}-', inside)
    inside = re.sub(r'(xlink:)?href="#', f'href="#{kind}-', inside).replace("url(#", f"url(#{kind}-")
    inside = re.sub(r"font-family: [^;\"]*", "font-family: inherit", inside)
    inside = re.sub(r"((?:fill|stroke): )(#[0-9a-f]{6})", lambda found: found[1] + _name_colour(found[2]), inside)
    head = f'<svg class="{kind}" viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(title)}">'
    return f"{head}<title>{escape(title)}</title>{inside.strip()}"


def _name_colour(colour: str) -> str:
    return f"var(--{COLOURS[colour]})" if colour in COLOURS else colour
