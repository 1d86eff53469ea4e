"""A text that is larger than memory could hold is read, split, encoded and learned from in little memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Reliability
from helpers_front import environment, sonnets
from helpers_tokens import DATA

LIMIT_MIB = 1_500
SIZES_MB = [int(size) for size in os.environ.get("EPIGONE_STEADY_MB", "20,200").split(",")]
"""EPIGONE_STEADY_MB=20,200,2000 is the whole proof; it takes half an hour of two cores and 6 GB of room."""

WORK = """
import json, sys, time
from epigone.pipeline import run_training
from epigone.settings import TrainSettings

stages = {}
def watch(what, n_done, n_all):
    now = time.perf_counter(), time.process_time()
    first, _ = stages.setdefault(what, (now, now))
    stages[what] = first, now

settings = TrainSettings(base="none", size="pico", validation=0.001, epochs=float(sys.argv[3]), samples=1, device="cpu")
events = run_training([sys.argv[1]], settings, sys.argv[2], watch=watch)
planned = next(events)
n_steps = sum(type(event).__name__ == "StepReport" for event in events)
(read, _), (learn, _), (encode, end) = (stages[name] for name in ("Reading", "Training the tokenizer", "Encoding"))
spans = {"reading": (read, learn), "vocabulary": (learn, encode), "encoding": (encode, end)}
print(json.dumps({
    "seconds": {name: last[0] - first[0] for name, (first, last) in spans.items()},
    "cores": {name: (last[1] - first[1]) / (last[0] - first[0]) for name, (first, last) in spans.items()},
    "n_characters": planned.receipt.n_characters,
    "reason": planned.manifest.plan.reasons["vocab_size"],
    "n_steps": planned.manifest.plan.schedule.n_steps,
}))
"""


def mix_text(path: Path, size_mb: int) -> None:
    """Paragraphs of whatever books are at hand, drawn again and again in a new order."""
    files = sorted([*DATA.glob("gutenberg/*.txt"), *DATA.glob("unseen/*.txt")])
    books = [file.read_text("utf-8", "replace") for file in files] or [sonnets(100_000)]
    paragraphs = [paragraph for book in books for paragraph in book.replace("\r", "").split("\n\n")]
    paragraphs = [paragraph for paragraph in paragraphs if paragraph.strip() and "gutenberg" not in paragraph.lower()]
    source, n_bytes = random.Random(size_mb), 0
    with path.open("wb") as file:
        while n_bytes < size_mb * 1_000_000:
            n_bytes += file.write(("\n\n".join(source.choices(paragraphs, k=2_000)) + "\n\n").encode())


def list_family(pid: int) -> list[int]:
    """A process and all that came of it."""
    try:
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _read_children(task)]
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in list_family(child))]


def _read_children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def measure_anonymous_kib(pid: int) -> int:
    """RssAnon of a process and all that came of it."""
    total = 0
    for one in list_family(pid):
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return total


def work_on(text: Path, run: Path, epochs: float) -> tuple[dict[str, Any], float]:
    """What the work took, and the most memory in MiB that it had, seen from outside."""
    more = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
    arguments = [sys.executable, "-c", WORK, str(text), str(run), str(epochs)]
    peak = 0
    with subprocess.Popen(arguments, env=environment(**more), stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, measure_anonymous_kib(process.pid))
            time.sleep(0.05)
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    return found, peak / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_is_steady_and_time_grows_with_the_text(tmp_path: Path, reliability: Reliability) -> None:
    rates = []
    for size_mb in SIZES_MB:
        text = tmp_path / "text.txt"
        mix_text(text, size_mb)
        found, peak = work_on(text, tmp_path / f"run-{size_mb}", epochs=0.2 / size_mb)
        text.unlink()
        seconds = found["seconds"]
        rates.append((seconds["reading"] + seconds["encoding"]) / size_mb)
        cores = ", ".join(f"{name} {seconds[name]:.1f} s on {found['cores'][name]:.1f} cores" for name in seconds)
        print(f"{size_mb:,} MB: {cores}; {found['n_steps']} steps; RssAnon at most {peak:,.0f} MiB", flush=True)
        fault = f"{size_mb:,} MB of text read, encoded and learned from in less than {LIMIT_MIB:,} MiB"
        reliability("Memory", f"{fault} (it took {peak:,.0f})", tried=1, survived=int(peak < LIMIT_MIB))
        assert peak < LIMIT_MIB
        assert found["n_characters"] > 0.9 * size_mb * 1_000_000
        assert found["n_steps"] >= 5
        assert ("taken evenly" in found["reason"]) == (size_mb > 101)
    good = max(rates) < 2 * min(rates)
    listed = ", ".join(f"{rate:.2f} s" for rate in rates)
    fault = f"the time to read and encode a MB of these texts, within a factor of two: {listed}"
    reliability("Memory", fault, tried=len(rates), survived=len(rates) if good else 0)
    assert good
