"""Compares epigone with other projects' training recipes on one text in about the same time.

Each is a process of its own, timed and weighed from outside.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from epigone.corpus.corpus import read_corpus
from epigone.run import open_run

SECONDS_TO_START = 8.0
"""What a process takes besides learning, roughly."""
SECONDS_BETWEEN_LOOKS = 0.02
RECIPES = (
    "Whole processes one after another, start and reading included, each on the first nine tenths of the text and",
    "tested on all of the last tenth; what they are is in `tools/peers.py`. nanoGPT's recipe has a fixed length, and",
    "the others get about the time that it took. epigone is told that, `--split tail` and `--base none`, no more.",
)


def compare_recipes(text: Path | None) -> list[str]:
    """What each recipe makes of a text in about the same time."""
    with tempfile.TemporaryDirectory() as folder:
        if text is None:
            text = Path(folder, "sonnets.txt")
            text.write_text(read_sonnets(), "utf-8", newline="\n")
        peers, run = str(Path(__file__).with_name("peers.py")), Path(folder, "run")
        found, seconds, _ = run_whole([peers, "nanogpt", str(text)])
        rows = [_show_recipe("nanoGPT, for a processor", json.loads(found.splitlines()[-1]), seconds)]
        given = seconds - SECONDS_TO_START
        found, took, _ = run_whole([peers, "trainer", str(text), "--seconds", str(given)])
        rows.append(_show_recipe("transformers, run_clm.py", json.loads(found.splitlines()[-1]), took))
        asked = ["--split", "tail", "--minutes", f"{given / 60:.3f}", "--samples", "0", "--out", str(run)]
        _, took, _ = run_whole(["-m", "epigone", "train", str(text), "--base", "none", *asked])
        rows.append(_show_recipe("epigone", read_result(run), took))
        size = text.stat().st_size
    lines = ["", f"## The text learned in the same time, {text.name}, {size:,} bytes", "", *RECIPES, ""]
    lines += ["| recipe | seconds | nats a character | bits a byte |", "| --- | --- | --- | --- |"]
    return lines + rows


def _show_recipe(name: str, found: dict[str, float], seconds: float) -> str:
    numbers = f"{found['nats_per_character']:.3f} | {found['bits_per_byte']:.3f}"
    return f"| {name} | {seconds:.0f} | {numbers} |"


def read_result(run: Path) -> dict[str, float]:
    """A run's best held-out loss in the units of all recipes."""
    best, part = open_run(run).best, json.loads((run / "receipt.json").read_text("utf-8"))["validation"]
    if best is None:
        raise RuntimeError(f"{run} was never evaluated")
    return {
        "nats_per_character": best.loss * best.n_tokens / part["n_characters"],
        "bits_per_byte": best.bits_per_byte,
    }


def run_whole(arguments: list[str]) -> tuple[str, float, int]:
    """Run Python with arguments: what it printed, the seconds it took and the most bytes of memory it held.

    The kernel's own peak for a child would be its parent's if that was larger, so the memory is looked at meanwhile.
    """
    began, peak = time.monotonic(), 0
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as printed,
        subprocess.Popen([sys.executable, *arguments], stdout=printed, text=True) as process,
    ):
        while process.poll() is None:
            with suppress(psutil.Error):
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        printed.seek(0)
        if process.returncode:
            raise RuntimeError(f"{arguments} ended with {process.returncode}")
        return printed.read(), time.monotonic() - began, peak


def read_sonnets() -> str:
    """The text that comes with epigone."""
    return str(read_corpus(["sample:sonnets"]).documents[0].text)
