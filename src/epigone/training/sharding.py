"""Sharding: each process keeps a part of the weights, the gradient and the optimizer's state (FSDP2, Zhao et al. 2023).

Torch gathers the weights of a layer when they are needed and lets them go again. What looks at a whole model
(evaluation, samples, saving) works on weights that are gathered for as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from epigone.errors import SettingsError

if TYPE_CHECKING:
    from epigone.model.loss import NextTokenLoss


def shard(loss: NextTokenLoss, device: str) -> None:
    """Divide a loss's model between the processes, layer by layer. Raises SettingsError where it cannot be divided."""
    if not loss.is_written_out or loss.teacher is not None:
        raise SettingsError(
            "Only a GPT-2 with the usual dropout and without --teacher can be divided between processes.",
            hint="Use --shard off.",
        )
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    blocks = loss.call_blocks()
    of_blocks = set(blocks.parameters())
    for block in blocks:
        fully_shard(block, mesh=mesh)
    # After it the blocks' parameters are others, which are DTensors; the outer ones are divided together.
    ignored = of_blocks | set(blocks.parameters())
    fully_shard(loss, mesh=mesh, ignored_params=ignored)


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Within it, all weights are whole in every process. All have to enter it; what is changed within is lost."""
    divided: list[tuple[nn.Module, str, nn.Parameter]] = []
    whole: dict[nn.Parameter, nn.Parameter] = {}  # the embedding is also the head
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if isinstance(parameter, DTensor):
                divided.append((part, name, parameter))
                if parameter not in whole:
                    whole[parameter] = nn.Parameter(parameter.detach().full_tensor())
    for part, name, parameter in divided:
        part._parameters[name] = whole[parameter]
    try:
        yield
    finally:
        for part, name, parameter in divided:
            part._parameters[name] = parameter


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor; all of it where it is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_parts(named: Iterable[tuple[str, torch.Tensor]], *, with_whole: bool) -> dict[str, torch.Tensor]:
    """What this process has of divided tensors, on the CPU: rows. `with_whole`: also those that all have whole."""
    return {
        name: local(tensor.detach()).cpu().contiguous()
        for name, tensor in named
        if with_whole or (isinstance(tensor, DTensor) and tensor.dim())
    }


def divide(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, divided as `like` is; every process has it whole, so nothing is sent."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def gather_as(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor of which each process has a part, divided as `like` is."""
    if not isinstance(like, DTensor):
        return part
    whole = DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
    return whole.full_tensor()
