"""Step time of one process with two threads, and of two processes with one thread each, in turns, on two idle cores.

`python tools/step_time.py` takes about two minutes. All begin together and wait for their turn, so that a machine that
becomes slower or faster does so for all alike. All take the same steps: two processes divide the blocks of each.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import distributed

from bench import describe_machine, make_plan_and_tokens, make_step
from epigone.training.distributed import count_processes, join_processes

MODELS = ("2M", "5M")
TURN_SECONDS, N_TURNS = 1.0, 7
MOST_LOAD = 0.5
"""Of other programs; with more the figures say little."""
END_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Way:
    """How two cores are used."""

    name: str
    n_processes: int
    n_threads: int
    divided: bool = False


WAYS = (
    Way("1 process, 1 thread", 1, 1),
    Way("1 process, 2 threads", 1, 2),
    Way("2 processes, 1 thread each", 2, 1),
    Way("2 processes, 1 thread each, divided (`--shard on`)", 2, 1, divided=True),
)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--quick", action="store_true", help="two turns of one step, to see that it runs")
    parser.add_argument("--take", nargs=3, metavar=("MODEL", "THREADS", "DIVIDED"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.take:
        model, n_threads, divided = asked.take
        return take_turns(model, int(n_threads), divided=divided == "True")
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(describe_machine())
    if busy > MOST_LOAD:
        print(f"Other programs are running (load {busy:.1f}): these figures say little.")
    print("\n| model | how | step, ms | tokens/s | against 1 process, 2 threads | slowest to fastest turn, ms |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for model in asked.models:
        for row in measure(model, quick=asked.quick):
            print(row, flush=True)
    return None


def measure(model: str, *, quick: bool) -> Iterator[str]:
    """Rows of the table."""
    plan, _ = make_plan_and_tokens(model)
    with _started(model) as groups:
        for group in groups:
            group.take(1)
        n_steps = [1 if quick else max(1, round(TURN_SECONDS / group.take(1))) for group in groups]
        seconds: list[list[float]] = [[] for _ in groups]
        for _ in range(2 if quick else N_TURNS):
            for group, n, found in zip(groups, n_steps, seconds, strict=True):
                found.append(group.take(n) / n)
    medians = list(map(statistics.median, seconds))
    usual = medians[WAYS.index(next(way for way in WAYS if way.n_threads == 2))]
    for way, median, found in zip(WAYS, medians, seconds, strict=True):
        rate = plan.batch.tokens_per_step / median
        spread = f"{1000 * max(found):.0f} to {1000 * min(found):.0f}"
        yield f"| {model} | {way.name} | {1000 * median:.1f} | {rate:,.0f} | {usual / median:.2f} | {spread} |"


class Group:
    """The processes of one way, which wait for their turn."""

    def __init__(self, model: str, way: Way) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {**os.environ, "OMP_NUM_THREADS": str(way.n_threads)}
        if way.n_processes > 1:
            common |= {"WORLD_SIZE": str(way.n_processes), "LOCAL_WORLD_SIZE": str(way.n_processes)}
            common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, __file__, "--take", model, str(way.n_threads), str(way.divided)]
        self.processes = [
            subprocess.Popen(
                command,
                env=common | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if way.n_processes > 1 else {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(way.n_processes)
        ]

    def take(self, n_steps: int) -> float:
        """Seconds of so many steps, by the first process."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{n_steps}\n")
            process.stdin.flush()
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            answers.append(process.stdout.readline())
        if not all(answers):
            raise SystemExit("One of the processes has ended: what it said stands above.")
        return float(answers[0])

    def end(self) -> None:
        """Let them end."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _started(model: str) -> Iterator[Sequence[Group]]:
    groups = [Group(model, way) for way in WAYS]
    try:
        yield groups
    finally:
        for group in groups:
            group.end()


def take_turns(model: str, n_threads: int, *, divided: bool) -> None:
    """One process: as many steps as each line of standard input says, and how long they took."""
    with join_processes():
        plan, tokens = make_plan_and_tokens(model)
        batch = replace(plan.batch, n_processes=count_processes())
        compute = replace(plan.compute, n_threads=n_threads, shards=divided, compile="off")
        step = make_step(replace(plan, batch=batch, compute=compute), tokens)
        if torch.get_num_threads() != n_threads:
            raise SystemExit(f"{torch.get_num_threads()} threads, not {n_threads}")
        for line in sys.stdin:
            _meet()
            began = time.perf_counter()
            for _ in range(int(line)):
                step()
            _meet()
            print(time.perf_counter() - began, flush=True)


def _meet() -> None:
    if count_processes() > 1:
        distributed.barrier()


if __name__ == "__main__":
    main()
