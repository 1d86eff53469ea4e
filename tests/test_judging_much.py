"""A gigabyte of text is searched for copies, and judged by, in less than two gigabytes of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import epigone
from helpers_tokens import DATA, NOVELS, needs_data

MUCH = """
import json, random, resource, sys, time
from pathlib import Path
from epigone.evaluation.copying import find_copied
texts = [Path(name).read_text("utf-8").encode("ascii", "ignore").decode() for name in sys.argv[2:]]
chance, documents, n_left = random.Random(0), [], int(sys.argv[1])
while n_left > 0:
    text = chance.choice(texts)
    start, size = chance.randrange(len(text)), chance.randint(10_000, 1_000_000)
    documents.append(text[start : start + size])
    n_left -= len(documents[-1])
copied = documents[len(documents) // 2][1_000:3_000]
judged = "".join(chance.choices("qxzvjkw ", k=48_000)) + "#" + copied.upper() + "#"
start = time.monotonic()
found = find_copied(judged, documents)
print(json.dumps({
    "seconds": time.monotonic() - start,
    "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    "n_characters": sum(map(len, documents)),
    "share": found.share,
    "longest": found.longest.original.split() == copied.split(),
}))
"""


@pytest.mark.slow
@needs_data
def test_a_gigabyte_is_read_in_minutes_and_less_than_two_gigabytes() -> None:
    names = [DATA / "tinyshakespeare.txt", *(DATA / "gutenberg" / f"{name}.txt" for name in NOVELS)]
    done = subprocess.run(
        [sys.executable, "-c", MUCH, "1000000000", *map(str, names)],
        env=os.environ | {"PYTHONPATH": str(Path(epigone.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    print(found)
    assert found["n_characters"] >= 1e9 and found["longest"] and found["share"] == pytest.approx(0.04, abs=0.005)
    assert found["gigabytes"] < 2
    assert found["seconds"] < 600


MUCH_CURLY = """
import json, random, sys, threading, time
from pathlib import Path
from epigone.evaluation.judge import judge_text
from epigone.cli.judge import JudgeSettings, _read_author
texts = [Path(name).read_text("utf-8").replace("'", "\u2019") for name in sys.argv[3:]]
texts = [text[len(text) // 20 : -len(text) // 20] for text in texts]  # without the notes of who made the file
chance, n_left, copied = random.Random(0), int(sys.argv[1]), ""
with open(sys.argv[2], "w", encoding="utf-8") as file:
    while n_left > 0:
        text = chance.choice(texts)
        start, size = chance.randrange(len(text)), chance.randint(10_000, 1_000_000)
        n_left -= file.write(text[start : start + size])
        if not copied and n_left < int(sys.argv[1]) // 2:
            copied = "".join(map(chr, chance.choices(range(0x4E00, 0x9000), k=2_000)))
            file.write(copied)
def measure():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e6
most, done, start = [measure()], threading.Event(), time.monotonic()
def watch():
    while not done.wait(0.02):
        most.append(measure())
threading.Thread(target=watch, daemon=True).start()
author = _read_author(JudgeSettings(author=(sys.argv[2],)))
del texts, text
judged = "".join(chance.choices("qxzvjkw ", k=48_000)) + "#" + copied + "#"
found = judge_text(judged, "judged", author).as_json()["copies"]
done.set()
print(json.dumps({
    "seconds": time.monotonic() - start,
    "gigabytes": max(most),
    "n_characters": sum(map(len, author.searched)),
    "share": found["share"],
    "longest": found["longest_characters"],
}))
"""


def judge_beside_curly(n_characters: int, folder: Path) -> dict[str, float]:
    """What comes of a text, 2,000 letters of which stand in a file of so many characters with curly quotes."""
    names = [DATA / "tinyshakespeare.txt", *(DATA / "gutenberg" / f"{name}.txt" for name in NOVELS)]
    done = subprocess.run(
        [sys.executable, "-c", MUCH_CURLY, str(n_characters), str(folder / "much.txt"), *map(str, names)],
        env=os.environ | {"PYTHONPATH": str(Path(epigone.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    print(found)
    return found


@pytest.mark.slow
@needs_data
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_a_gigabyte_with_curly_quotes_is_judged_in_less_than_two_gigabytes(tmp_path: Path) -> None:
    """Held whole, it would take two before anything is searched."""
    found = judge_beside_curly(int(os.environ.get("EPIGONE_CURLY_CHARACTERS", "1_000_000_000")), tmp_path)
    assert found["longest"] == 2_000 and found["share"] == pytest.approx(0.04, abs=0.005)
    assert found["gigabytes"] < 2
