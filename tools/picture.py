"""The moving picture of README.md: records a real training and a text in a terminal (tmux) and draws them as one SVG.

    python tools/picture.py                                  the sonnets that are included, for a minute
    python tools/picture.py novel.txt --prompt "It was"      another text, under its own name

Nothing in it is drawn by hand: each frame is what the terminal showed, and a line says when, on what and how long.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from itertools import pairwise
from pathlib import Path

from rich.color import ColorType
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from epigone import __version__
from epigone.errors import quote_command
from epigone.report.views import format_seconds

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "picture.svg"
COLUMNS, ROWS = 100, 30
CELL, LINE, MARGIN = 8.4, 18, 16
"""Width of a letter, height of a line and space around all, in pixels."""
BUSY = 2.0
"""How much longer than its processor time a training takes, by the clock, beside other programs."""
N_FRAMES = 10
"""Frames of the training, at equal distances in time."""
SECONDS_A_FRAME, SECONDS_AT_THE_END = 1.4, 6.0
INK, PAPER, FRAME = "#e6e1d6", "#1c1b22", "#2c2a35"
THEME = TerminalTheme(
    (28, 27, 34),
    (230, 225, 214),
    [
        *((60, 58, 70), (230, 110, 110), (140, 200, 120), (226, 190, 110)),
        *((120, 160, 230), (200, 140, 220), (110, 200, 200), (214, 208, 196)),
    ],
    [
        *((130, 126, 140), (240, 140, 140), (170, 220, 150), (240, 210, 140)),
        *((150, 185, 245), (215, 165, 235), (140, 220, 220), (245, 242, 234)),
    ],
)


@dataclass(frozen=True, slots=True)
class Shot:
    """What a terminal showed, with its escape sequences, and for how long the picture shows it."""

    screen: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Recording:
    """Seconds and screen, each time it changed, and the processor time that the command took."""

    screens: list[tuple[float, str]]
    processor: float


def main() -> int:
    """Record, and write docs/picture.svg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", default="sample:sonnets")
    parser.add_argument("--minutes", default="1", help="for the training; 0: as long as the plan wants")
    parser.add_argument("--prompt", default="Shall I compare thee")
    parser.add_argument("--out", type=Path, default=PICTURE)
    asked = parser.parse_args()
    if shutil.which("tmux") is None:
        parser.error("it needs tmux")
    timed = [] if asked.minutes == "0" else ["--minutes", asked.minutes]
    with tempfile.TemporaryDirectory() as folder:
        text = asked.text
        if not text.startswith("sample:"):
            shutil.copy(text, folder)
            text = Path(text).name
        run = Path(text.removeprefix("sample:")).stem
        train, write = ["train", text, *timed], ["write", run, "--prompt", asked.prompt, "--length", "120"]
        trained = record(train, Path(folder))
        written = record(write, Path(folder))
    shots = [Shot(screen, SECONDS_A_FRAME) for screen in choose_frames(trained.screens)]
    shots += [Shot(trained.screens[-1][1], SECONDS_AT_THE_END / 2), Shot(written.screens[-1][1], SECONDS_AT_THE_END)]
    clock = trained.screens[-1][0]
    took = f"{format_seconds(trained.processor)} of processor time, {format_seconds(clock)} by the clock"
    took += " on a busy machine" if clock > BUSY * trained.processor else ""
    about = f"recorded {date.today().isoformat()}, epigone {__version__}, {os.cpu_count()} cores; training took {took}"
    commands = [quote_command("epigone", *words) for words in (train, write)]
    asked.out.write_text(draw(shots, commands, about), "utf-8", newline="\n")
    print(f"{asked.out}: {len(shots)} frames, {asked.out.stat().st_size:,} bytes")
    return 0


def record(words: Sequence[str], folder: Path) -> Recording:
    """What a terminal of its own shows of `epigone WORDS`, until it ends."""
    name, done = f"epigone-picture-{os.getpid()}", folder / "done"
    done.unlink(missing_ok=True)
    shown = quote_command("epigone", *words)
    real = quote_command(sys.executable, "-m", "epigone", *words)
    line = f"clear; printf '\\033[1m$ %s\\033[0m\\n' {quote_command(shown)}; {real}"
    line += f"; echo $? > {done}; times >> {done}; sleep 3"
    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    subprocess.run(["tmux", "new-session", "-d", "-s", name, *size, "-c", str(folder), "sh", "-c", line], check=True)
    found: list[tuple[float, str]] = []
    began = time.monotonic()
    while True:
        ended = done.exists() and "m" in done.read_text("utf-8")
        screen = subprocess.run(
            ["tmux", "capture-pane", "-e", "-p", "-t", name], capture_output=True, encoding="utf-8", check=True
        ).stdout
        if not found or found[-1][1] != screen:
            found.append((time.monotonic() - began, screen))
        if ended:
            break
        time.sleep(0.5)
    subprocess.run(["tmux", "kill-session", "-t", name], check=True)
    code, *times = done.read_text("utf-8").split()
    if code != "0":
        raise SystemExit(f"{shown} failed:\n{found[-1][1]}")
    return Recording(found, sum(map(parse_time, times)))


