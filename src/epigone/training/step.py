"""Gradient of a training step, in as many parts as it takes to fit into memory."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import distributed, nn

from epigone.errors import OutOfMemory
from epigone.hardware import OUT_OF_MEMORY_ERRORS, free_memory, is_out_of_memory
from epigone.planning.plan import Plan
from epigone.tokens.dataset import Batches
from epigone.training.distributed import all_reduce_max
from epigone.training.state import pack_random_state, unpack_random_state


class GradientStep:
    """Computes the gradient of one step after another; a batch is computed in `parts`, more where memory runs out.

    Processes sum their gradients while the last part is computed, which is fastest, unless it is uncertain that a part
    fits everywhere: a process that ran out of memory would leave the others waiting.
    """

    def __init__(self, loss: nn.Module, batches: Batches, accelerator: Accelerator, plan: Plan) -> None:
        self.loss, self.batches, self.accelerator, self.plan = loss, batches, accelerator, plan
        self.parts = plan.batch.parts
        self.sums_on = "cpu" if plan.compute.device == "mps" else plan.compute.device
        self._sharded = plan.is_sharded
        self._sure = self._sharded  # what does not fit in one process has left the others waiting already

    def expect_out_of_memory(self) -> None:
        """Note that memory was used for something else, so the next step may not fit."""
        self._sure = self._sharded

    def add(self, step: int) -> torch.Tensor:
        """The loss of this process's blocks, fp64: its mean over the processes is that of the step's blocks.

        Its gradient, averaged over the processes, is in the model.

        If memory runs out, it is computed again, with the same random numbers, in twice as many parts. Raises
        OutOfMemory.
        """
        device = self.accelerator.device
        random = pack_random_state(device)
        while (loss := self._try(step)) is None:
            self.loss.zero_grad()
            free_memory()
            self._divide()
            unpack_random_state(random, device)
        self._sure = True
        return loss

    def _try(self, step: int) -> torch.Tensor | None:
        """The mean loss, or None if memory ran out in any process."""
        loss = None
        try:
            loss = self._compute(step)
        except OUT_OF_MEMORY_ERRORS as error:
            if not is_out_of_memory(error):
                raise
            if self._sure and self.accelerator.num_processes > 1:
                raise OutOfMemory(
                    f"Memory ran out in step {step}, while the other processes waited for this one.",
                    hint="Nothing before the last checkpoint is lost: continue with epigone resume.",
                ) from error
        if self._sure or self.accelerator.num_processes == 1:
            return loss
        if all_reduce_max(self.accelerator, float(loss is None))[0]:
            return None
        self._sum_up()
        return loss

    def _compute(self, step: int) -> torch.Tensor:
        batch = self.plan.batch
        rows = batch.list_rows(self.accelerator.process_index, self.parts)
        n_blocks = batch.blocks_per_step / batch.n_processes  # of which torch computes the mean over the processes
        dummies = self._count_dummies(rows)  # with a smaller share it takes part in the sums all the same
        mean = torch.zeros((), dtype=torch.float64, device=self.sums_on)
        for number, part in enumerate([*rows, *dummies]):
            ids, targets = self.batches.read(step, rows=part)
            scale = n_blocks / len(ids) if number < len(rows) else math.inf
            alone = not self._sharded and (number + 1 < len(rows) + len(dummies) or not self._sure)
            with self.accelerator.no_sync(self.loss) if alone else nullcontext():
                loss = self.loss(ids.to(self.accelerator.device), targets.to(self.accelerator.device))
                self.accelerator.backward(loss.objective / scale)
            mean += (loss.nats.detach() / scale).to(mean)
        return mean

    def _count_dummies(self, rows: list[slice]) -> list[slice]:
        """Blocks that count for nothing: one without a share, and of a divided model as many as others have parts more.

        All processes have to gather its weights equally often.
        """
        batch = self.plan.batch
        if not self._sharded:
            return [slice(0, 1)] if not rows else []
        most = max(len(batch.list_rows(process, self.parts)) for process in range(batch.n_processes))
        return [slice(0, 1)] * (most - len(rows))

    def _sum_up(self) -> None:
        """What the processes otherwise do while they compute the last part."""
        for parameter in self.loss.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.accelerator.num_processes

    def _divide(self) -> None:
        model, batch, device = self.plan.model, self.plan.batch, self.plan.compute.device
        if self.parts >= batch.largest_share:
            smaller = "--size" if model.fresh else "--base"
            lora = "" if model.fresh or model.lora is not None else ", or --lora 16"
            raise OutOfMemory(
                f"Memory ran out: a step with one block of {batch.block_size:,} tokens does not fit on {device}.",
                hint=f"Train with a smaller --block-size or {smaller}{lora}.",
            )
        self.parts = min(2 * self.parts, batch.largest_share)
