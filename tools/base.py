"""A library of books (a folder or an archive) in; the small base that comes with the package out.

It learns as any run does, with `epigone train`, in runs/base; called again it goes on there.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

from library import Book, open_library, read_books

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "runs" / "base"
BOOKS = ROOT / "build" / "base"
SEED = 1
N_HELD_OUT = 12
SIZES_HELD_OUT = (60_000, 180_000)
"""Characters of a book that is held out: long enough to say something, short enough to be tested on often."""
MOST_SHARED = 0.01
"""Of a book that is held out, in others."""
ASKED = """
--base none --size 6x256 --vocabulary 4096 --block-size 256 --batch-size 16 --learning-rate 0.006 --epochs 20
--patience none --compilation whole --sample-length 200
"""


def main() -> None:
    """Choose the books, learn from them or go on, and put the result into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="a folder of folders, or library.tar.xz")
    parser.add_argument("--minutes", type=float, default=120, help="of training in all, counted from the start")
    asked = parser.parse_args()
    if not (BOOKS / "chosen.json").exists():
        with open_library(asked.library) as library:
            lay_out(read_books(library))
    minutes = str(asked.minutes)
    if (RUN / "plan.json").exists():
        call("resume", str(RUN), "--minutes", minutes)
    else:
        texts = [str(BOOKS / "books"), "--validation", str(BOOKS / "held-out"), "--out", str(RUN)]
        call("train", *texts, *ASKED.split(), "--seed", str(SEED), "--minutes", minutes)


def call(*words: str) -> None:
    """Run the command. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "epigone", *words], check=True)


def lay_out(books: list[Book]) -> None:
    """Write the books to learn from and, from as many authors, those to test on."""
    held_out = choose_held_out(books)
    shutil.rmtree(BOOKS, ignore_errors=True)
    for book in books:
        path = BOOKS / ("held-out" if book.name in held_out else "books") / f"{book.name.replace('/', '-')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(book.text, "utf-8", newline="\n")
    facts = {"n_books": len(books), "n_characters": sum(len(book.text) for book in books), "held_out": held_out}
    (BOOKS / "chosen.json").write_text(json.dumps(facts, indent=2), "utf-8")


def choose_held_out(books: list[Book]) -> list[str]:
    """Books by different authors that others of the library share next to nothing with."""
    low, high = SIZES_HELD_OUT
    fit = [book.name for book in books if low <= len(book.text) <= high and book.shared <= MOST_SHARED]
    random.Random(SEED).shuffle(fit)
    by_author = {name.split("/")[0]: name for name in fit}
    return sorted(list(by_author.values())[:N_HELD_OUT])


if __name__ == "__main__":
    main()
