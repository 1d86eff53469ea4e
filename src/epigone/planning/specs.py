"""The parts of a plan beside the model's: optimizer, schedule, batches, and the machine that computes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from epigone.hardware import Precision
from epigone.model.loss import Compilation
from epigone.settings import Schedule, Share

OptimizerName = Literal["adamw", "muon"]
Count = Annotated[int, Field(ge=1, le=1 << 53)]
Amount = Annotated[float, Field(ge=0, le=1 << 53)]
Positive = Annotated[float, Field(gt=0, le=1 << 53)]
Rate = Annotated[float, Field(gt=0)]
"""Too large a learning rate shows in the loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerSpec:
    """How a gradient changes the weights."""

    name: OptimizerName
    learning_rate: Rate
    """At its peak."""
    matrix_share: Amount
    """Peak learning rate of the matrices inside the layers, as a multiple of `learning_rate`."""
    embedding_share: Amount
    """The same of the embeddings. With AdamW both are 1."""
    momentum: Share
    """Muon's."""
    beta2: Share
    """AdamW's."""
    weight_decay: Amount
    max_grad_norm: Amount
    """0 does not clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSpec:
    """Learning-rate schedule, length of the run, and evaluations."""

    name: Schedule
    arguments: tuple[str, ...]
    """NAME=VALUE, for transformers' get_scheduler."""
    warmup_ratio: Share
    epochs: Positive
    """Passes over the text, at most: minutes or patience may end the run before."""
    minutes: Positive | None
    n_steps: Count
    """Steps of the whole run; an estimate where the clock may end it."""
    patience: Count | None
    """Training stops after this many evaluations without improvement."""
    keep_best: Literal["loss", "quality"]
    """Whether an epoch whose samples copy or repeat themselves can be the best one."""
    evaluations_per_epoch: Count
    """Evaluations in a pass over the text, at equal distances; under a time limit as far as it affords them."""
    evaluate_every: Count | None
    """Steps between further evaluations."""
    report_every: Count
    """Steps between reports."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchSpec:
    """How the text is divided into blocks, these into steps, and those between processes, as many as there are."""

    block_size: Count
    """Tokens in a block."""
    n_blocks: Count
    """Blocks in one pass over the text."""
    batch_size: Count
    """Blocks of a batch, which the processes divide between them and compute at once if they fit into memory."""
    gradient_accumulation: Count
    """Batches in a step."""
    n_processes: Count
    parts: Count
    """Into how many parts, as equal as possible, a process divides its share because it does not fit into memory."""

    @property
    def blocks_per_step(self) -> int:
        """Blocks in one step."""
        return self.batch_size * self.gradient_accumulation

    @property
    def largest_share(self) -> int:
        """Blocks of a batch in the process that has most of them; another may have one less."""
        return -(-self.batch_size // self.n_processes)

    @property
    def tokens_per_step(self) -> int:
        """Tokens in one step."""
        return self.blocks_per_step * self.block_size

    @property
    def steps_per_epoch(self) -> float:
        """Steps in one pass over the text; need not be whole."""
        return self.n_blocks / self.blocks_per_step

    def count_steps(self, epochs: float) -> int:
        """Steps in so many passes over the text, at least one."""
        return max(1, math.ceil(self.n_blocks * epochs / self.blocks_per_step))

    def list_rows(self, process: int, parts: int) -> list[slice]:
        """The blocks of a step that one process computes, its share of each batch divided into `parts`.

        None where there are fewer blocks than processes.
        """
        first, last = (number * self.batch_size // self.n_processes for number in (process, process + 1))
        edges = [first + part * (last - first) // parts for part in range(parts + 1)]
        batches = range(0, self.blocks_per_step, self.batch_size)
        return [slice(at + start, at + end) for at in batches for start, end in pairwise(edges) if start < end]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeSpec:
    """What computes, and how."""

    device: Literal["cpu", "cuda", "mps"]
    n_threads: Annotated[int, Field(ge=1, le=4_096)]
    precision: Precision
    compile: Compilation
    machine: str = ""
    """For which these were chosen; elsewhere they are chosen again."""
    shards: bool = False
    """Whether several processes divide weights, gradient and optimizer state between them."""
    checkpoints: bool = False
    """Whether each layer is computed again for the gradient."""
