"""The picture of README.md is what a terminal showed: complete, in its colours, and of commands that still exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from epigone.cli import main
from picture import COLUMNS, Shot, choose_frames, draw, parse_time

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "picture.svg"
SVG = "{http://www.w3.org/2000/svg}"
SCREEN = "\x1b[1m$ epigone train\x1b[0m\n  a <b> & \x1b[31mred\x1b[0m\n\nend"


def read_texts(element: ElementTree.Element) -> list[str]:
    return [one.text or "" for one in element.iter(f"{SVG}text")]


def test_each_screen_is_drawn_letter_by_letter() -> None:
    drawn = ElementTree.fromstring(draw([Shot(SCREEN, 1), Shot("second", 2)], ["epigone train a.txt"], "on a day"))
    frames = drawn.findall(f"{SVG}g")
    assert [read_texts(frame) for frame in frames] == [["$ epigone train", "a <b> &", "red", "end"], ["second"]]
    bold, _, red, _ = frames[0].iter(f"{SVG}text")
    assert bold.get("font-weight") == "bold" and red.get("fill") == "#e66e6e"
    assert read_texts(drawn)[-1] == "on a day" and [one.text for one in drawn.iter(f"{SVG}desc")] == [
        "$ epigone train a.txt"
    ]


def test_one_frame_is_seen_at_a_time_and_the_last_where_nothing_may_move() -> None:
    style = ElementTree.fromstring(draw([Shot("a", 1), Shot("b", 3)], [], "")).find(f"{SVG}style")
    assert style is not None and style.text is not None
    assert "@keyframes f0{0.00%{visibility:visible}25.00%{visibility:hidden}}" in style.text
    assert "@keyframes f1{0%{visibility:hidden}25.00%{visibility:visible}100.00%{visibility:hidden}}" in style.text
    assert "prefers-reduced-motion:reduce){g{animation:none!important}#f1{visibility:visible}}" in style.text


def test_frames_are_spread_over_the_time() -> None:
    found = [(0.0, " \n"), (1.0, "a"), (2.0, "b"), (50.0, "c"), (100.0, "last")]
    assert choose_frames(found, 4) == ["b", "c"]


def test_times_of_the_shell_are_understood() -> None:
    assert [parse_time(text) for text in ("0m0.00s", "1m2.5s", "12m34.560s")] == [0.0, 62.5, 754.56]


def test_the_picture_in_the_readme_loads_nothing_and_fits() -> None:
    text = PICTURE.read_text("utf-8")
    drawn = ElementTree.fromstring(text)
    addresses = re.findall(r"[a-z]+://[^\"'<\s]+", text)
    assert set(addresses) == {"http://www.w3.org/2000/svg"} and not re.search(r"<script|@import|url\(|href", text)
    assert len(text) < 250_000 and len(drawn.findall(f"{SVG}g")) >= 3
    assert all(len(line) <= COLUMNS for frame in drawn.findall(f"{SVG}g") for line in read_texts(frame))


def test_the_commands_in_the_picture_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    for verb in main.cli.commands.values():
        monkeypatch.setattr(verb, "callback", lambda **_: 0)
    commands = [one.text or "" for one in ElementTree.parse(PICTURE).iter(f"{SVG}desc")]
    words = [shlex.split(command) for command in commands]
    assert [one[:3:2] for one in words] == [["$", "train"], ["$", "write"]]
    assert all(main.run(one[2:]) == 0 for one in words)
