"""A stream of ids in; batches of blocks to learn from, the same ones for the same seed and step, out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from epigone.tokens.stream import Ids

Batch = tuple[torch.Tensor, torch.Tensor]
"""Ids and their targets, the ids that follow: int64 [batch, time] both."""


class Batches:
    """Blocks of the stream in a new order, from a new offset, in each pass. A pure function of seed and step.

    The stream is a ring, so that every offset has the same number of blocks; its end is followed by the end-of-text
    token that it begins with. Passes follow one another without a gap: a step may hold the last blocks of one pass and
    the first of the next, so every block counts once a pass and every step is full.
    """

    def __init__(self, ids: Ids, *, block_size: int, blocks_per_step: int, seed: int) -> None:
        self.ids = ids
        self.block_size = block_size
        self.blocks_per_step = blocks_per_step
        self.n_blocks = len(ids) // block_size
        self._starts_of_pass = lru_cache(maxsize=2)(lambda number: self._lay_out(number, seed))

    def _lay_out(self, number: int, seed: int) -> npt.NDArray[np.int64]:
        """Where each block of a pass starts, in the order in which they are read."""
        random = np.random.default_rng([seed, number])
        offset = random.integers(self.block_size)
        return (offset + random.permutation(self.n_blocks) * self.block_size) % len(self.ids)

    def starts(self, step: int) -> npt.NDArray[np.int64]:
        """Where the blocks of a step (counted from 0) start in the stream: int64 [blocks per step]."""
        places = np.arange(step * self.blocks_per_step, (step + 1) * self.blocks_per_step)
        return np.array([self._starts_of_pass(int(i) // self.n_blocks)[i % self.n_blocks] for i in places])

    def read(self, step: int, *, rows: slice = slice(None)) -> Batch:
        """Those rows of a step's blocks that one process computes."""
        places = self.starts(step)[rows, None] + np.arange(self.block_size + 1)
        blocks = torch.from_numpy(self.ids[places % len(self.ids)].astype(np.int64))
        return blocks[:, :-1], blocks[:, 1:]


def read_in_order(ids: Ids, *, block_size: int, batch_size: int, part: int = 0, n_parts: int = 1) -> Iterator[Batch]:
    """The stream in unbroken blocks that do not overlap: each token but the first is a target exactly once.

    The last block is shorter and comes by itself. With `n_parts`, every n-th batch from `part` on.
    """
    n_targets = len(ids) - 1
    n_full = n_targets // block_size
    edges = [(i, min(i + batch_size, n_full)) for i in range(0, n_full, batch_size)]
    for first, last in edges[part::n_parts]:
        chunk = ids[first * block_size : last * block_size + 1].astype(np.int64)
        yield _as_batch(chunk, (last - first, block_size))
    if n_targets % block_size and len(edges) % n_parts == part:
        yield _as_batch(ids[n_full * block_size :].astype(np.int64), (1, n_targets % block_size))


def _as_batch(chunk: npt.NDArray[np.int64], shape: tuple[int, int]) -> Batch:
    stream = torch.from_numpy(chunk)
    return stream[:-1].view(shape), stream[1:].view(shape)
