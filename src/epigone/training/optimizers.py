"""A model in, its optimizer out, and the optimizer's state as named tensors for safetensors and back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from epigone.model.plan import Plan


def make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), fused; weight decay on matrices alone, not on gains and biases."""
    named = list(_named_parameters(model))
    groups = [
        {"params": [p for _, p in named if p.dim() >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, plan.beta2), fused=plan.device != "mps")


def _named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def pack_state(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """The optimizer's state as tensors named PARAMETER:ENTRY, for example "transformer.wte.weight:exp_avg"."""
    return {
        f"{name}:{entry}": value.detach().cpu().contiguous()
        for name, parameter in _named_parameters(model)
        for entry, value in optimizer.state[parameter].items()
    }


def unpack_state(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put what `pack_state` gave back into an optimizer of the same model."""
    parameters = dict(_named_parameters(model))
    for key, value in tensors.items():
        name, entry = key.rsplit(":", 1)
        parameter = parameters[name]
        place = parameter.device if value.dim() or parameter.is_cuda else "cpu"
        optimizer.state[parameter][entry] = value.to(place)
