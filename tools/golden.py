"""Fingerprints of short runs and of texts, to show that a change of the code changes no number.

`python tools/golden.py FILE` records them in FILE, or compares with what FILE holds already. Each run is made by the
command itself, with a fixed number of steps, on one thread, in fp32. They are equal on one machine only: another
processor, or another version of torch, adds up in another order. Takes about a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "src" / "epigone" / "sample" / "sonnets.txt"
TIMES = ("seconds", "seconds_left", "tokens_per_second")
"""Fields of metrics.jsonl that differ from one run to the next."""
EVALUATIONS_BEFORE_KILL = 2
COMMON = ("--device", "cpu", "--precision", "fp32", "--seed", "7", "--samples", "1", "--sample-length", "30")
SCRATCH = ("--base", "none", "--size", "2x64", "--block-size", "32", "--dropout", "0.1")
N_TEXTS = 10


class Workshop:
    """A temporary folder with a text, a stand-in for GPT-2, and the runs that are made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = folder / "text.txt"
        self.text.write_text(SAMPLE.read_text("utf-8")[:20_000], "utf-8")
        sys.path.insert(0, str(ROOT / "tests"))
        from standin import make_standin  # type: ignore[import-not-found]

        self.standin = make_standin(folder / "gpt2", text=SAMPLE.read_text("utf-8")[20_000:50_000], steps=20)

    def train(self, name: str, *flags: str) -> Path:
        """Train on the text into a folder of this name."""
        self.call("train", str(self.text), "--out", str(self.folder / name), *COMMON, *flags)
        return self.folder / name

    def train_killed(self, name: str, *flags: str) -> Path:
        """The same, with the process killed after some evaluations, and resumed."""
        run = self.folder / name
        words = ("train", str(self.text), "--out", str(run), *COMMON, *flags)
        process = subprocess.Popen(self._command(*words), env=_environment(), stdout=subprocess.DEVNULL)
        while process.poll() is None and _count_evaluations(run) < EVALUATIONS_BEFORE_KILL:
            time.sleep(0.01)
        if process.poll() is not None:
            raise RuntimeError("the run ended before it could be killed; give it more epochs")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.call("resume", str(run))
        return run

    def write(self, run: Path) -> str:
        """Texts of a run, by fixed seeds."""
        flags = ("--length", "60", "--count", str(N_TEXTS), "--seed", "11", "--device", "cpu", "--precision", "fp32")
        return self.call("write", str(run), "--prompt", "Shall I", *flags)

    def call(self, *words: str) -> str:
        """What the command prints. Raises CalledProcessError."""
        done = subprocess.run(self._command(*words), env=_environment(), stdout=subprocess.PIPE, check=True)
        return done.stdout.decode()

    @staticmethod
    def _command(*words: str) -> list[str]:
        return [sys.executable, "-m", "epigone", *words, "--quiet"]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def _count_evaluations(run: Path) -> int:
    checkpoints = run / "checkpoints"
    metrics = run / "metrics.jsonl"
    if not (metrics.exists() and checkpoints.exists() and any(checkpoints.iterdir())):
        return 0
    return metrics.read_text("utf-8", errors="replace").count('"evaluated"')


def fingerprint_run(run: Path) -> dict[str, str]:
    """sha256 of the kept model and of the metrics without times."""
    lines = []
    for line in (run / "metrics.jsonl").read_text("utf-8").splitlines():
        values = json.loads(line)
        if values["event"] != "started":  # has the format's number; a run that was resumed has two of these
            lines.append(json.dumps({name: value for name, value in values.items() if name not in TIMES}))
    return {
        "model": _hash((run / "model" / "model.safetensors").read_bytes()),
        "metrics": _hash("\n".join(lines).encode()),
    }


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def take_fingerprints(workshop: Workshop) -> dict[str, object]:
    """Of five runs and of twenty texts."""
    gpt2 = str(workshop.standin)
    runs: dict[str, Callable[[], Path]] = {
        "scratch": lambda: workshop.train("scratch", *SCRATCH, "--epochs", "6"),
        "small": lambda: workshop.train("small", "--base", "small", "--epochs", "2"),
        "gpt2": lambda: workshop.train("gpt2-run", "--base", gpt2, "--optimizer", "adamw", "--epochs", "3"),
        "teacher": lambda: workshop.train("taught", "--teacher", str(workshop.folder / "scratch"), "--epochs", "4"),
        "killed": lambda: workshop.train_killed("killed", *SCRATCH, "--epochs", "6"),
    }
    found: dict[str, object] = {}
    for name, make in runs.items():
        found[name] = fingerprint_run(make())
        print(f"{name}: {found[name]}", flush=True)
    if found["killed"] != found["scratch"]:
        raise SystemExit("The run that was killed and resumed differs from the one that was not.")
    for name in ("scratch", "small"):
        found[f"texts of {name}"] = _hash(workshop.write(workshop.folder / name).encode())
    return found


def main() -> int:
    """Record, or compare and name what differs. 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where the fingerprints are, or are to be recorded")
    file: Path = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:
        found = take_fingerprints(Workshop(Path(folder)))
    if not file.exists():
        file.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        print(f"Recorded in {file}.")
        return 0
    before = json.loads(file.read_text("utf-8"))
    differing = [name for name in before if before[name] != found.get(name)]
    print("All equal." if not differing else f"Different: {', '.join(differing)}.")
    return int(bool(differing))


if __name__ == "__main__":
    raise SystemExit(main())
