"""The gallery: trains on several kinds of text with nothing set, and keeps samples and figures for docs/gallery.md.

    python tools/gallery.py                      all texts that are there; then: make docs
    python tools/gallery.py novel chat           only these
    python tools/gallery.py --data FOLDER        where the texts are (default: ../shared/data)

A run that is finished in build/gallery is not trained and judged again, but with --again. What was measured is
in docs/gallery.json, from which tools/docs.py writes the page and the tables of README.md. Nothing in it is picked by
hand: the passage is the first one that the seed draws from the held-out text, and the program chooses the best text.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from epigone import __version__
from epigone.corpus.words import SPACED_WORD
from epigone.evaluation.quiz import choose_author_passages, list_starts
from epigone.files import write_json
from epigone.hardware import find_hardware
from epigone.run import Run, open_generator, open_run
from epigone.settings import WriteSettings

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "gallery.json"
RUNS = ROOT / "build" / "gallery"
N_WORDS = 60
"""Words of each sample: a short quotation, where it is the author's."""
PROMPT_CHARACTERS = 200
"""The most of the held-out text that is given as a prompt."""
BEST_OF = 8
"""Candidates, of which the program itself keeps one."""
JUDGED_CHARACTERS = 30_000
KEPT = ("grade", "sentence", "longest_characters")
SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A text of the gallery and where it is from."""

    kind: str
    title: str
    text: str
    """A path in the folder of texts, or sample:sonnets."""
    source: str
    """Author, licence, and where the text can be had."""
    flags: tuple[str, ...] = ()


ENTRIES = {
    "novel": Entry(
        kind="A novel",
        title="Edith Nesbit, *The Railway Children*",
        text="unseen/nesbit-novel.txt",
        source="public domain; Project Gutenberg",
    ),
    "play": Entry(
        kind="A play",
        title="Henrik Ibsen, *Hedda Gabler*, translated by Edmund Gosse and William Archer",
        text="unseen/ibsen-drama.txt",
        source="public domain; Project Gutenberg",
    ),
    "poems": Entry(
        kind="Poems",
        title="William Shakespeare, *Sonnets*",
        text="sample:sonnets",
        source="public domain; included in epigone",
    ),
    "blog": Entry(
        kind="A blog",
        title="Andrew Gallant's blog about programs, 18 posts in Markdown",
        text="bring_dev/blog_burntsushi",
        source="MIT or Unlicense; BurntSushi/blog on GitHub",
    ),
    "chat": Entry(
        kind="A chat",
        title="A day and a half of an IRC channel about Rust, with 253 speakers, names hidden",
        text="bring_dev/irc_rust.txt",
        source="CC-BY 4.0; Jonathan K. Kummerfeld et al., jkkummerfeld/irc-disentanglement on GitHub",
        flags=("--anonymize",),
    ),
    "code": Entry(
        kind="Code",
        title="A part of NASA's Open MCT, 62 files of JavaScript",
        text="bring_dev/code_openmct/**/*.js",
        source="Apache 2.0; nasa/openmct on GitHub",
    ),
    "french": Entry(
        kind="A French novel",
        title="Octave Mirbeau, *La Maréchale*",
        text="bring_dev/french_mirbeau.txt",
        source="public domain; COST-ELTeC/ELTeC-fra on GitHub",
    ),
}


def main() -> int:
    """Make the entries that are named, one after another; keep each as soon as it is made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(ENTRIES)}; all without any")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the texts")
    parser.add_argument("--again", action="store_true", help="train again what is finished")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(ENTRIES)):
        parser.error(f"there is no {unknown[0]}")
    for name in asked.names or ENTRIES:
        entry = ENTRIES[name]
        text = entry.text if entry.text.startswith("sample:") else str(asked.data / entry.text)
        if not (text == entry.text or list(asked.data.glob(entry.text))):
            print(f"{name}: {text} is not there; skipped", flush=True)
            continue
        seconds = train(name, text, entry.flags, again=asked.again)
        keep(name, entry, measure(open_run(RUNS / name), seconds))
        print(f"{name}: done", flush=True)
    print("Now: make docs")
    return 0


