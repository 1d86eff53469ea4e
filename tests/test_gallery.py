"""The gallery shows what was measured, in short quotations, with passages that were drawn and not picked."""

from __future__ import annotations

from typing import Any

import gallery
from epigone.evaluation.quiz import count_words
from gallery_page import (
    _cell,
    draw_entry,
    draw_samples,
    draw_table,
    fill_readme,
    format_time,
    read_record,
    write_gallery,
)
from helpers_front import shared_run

ENTRY: dict[str, Any] = {
    "kind": "A novel",
    "title": "A. Author, *A Book*",
    "source": "public domain",
    "flags": ["--anonymize"],
    "seconds": {"processor": 84.2, "clock": 300.0},
    "n_words": 53400,
    "base": "small",
    "epochs": 3.0,
    "bits_before": 2.0,
    "bits_after": 1.5,
    "prompt": "He said so. And then she",
    "samples": {"base": "one\ntwo", "tuned": "three", "best": "a | b *c* <d>", "author": "four\n\nfive"},
    "judgement": {
        "sounds_like": {"grade": "fair", "sentence": "In part."},
        "copies": {"grade": "good", "sentence": "No.", "longest_characters": 33},
    },
}


def test_the_passage_is_held_out_text_and_the_prompt_stands_before_it() -> None:
    run = shared_run()
    prompt, own = gallery.choose_passage(run)
    held_out = "".join(str(text) for text in run.folder.read_held_out())
    assert 20 <= len(prompt) <= gallery.PROMPT_CHARACTERS and 40 <= count_words(own) <= 80
    before = held_out[: held_out.index(own)]
    assert before.rstrip(" ").endswith(prompt)
    assert gallery.choose_passage(run) == (prompt, own)


def test_figures_and_samples_are_shown_as_they_are() -> None:
    row = list(draw_table({"entries": {"novel": ENTRY}}))[-1]
    assert row == "| [a novel](#novel) | 53,400 | 84 s | `small` | 2.00 → 1.50 (-25&nbsp;%) | in part | 33 characters |"
    page = "\n".join(draw_entry("novel", ENTRY))
    for shown in ("A. Author", "`epigone train TEXT --anonymize`", "one\ntwo", "a | b *c* <d>", "- Copies [good]: No."):
        assert shown in page
    assert page.index("one\ntwo") < page.index("three") < page.index("a | b") < page.index("four")


def test_a_new_model_has_no_base_to_be_compared_with() -> None:
    new = ENTRY | {"base": "none", "bits_before": None, "samples": {"tuned": "x", "best": "y", "author": "z"}}
    assert "| nothing: a new model | 1.50 |" in list(draw_table({"entries": {"code": new}}))[-1]
    assert "before training" not in "\n".join(draw_entry("code", new))


def test_marks_of_a_text_do_not_change_a_table() -> None:
    assert _cell("a | b *c* <d>\ne\n\nf") == "a \\| b \\*c\\* &lt;d&gt; e<br>f"
    row = list(draw_samples(ENTRY))[-1]
    assert row.count(" | ") == 2 and "three" not in row and "*He said so. And then she* one two" in row


def test_times_are_in_seconds_or_minutes() -> None:
    assert format_time(ENTRY) == "84 s"
    assert format_time({"seconds": {"processor": 150.0}}) == "2.5 min"


def test_what_is_quoted_is_short() -> None:
    for name, entry in read_record()["entries"].items():
        assert count_words(entry["samples"]["author"]) <= 1.3 * gallery.N_WORDS, name
        assert len(entry["prompt"]) <= gallery.PROMPT_CHARACTERS, name
        assert {"title", "source"} <= set(entry), name


def test_the_readme_shows_what_the_gallery_measured() -> None:
    readme, record = fill_readme(), read_record()
    for line in [*draw_table(record), *draw_samples(record["entries"]["novel"])]:
        assert line.replace("](#", "](docs/gallery.md#") in readme
    assert all(f"## {entry['kind']}" in write_gallery() for entry in record["entries"].values())
