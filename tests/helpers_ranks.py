"""Processes that train together, forked from one that has imported everything: the import takes longest."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from epigone.cli import main
from helpers_front import Outcome
from helpers_processes import fork, in_a_fork, read_outcome


@dataclass
class Ranks:
    """The processes of one start, and the files that have their output."""

    processes: list[BaseProcess]
    folder: Path

    def finish(self, seconds: float = 100, *, only: int | None = None) -> list[Outcome]:
        """What each did; one that has not ended in time is killed, and all but `only` at once."""
        outcomes = []
        for rank, process in enumerate(self.processes):
            process.join(seconds if only in (None, rank) else 0)
            if process.is_alive():
                process.kill()
                process.join()
            outcomes.append(read_outcome(process, self.folder, str(rank)))
        return outcomes


def start_together(n: int, folder: Path, work: Callable[..., object], *arguments: Any, **variables: str) -> Ranks:
    """`work(rank, *arguments)` in each of n processes, with the variables that torchrun sets."""
    folder.mkdir(parents=True)
    server = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)  # as torchrun does, for them
    common = {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n), "MASTER_ADDR": "localhost"}
    common |= {"MASTER_PORT": str(server.port), "TORCHELASTIC_USE_AGENT_STORE": "True", **variables}
    processes = [
        fork(_work, rank, folder, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, work, arguments)
        for rank in range(n)
    ]
    ranks = Ranks(processes, folder)
    ranks.server = server  # type: ignore[attr-defined]  # it lives as long as they do
    return ranks


def run_together(n: int, folder: Path, work: Callable[..., object], *arguments: Any, **variables: str) -> list[Outcome]:
    """The same, to the end."""
    return start_together(n, folder, work, *arguments, **variables).finish()


def _work(
    rank: int, folder: Path, variables: dict[str, str], work: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    with in_a_fork(folder, str(rank), variables):
        try:
            work(rank, *arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001  # it is shown, and is not the end that any test expects
            traceback.print_exc()
            code = 99
        else:
            code = 0
    torch.distributed.is_initialized() and torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_command(_rank: int, *arguments: str) -> None:
    """The command `epigone` in one of them."""
    main.main(arguments)