def parse_time(text: str) -> float:
    """Seconds in what the shell's `times` prints, such as 1m2.5s."""
    minutes, _, seconds = text.rstrip("s").partition("m")
    return 60 * float(minutes) + float(seconds)


def choose_frames(found: Sequence[tuple[float, str]], count: int = N_FRAMES) -> list[str]:
    """So many of the screens, at equal distances in time, without the last one and without repetitions."""
    end, chosen = found[-1][0], list[str]()
    for number in range(count):
        screen = [shown for seconds, shown in found if seconds <= end * (number + 0.5) / count][-1:]
        if screen and screen[0].strip() and screen[0] not in chosen:
            chosen += screen
    return chosen


# -- drawing


def draw(shots: Sequence[Shot], commands: Sequence[str], about: str) -> str:
    """One SVG that shows the screens in turn; only the last one where motion is not wanted. It loads nothing."""
    width, height = round(COLUMNS * CELL + 2 * MARGIN), ROWS * LINE + 2 * MARGIN + 2 * LINE
    total, begins, rules = sum(shot.seconds for shot in shots), 0.0, list[str]()
    for number, shot in enumerate(shots):
        start, end = 100 * begins / total, 100 * (begins + shot.seconds) / total
        begins += shot.seconds
        hidden = "0%{visibility:hidden}" if number else ""
        rules.append(
            f"@keyframes f{number}{{{hidden}{start:.2f}%{{visibility:visible}}{end:.2f}%{{visibility:hidden}}}}"
        )
        rules.append(f"#f{number}{{visibility:hidden;animation:f{number} {total:.1f}s step-end infinite}}")
    last = len(shots) - 1
    rules.append(
        f"@media (prefers-reduced-motion:reduce){{g{{animation:none!important}}#f{last}{{visibility:visible}}}}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>{escape(' and '.join(commands))}, as a terminal showed it</title>",
            *(f"<desc>$ {escape(command)}</desc>" for command in commands),
            "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
            f"fill:{INK};white-space:pre}}{''.join(rules)}</style>",
            f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>',
            f'<rect width="{width}" height="{LINE + 6}" rx="10" fill="{FRAME}"/>',
            *(f'<circle cx="{MARGIN + 18 * n}" cy="12" r="5" fill="#5d5968"/>' for n in range(3)),
            *(f'<g id="f{number}">{"".join(draw_screen(shot.screen))}</g>' for number, shot in enumerate(shots)),
            f'<text x="{MARGIN}" y="{height - 10}" style="font-size:11px" opacity="0.6">{escape(about)}</text>',
            "</svg>",
            "",
        ]
    )


def draw_screen(screen: str) -> Iterable[str]:
    """The text elements of one screen."""
    for number, line in enumerate(screen.rstrip("\n").split("\n")[:ROWS]):
        text = Text.from_ansi(line)
        for begin, end, style in list_pieces(text):
            content = text.plain[begin:end]
            if content.strip():
                yield draw_piece(content, begin, number, style)


def list_pieces(text: Text) -> Iterable[tuple[int, int, Style]]:
    """Stretches of one style, without the spaces around them."""
    edges = sorted({0, len(text), *(edge for span in text.spans for edge in (span.start, span.end))})
    for begin, end in pairwise(edges):
        style = Style.null()
        for span in text.spans:
            if span.start <= begin and end <= span.end and isinstance(span.style, Style):
                style += span.style
        piece = text.plain[begin:end]
        begin += len(piece) - len(piece.lstrip())
        yield begin, begin + len(piece.strip()), style


def draw_piece(content: str, column: int, row: int, style: Style) -> str:
    """One piece of text in its place; its length is fixed, so that columns stand in any font."""
    x, y = MARGIN + column * CELL, MARGIN + LINE * (row + 2)
    looks = [f'fill="{_colour(style)}"'] if style.color and style.color.type != ColorType.DEFAULT else []
    looks += ['font-weight="bold"'] if style.bold else []
    looks += ['font-style="italic"'] if style.italic else []
    looks += ['opacity="0.6"'] if style.dim else []
    length = f'textLength="{len(content) * CELL:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text x="{x:.1f}" y="{y}" {length} {" ".join(looks)}>{escape(content)}</text>'


def _colour(style: Style) -> str:
    assert style.color is not None
    return style.color.get_truecolor(THEME).hex


if __name__ == "__main__":
    sys.exit(main())
