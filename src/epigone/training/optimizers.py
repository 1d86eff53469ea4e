"""A model in, its optimizer out, and the optimizer's state as named tensors for safetensors and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from epigone.model.plan import Plan
from epigone.training.muon import FIVE, THREE, Muon

TIED = "lm_head.weight"
"""The same tensor as transformer.wte.weight; kept once."""


def make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Muon for the blocks' matrices and AdamW for the rest, or AdamW for all, as the plan has it.

    Weight decay is on matrices and embeddings, not on gains and biases. `share` is a group's learning rate as a part of
    the plan's.
    """
    named = list(_named_parameters(model))
    large = [(name, parameter) for name, parameter in named if parameter.dim() >= 2]
    usual: dict[str, Any] = {"lr": plan.learning_rate, "weight_decay": plan.weight_decay, "share": 1.0}
    usual["betas"] = (0.9, plan.beta2)
    small = usual | {"params": [parameter for _, parameter in named if parameter.dim() < 2], "weight_decay": 0.0}
    if plan.optimizer == "adamw":
        groups = [usual | {"params": [parameter for _, parameter in large]}, small]
        return torch.optim.AdamW(groups, fused=plan.device != "mps")
    share = plan.matrix_learning_rate / plan.learning_rate
    matrices = usual | {"lr": plan.matrix_learning_rate, "share": share}
    embeddings = usual | {"lr": plan.embedding_share * plan.learning_rate, "share": plan.embedding_share}
    inner = [(name, parameter) for name, parameter in large if ".h." in name]
    groups = [
        # Queries, keys and values stand side by side in c_attn.
        matrices | {"params": [parameter for name, parameter in inner if ".c_attn." in name], "n_parts": 3},
        matrices | {"params": [parameter for name, parameter in inner if ".c_attn." not in name], "n_parts": 1},
        embeddings | {"params": [parameter for name, parameter in large if ".h." not in name]},
        small,
    ]
    polynomials = FIVE if plan.fresh else THREE  # a small base learns as much from them (docs/findings.md)
    dtype = torch.bfloat16 if plan.precision == "bf16" else torch.float32
    return Muon(groups, dtype=dtype, momentum=plan.momentum, polynomials=polynomials)


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
