"""Many texts go to a file line by line, with what is known of each; a call that was stopped is gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epigone.generation.generator import TextGenerator
from epigone.settings import WriteSettings
from helpers_front import command, shared_run, sonnets

ASKED = ("--prompt", "Thou", "--length", "12", "--precision", "fp32", "--stop-at", "anywhere")


def write(out: Path, *more: str) -> Any:
    return command("write", shared_run().path, *ASKED, "--out", out, *more)


def read(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def test_each_text_has_a_line_with_what_is_known_of_it(tmp_path: Path) -> None:
    out = tmp_path / "texts.jsonl"
    assert write(out, "--count", "40").code == 0
    lines = read(out)
    assert [line["text"] for line in lines] == shared_run().write(
        "Thou", length=12, count=40, precision="fp32", stop_at="anywhere"
    )
    assert [line["seed"] for line in lines] == list(range(40))
    for line in lines:
        assert line["settings"]["length"] == 12 and line["n_tokens"] == 12 and line["prompt"] == "Thou"
        shared = line["longest_shared"]
        assert shared["passage"] in line["text"] and shared["original"] in sonnets(12_000)


def test_the_log_probability_is_that_of_the_model(tmp_path: Path) -> None:
    """A text that is tokenized into the tokens it was generated from has the score of these tokens."""
    run = shared_run()
    of_run = run.open_generator(WriteSettings(precision="fp32"))
    generator = TextGenerator(of_run.decoder, of_run.tokenizer)  # begins with the end of text, as a score does
    agreed = 0
    for record in generator.write_records("", WriteSettings(length=30, count=6, stop_at="document")):
        found = run.score(record.text)
        if found.n_tokens == record.n_tokens:
            assert record.log_probability == pytest.approx(-found.nats, rel=1e-3)
            agreed += 1
    assert agreed > 0


@pytest.mark.parametrize("torn", ["", '{"prompt": "Thou", "te', '{"prompt": "Thou", "text": "é'])
def test_what_was_stopped_is_gone_on_with(tmp_path: Path, torn: str) -> None:
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    write(whole, "--count", "5")
    lines = whole.read_text("utf-8").splitlines(keepends=True)
    stopped.write_bytes(("".join(lines[:2]) + torn).encode()[: None if torn.isascii() else -1])  # half an é
    assert write(stopped, "--count", "5").code == 0
    ours, theirs = read(stopped), read(whole)
    for line, other in zip(ours, theirs, strict=True):  # another number of texts at once rounds otherwise
        assert line.pop("log_probability") == pytest.approx(other.pop("log_probability"), rel=1e-5)
    assert ours == theirs


@pytest.mark.parametrize(
    "content",
    ["a poem\n", "a poem", "a poem\nof two lines", "[1, 2]\n", '{"prompt": "Other", "settings": {}, "seed": 0}\n'],
)
def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    out = tmp_path / "texts.jsonl"
    out.write_text(content, "utf-8")
    outcome = write(out)
    assert outcome.code == 2 and "Choose another name with --out" in outcome.err
    assert out.read_text("utf-8") == content


def test_a_first_line_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    out = tmp_path / "texts.jsonl"
    out.write_text('{"prompt": "Thou", "te', "utf-8")
    assert write(out, "--count", "2").code == 0 and len(read(out)) == 2


def test_texts_asked_for_otherwise_keep_even_a_line_that_was_cut_short(tmp_path: Path) -> None:
    out = tmp_path / "texts.jsonl"
    write(out, "--count", "2")
    torn = out.read_bytes()[:-10]
    out.write_bytes(torn)
    assert write(out, "--temperature", "1.5").code == 2
    assert out.read_bytes() == torn


def test_other_wishes_do_not_go_into_the_same_file(tmp_path: Path) -> None:
    out = tmp_path / "texts.jsonl"
    write(out, "--count", "2")
    outcome = write(out, "--count", "3", "--temperature", "1.5")
    assert outcome.code == 2 and "written with other settings" in outcome.err
    assert len(read(out)) == 2


def test_the_source_of_the_longest_copied_passage_is_shown() -> None:
    outcome = command("write", shared_run().path, *ASKED, "--show-source", "--count", "2", "--quiet")
    assert outcome.code == 0
    assert outcome.out.count("Longest passage shared with the training text") == 2
    assert "--- 2 of 2" in outcome.out and "line " in outcome.out
    refused = command("write", shared_run().folder.model, *ASKED, "--show-source")
    assert refused.code == 2 and "not known what this model has learned from" in refused.err


def test_json_on_the_screen_says_the_same() -> None:
    outcome = command("write", shared_run().path, *ASKED, "--count", "2", "--json")
    texts = json.loads(outcome.out)["texts"]
    assert all(text["longest_shared"]["n_characters"] > 0 and text["log_probability"] < 0 for text in texts)