def train(name: str, text: str, flags: Sequence[str], *, again: bool) -> dict[str, float]:
    """A run of the command with nothing set but these flags, unless there is one; the seconds that it took."""
    out, times = RUNS / name, RUNS / f"{name}.json"
    if again:
        shutil.rmtree(out, ignore_errors=True)
        times.unlink(missing_ok=True)
    if not times.exists():
        shutil.rmtree(out, ignore_errors=True)  # one that was not finished
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [sys.executable, "-m", "epigone", "train", text, "--out", str(out), *flags, "--quiet"]
        subprocess.run(command, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        write_json(times, {"processor": computed, "clock": time.monotonic() - began})
    seconds: dict[str, float] = json.loads(times.read_text("utf-8"))
    return seconds


def measure(run: Run, seconds: dict[str, float]) -> dict[str, Any]:
    """Figures and samples of a finished run, as plain values."""
    receipt, facts, best = run.folder.read_receipt(), run.folder.read_model_facts(), run.best
    if best is None:
        raise SystemExit(f"{run.path} was never evaluated")
    first = run.evaluations[0]
    prompt, own = choose_passage(run)
    how = WriteSettings(length=N_WORDS, unit="words", seed=SEED)
    asked = how.model_dump(exclude_defaults=True)
    samples = {"tuned": run.write(prompt, **asked)[0], "best": run.write(prompt, best_of=BEST_OF, **asked)[0]}
    samples["author"] = own
    if facts.base != "none":
        samples["base"] = open_generator(facts.base, how).write(prompt, how)[0]
    return {
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "n_characters": receipt.n_characters,
        "n_words": sum(len(SPACED_WORD.findall(str(text))) for text in run.folder.read_documents()),
        "base": facts.base,
        "epochs": round(run.evaluations[-1].epoch, 2),
        "bits_before": round(first.bits_per_byte, 3) if first.step == 0 and facts.base != "none" else None,
        "bits_after": round(best.bits_per_byte, 3),
        "temperature": run.open_generator(how).defaults.temperature,
        "prompt": prompt,
        "samples": samples,
        "judgement": trim(judge(run)),
    }


def judge(run: Run) -> dict[str, Any]:
    """The thorough judgement of a run: the one that it has, or a new one."""
    known = run.judgement
    return run.judge(JUDGED_CHARACTERS, seed=SEED).as_json() if known is None or known.get("quick") else known


def trim(judgement: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a judgement."""
    topics = {name: found for name, found in judgement.items() if isinstance(found, dict)}
    return {name: {key: found[key] for key in KEPT if key in found} for name, found in topics.items()}


def choose_passage(run: Run) -> tuple[str, str]:
    """The first held-out passage that the seed draws and that has words before it, and those words."""
    held_out = [str(text) for text in run.folder.read_held_out()]
    spans = choose_author_passages(held_out, run.folder.read_documents(), 8, N_WORDS, random.Random(SEED))
    for span in spans:
        text = held_out[span.document]
        starts = [start for start in list_starts(text) if span.start - PROMPT_CHARACTERS <= start < span.start - 20]
        if starts:
            return text[starts[0] : span.start].rstrip(" "), text[span.start : span.end]
    raise SystemExit(f"{run.path} holds out too little text")


def keep(name: str, entry: Entry, found: dict[str, Any]) -> None:
    """Put an entry into the record, with what it was made on."""
    record = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {"entries": {}}
    about = {"kind": entry.kind, "title": entry.title, "source": entry.source, "flags": list(entry.flags)}
    record["entries"][name] = about | found
    record["entries"] = {key: record["entries"][key] for key in ENTRIES if key in record["entries"]}
    record["made"] = describe_machine()
    write_json(RECORD, record)


def describe_machine() -> dict[str, Any]:
    """The date, the versions and the machine."""
    hardware = find_hardware()
    return {
        "date": date.today().isoformat(),
        "epigone": __version__,
        "torch": version("torch"),
        "processor": _name_processor(),
        "bf16": hardware.bf16,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
    }


def _name_processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
