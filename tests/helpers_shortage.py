"""How much fits comes in; out comes a machine whose memory runs out in passes over more than that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from unittest.mock import patch

import torch

from epigone.model.loss import LossParts, NextTokenLoss

Place = Literal["forward", "backward"]
ERRORS: dict[str, Callable[[], BaseException]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "processor": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4294967296 bytes."),
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 17.96 GB)"),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "python": MemoryError,
}


def _raise(error: BaseException, _: torch.Tensor) -> None:
    raise error


@dataclass
class Machine:
    """`fits`: blocks at once; None for any number. `from_call`: the pass, counted from 0, from which this holds."""

    fits: int | None
    place: Place = "forward"
    kind: str = "cuda"
    from_call: int = 0
    read: list[torch.Tensor] = field(default_factory=list)
    """The ids of every pass that went well: int64 [blocks, time] each."""
    n_failed: int = 0
    n_calls: int = 0

    @contextmanager
    def at_work(self) -> Iterator[Machine]:
        """Within, training's passes are made on this machine."""
        genuine = NextTokenLoss.forward

        def forward(loss: NextTokenLoss, ids: torch.Tensor, targets: torch.Tensor) -> LossParts:
            call, self.n_calls = self.n_calls, self.n_calls + 1
            if self.fits is None or call < self.from_call or len(ids) <= self.fits:
                self.read.append(ids.clone())
                return genuine(loss, ids, targets)
            self.n_failed += 1
            error = ERRORS[self.kind]()
            if self.place == "forward":
                raise error
            found = genuine(loss, ids, targets)
            objective = found.objective.clone()
            objective.register_hook(partial(_raise, error))
            return found._replace(objective=objective)

        with patch.object(NextTokenLoss, "forward", forward):
            yield self
