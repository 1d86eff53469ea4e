"""Watch a training from Python: `python examples/watch_training.py novel.txt` prints each evaluation and its sample."""

import sys
from typing import Any

import epigone
from epigone.training.events import Evaluated, Event, Sampled


def show(event: Event) -> None:
    """One line for an evaluation, and the first line of the first sample."""
    if isinstance(event, Evaluated):
        print(f"epoch {event.epoch:.2f}: {event.bits_per_byte:.3f} bits a byte{' (best so far)' if event.best else ''}")
    elif isinstance(event, Sampled) and event.samples:
        print("   ", event.samples[0].text.strip().partition("\n")[0])


def main(text: str = "sample:sonnets", **settings: Any) -> epigone.Run:
    """Train with `settings`, and show what happens as it happens."""
    return epigone.train(text, on_event=show, **settings)


if __name__ == "__main__":
    main(*sys.argv[1:2], minutes=1)
