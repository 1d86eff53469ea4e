"""Measures how far the plan's choice is behind the best of random configurations, on texts in given minutes.

Each text is learned once with nothing set, and then with settings drawn at random, in the same time. What is far
behind the plan's own choice halfway is given up and counts as worse.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trials import describe, run_all

CHOICES: dict[str, tuple[Any, ...]] = {
    "size": ("2x64", "2x128", "4x128", "2x192", "4x192", "2x256", "4x256", "6x256"),
    "vocab_size": (320, 512, 1024, 2048),
    "block_size": (64, 128, 256),
    "tokens_per_step": (1024, 2048, 4096),
    "dropout": (0.0, 0.05, 0.1, 0.2),
    "learning_rate": (0.003, 0.006, 0.01, 0.02),
    "weight_decay": (0.0, 0.1, 0.3),
}
FACTOR = 1.08
"""A configuration that is worse by more halfway is given up."""


def main() -> None:
    """Try, append what comes of each trial to a file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--count", type=int, default=8, help="random configurations for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", choices=("auto", "fp32"), default="auto", help="fp32: as on processors without bf16"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, required=True)
    asked = parser.parse_args()
    how = {"precision": "fp32", "compile": "off"} if asked.precision == "fp32" else {}
    places = [{"text": text, "minutes": minutes, **how} for minutes in asked.minutes for text in asked.texts]
    results = [*_run(iter(places), asked)]
    results += _run(draw_trials(results, asked.count, random.Random(asked.seed)), asked)
    print("\n".join(show(results)))


def _run(trials: Iterator[dict[str, Any]], asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for result in run_all(trials, asked.workers):
        with asked.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(describe(result), flush=True)
        yield result


def draw(source: random.Random) -> dict[str, Any]:
    """One random configuration."""
    chosen = {name: source.choice(values) for name, values in CHOICES.items()}
    return chosen | {"batch_size": max(1, chosen.pop("tokens_per_step") // chosen["block_size"])}


def draw_trials(own: list[dict[str, Any]], n_each: int, source: random.Random) -> Iterator[dict[str, Any]]:
    """`n_each` random configurations beside each of the plan's own trials, the quick ones first."""
    for result in sorted(own, key=lambda one: (one["minutes"], one["text"])):
        place = {key: result[key] for key in ("text", "minutes", "precision", "compile") if key in result}
        for _ in range(n_each):
            yield place | draw(source) | {"note": "random", "behind": [result["halfway"], FACTOR]}


def show(results: list[dict[str, Any]]) -> list[str]:
    """A table: for each text and time the plan's bits per byte, the best random ones, and the regret."""
    lines = ["| text | minutes | plan's own | best random | regret | given up halfway | the best random one |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for own in (one for one in results if one["note"] != "random"):
        place = (own["text"], own["minutes"])
        others = [one for one in results if one["note"] == "random" and (one["text"], one["minutes"]) == place]
        best = min((one for one in others if not one["given_up"]), key=lambda one: one["bits_per_byte"], default=own)
        regret = own["bits_per_byte"] / min(own["bits_per_byte"], best["bits_per_byte"]) - 1
        numbers = f"{own['bits_per_byte']:.3f} | {best['bits_per_byte']:.3f} | {regret:.1%}"
        given_up = f"{sum(one['given_up'] for one in others)} of {len(others)}"
        name = Path(own["text"]).stem
        lines.append(f"| {name} | {own['minutes']:g} | {numbers} | {given_up} | {describe_settings(best)} |")
    return lines


def describe_settings(result: dict[str, Any]) -> str:
    """What was set, in one cell."""
    plan = result["plan"]
    learned = f"rate {plan['learning_rate']:g}, dropout {plan['dropout']:g}"
    batch = f"{plan['batch_size']}x{plan['block_size']}"
    return f"{result['shape']}, vocabulary {result['vocabulary_size']}, batch {batch}, {learned}"


if __name__ == "__main__":
    main()
