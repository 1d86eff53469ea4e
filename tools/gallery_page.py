"""docs/gallery.md and the parts of README.md that show results, from what tools/gallery.py measured."""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "gallery.json"
README = ROOT / "README.md"
WIDTH = 72
"""Letters in a line of a sample."""
PROMPT_SHOWN = 60
"""Letters of the prompt in README.md."""
SHOWN = "novel"
"""The entry whose samples README.md shows."""
GRADES = {"good": "yes", "fair": "in part", "unsure": "cannot tell", "bad": "no"}
TITLES = {
    "base": "The base `{base}`, before training",
    "tuned": "After training",
    "best": "After training, the best of eight tries by the program's own choice",
    "author": "The author",
}
Entry = Mapping[str, Any]

HEAD = """\
# Gallery

Different kinds of text, each trained on by the command with nothing set, as anyone would: `epigone train TEXT`. Nothing
here is picked by hand. The passage is the first one that seed 0 draws from the part of the text that was held out; the
words before it are the prompt; the untouched base and the trained model each continue it once, with seed 0 and default
settings, and once more the trained model with `--best-of 8`, where the program itself keeps the best."""
TABLE_NOTE = """\
Words are those that were learned from, nine tenths of the text. Bits a byte are measured on the tenth that was held
out; lower is better, and a percentage is how much lower the trained model's are than those of the base that it started
from. Time is that of the processor, from the command to the end: two idle cores need little more than half of it.
"Copies" is the longest passage in 30,000 characters that stands in the training text."""


def write_gallery() -> str:
    """The whole page."""
    record = read_record()
    lines = [HEAD, "", *describe_machine(record), "", *draw_table(record), "", TABLE_NOTE]
    for name, entry in record["entries"].items():
        lines += ["", *draw_entry(name, entry)]
    return "\n".join(lines) + "\n"


def read_record() -> dict[str, Any]:
    """What tools/gallery.py wrote."""
    record: dict[str, Any] = json.loads(RECORD.read_text("utf-8"))
    return record


def describe_machine(record: Mapping[str, Any]) -> Iterator[str]:
    """When and on what it was made, and how to make it again."""
    made = record["made"]
    bf16 = "bf16" if made["bf16"] else "no bf16"
    yield (
        f"Made on {made['date']} with epigone {made['epigone']} and torch {made['torch']}, {made['threads']} thread(s) "
        f"of {_name(made['processor'])}, {bf16}. `python tools/gallery.py` makes all of it again."
    )


def _name(processor: str) -> str:
    return f"an {processor}" if processor[:1] in "AEIOU" else f"a {processor}"


def draw_table(record: Mapping[str, Any]) -> Iterator[str]:
    """One row for each text: how much, how long, what came of it."""
    yield "| text | words | time | starts from | bits a byte | sounds like the author | copies, at most |"
    yield "| --- | ---: | ---: | --- | --- | --- | --- |"
    for name, entry in record["entries"].items():
        cells = [f"[{entry['kind'].lower()}](#{name})", f"{entry['n_words']:,}", format_time(entry)]
        cells += [_start(entry), _bits(entry), _style(entry), _copies(entry)]
        yield "| " + " | ".join(cells) + " |"


def format_time(entry: Entry) -> str:
    """Processor time in words."""
    seconds = entry["seconds"]["processor"]
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _start(entry: Entry) -> str:
    return "nothing: a new model" if entry["base"] == "none" else f"`{entry['base']}`"


def _bits(entry: Entry) -> str:
    before, after = entry["bits_before"], entry["bits_after"]
    return (
        f"{after:.2f}" if before is None else f"{before:.2f} → {after:.2f} ({100 * (after / before - 1):+.0f}&nbsp;%)"
    )


def _style(entry: Entry) -> str:
    return GRADES[entry["judgement"]["sounds_like"]["grade"]]


def _copies(entry: Entry) -> str:
    return f"{entry['judgement']['copies']['longest_characters']:,} characters"


def draw_entry(name: str, entry: Entry) -> Iterator[str]:
    """The samples of one text under its heading, and what the judge says."""
    yield from (f'<a id="{name}"></a>', "", f"## {entry['kind']}", "")
    flags = "".join(f" {flag}" for flag in entry["flags"])
    yield f"{entry['title']} ({entry['source']}). {entry['epochs']:g} passes; `epigone train TEXT{flags}`."
    samples = entry["samples"]
    yield from ("", "The prompt:", "", *_fence(entry["prompt"]))
    for key, title in TITLES.items():
        if key in samples:
            yield from ("", f"{title.format(**entry)}:", "", *_fence(samples[key]))
    yield from ("", "The judge:", "")
    for topic in ("sounds_like", "makes_sense", "copies", "repeats", "learned"):
        if verdict := entry["judgement"].get(topic):
            yield f"- {topic.replace('_', ' ').capitalize()} [{verdict['grade']}]: {verdict['sentence']}"


def _fence(text: str) -> Iterator[str]:
    yield "```text"
    for line in text.strip().splitlines():
        yield from textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False) or [""]
    yield "```"


# -- README.md


def fill_readme() -> str:
    """README.md with its marked parts written again."""
    record, text = read_record(), README.read_text("utf-8")
    parts = {"samples": draw_samples(record["entries"][SHOWN]), "results": draw_table(record)}
    for name, lines in parts.items():
        pattern = re.compile(rf"(<!-- {name}: .*? -->\n)(.*?)(<!-- end of {name} -->)", re.DOTALL)
        body = "\n".join(line.replace("](#", "](docs/gallery.md#") for line in lines)
        text, n_found = pattern.subn(lambda found, body=body: f"{found[1]}{body}\n{found[3]}", text)  # type: ignore[misc]
        if n_found != 1:
            raise SystemExit(f"README.md needs one part {name}, between <!-- {name}: … --> and <!-- end of {name} -->")
    return text


def draw_samples(entry: Entry) -> Iterator[str]:
    """The same prompt continued three times, side by side."""
    samples = entry["samples"]
    yield f"| before: the base `{entry['base']}` | after {format_time(entry)} of training | the author |"
    yield "| --- | --- | --- |"
    prompt = _cell(entry["prompt"])
    prompt = prompt if len(prompt) <= PROMPT_SHOWN else f"… {prompt[-PROMPT_SHOWN:].partition(' ')[2]}"
    cells = [f"*{prompt}* {_cell(samples[key])}" for key in ("base", "best", "author")]
    yield "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    """A text in a cell of a table, whatever marks are in it."""
    safe = re.sub(r"([*_`\[\]|\\])", r"\\\1", html.escape(text.strip(), quote=False))
    return re.sub(r"\n\n+", "<br>", safe).replace("\n", " ")
