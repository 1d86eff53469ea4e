"""Train on a text and write: `python examples/train_and_write.py novel.txt`, or without a text on the sonnets."""

import sys
from typing import Any

import epigone


def main(text: str = "sample:sonnets", prompt: str = "Shall I", **settings: Any) -> epigone.Run:
    """Train with nothing set but `settings`, and print what was learned and three short texts."""
    run = epigone.train(text, **settings)
    before, after = run.evaluations[0], run.best or run.evaluations[-1]
    print(f"Held-out text: {before.bits_per_byte:.2f} bits a byte before, {after.bits_per_byte:.2f} after.")
    for written in run.write(prompt, length=60, count=3, seed=1):
        print(f"\n{prompt}{written}")
    print(f"\nThe model is in {run.path / 'model'}.")
    return run


if __name__ == "__main__":
    main(*sys.argv[1:3], minutes=1)
