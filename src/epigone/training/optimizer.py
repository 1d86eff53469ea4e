"""Muon and AdamW as one optimizer, whose state can be saved as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw

from epigone.planning.plan import Plan
from epigone.training.sharding import divide, gather_as, local, own_parts

Polynomials = tuple[tuple[float, float, float], ...]
"""Coefficients of the first, third and fifth power of polynomials that drive singular values towards 1."""
FIVE: Polynomials = ((3.4445, -4.7750, 2.0315),) * 5
"""Those of Jordan et al. 2024: values of at least 0.003 of the matrix's norm end between 0.7 and 1.2."""
THREE: Polynomials = ((8.30193, -24.04243, 17.46994), (4.01023, -2.92902, 0.54299), (3.50255, -2.57718, 0.50491))
"""Each is optimal for the range that its predecessor leaves (Amsel et al. 2025), widened by 1 % on either side for
rounding: values of at least 0.003 end between 0.34 and 1.66, in three fifths of the time."""
ADAM_EPSILON = 1e-8


class Muon(torch.optim.Optimizer):
    """One optimizer with one state dict. A group with `n_parts` is Muon's: matrices stored [in, n_parts x out]."""

    _step_supports_amp_scaling = False

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        dtype: torch.dtype,
        momentum: float = 0.95,
        polynomials: Polynomials = FIVE,
    ) -> None:
        """`dtype` is that of the iteration: bf16 is exact enough if the hardware computes in it, else fp32.

        `polynomials`: the iterations. Each group has lr and weight_decay; one of AdamW's has betas as well.
        """
        self.dtype, self.momentum, self.polynomials = dtype, momentum, polynomials
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "betas": (0.9, 0.95), "n_parts": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [
                one for one in group["params"] if one.grad is not None and (group["n_parts"] or local(one).numel())
            ]
            if group["n_parts"]:
                self._step_matrices(parameters, group)
            else:
                self._step_others(parameters, group)

    def _step_matrices(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[torch.Tensor]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        for alike in by_shape.values():
            updates = self._find_updates(alike, group["n_parts"])
            own = [local(divide(update, one)) for update, one in zip(updates, alike, strict=True)]
            weights = list(map(local, alike))
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, own, alpha=-group["lr"])

    def _find_updates(self, parameters: list[torch.Tensor], n_parts: int) -> torch.Tensor:
        """Orthogonal updates of matrices of one shape: [matrices, in, n_parts x out].

        Of matrices that are divided between processes each keeps its part of the momentum.
        """
        momenta = [local(self._find_momentum(parameter)) for parameter in parameters]
        gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - self.momentum)
        parts_ahead = torch._foreach_lerp(gradients, momenta, self.momentum)  # Nesterov's
        ahead = torch.stack([gather_as(part, one) for part, one in zip(parts_ahead, parameters, strict=True)])
        count, n_in, n_out = ahead.shape
        parts = ahead.view(count, n_in, n_parts, n_out // n_parts).transpose(1, 2).flatten(0, 1)
        found = orthogonalise(parts, self.dtype, self.polynomials)
        found = found * max(1.0, found.shape[2] / found.shape[1]) ** 0.5
        whole: torch.Tensor = found.view(count, n_parts, n_in, n_out // n_parts).transpose(1, 2).reshape(ahead.shape)
        return whole

    def _find_momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: torch.Tensor = state["momentum"]
        return momentum

    def _step_others(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device if parameter.is_cuda else "cpu"),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            list(map(local, parameters)),
            [local(parameter.grad) for parameter in parameters if parameter.grad is not None],
            [local(state["exp_avg"]) for state in states],
            [local(state["exp_avg_sq"]) for state in states],
            [],
            [state["step"] for state in states],
            fused=all(parameter.device.type in ("cpu", "cuda") for parameter in parameters),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=ADAM_EPSILON,
            maximize=False,
        )


def orthogonalise(matrices: torch.Tensor, dtype: torch.dtype, polynomials: Polynomials = FIVE) -> torch.Tensor:
    """Each of the matrices [count, rows, columns] with its singular values brought near 1, in fp32."""
    x = matrices.to(dtype)
    flat = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if flat else x
    x = x / (torch.linalg.vector_norm(x.float(), dim=(1, 2), keepdim=True) + 1e-7).to(dtype)
    for a, b, c in polynomials:
        square = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.transpose(1, 2) if flat else x).float()


TIED = "lm_head.weight"
"""The same tensor as transformer.wte.weight; it is saved once."""


def make_optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Muon for the blocks' matrices and AdamW for the rest, or AdamW for everything, as planned.

    Weight decay is on matrices and embeddings, not on gains and biases. `share` is a group's learning rate as a part of
    the plan's.
    """
    spec = plan.optimizer
    named = list(_named_parameters(model))
    large = [(name, parameter) for name, parameter in named if parameter.dim() >= 2]
    usual: dict[str, Any] = {"lr": spec.learning_rate, "weight_decay": spec.weight_decay, "share": 1.0}
    usual["betas"] = (0.9, spec.beta2)
    small = usual | {"params": [parameter for _, parameter in named if parameter.dim() < 2], "weight_decay": 0.0}
    if spec.name == "adamw":
        groups = [usual | {"params": [parameter for _, parameter in large]}, small]
        return torch.optim.AdamW(groups, fused=plan.compute.device != "mps")
    matrices = usual | {"lr": spec.matrix_share * spec.learning_rate, "share": spec.matrix_share}
    embeddings = usual | {"lr": spec.embedding_share * spec.learning_rate, "share": spec.embedding_share}
    inner = [(name, parameter) for name, parameter in large if ".h." in name]
    groups = [
        # Queries, keys and values stand side by side in c_attn.
        matrices | {"params": [parameter for name, parameter in inner if ".c_attn." in name], "n_parts": 3},
        matrices | {"params": [parameter for name, parameter in inner if ".c_attn." not in name], "n_parts": 1},
        embeddings | {"params": [parameter for name, parameter in large if ".h." not in name]},
        small,
    ]
    polynomials = FIVE if plan.model.fresh else THREE  # a small base learns as much from them (docs/dev/findings.md)
    dtype = torch.bfloat16 if plan.compute.precision == "bf16" else torch.float32
    return Muon(groups, dtype=dtype, momentum=spec.momentum, polynomials=polynomials)


def _named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def pack_state(
    optimizer: torch.optim.Optimizer, model: nn.Module, *, with_whole: bool = True
) -> dict[str, torch.Tensor]:
    """The optimizer's state as tensors named PARAMETER:ENTRY, for example "transformer.wte.weight:exp_avg".

    Of a divided model it is this process's part. `with_whole`: with what all processes have alike.
    """
    named = (
        (f"{name}:{entry}", value)
        for name, parameter in _named_parameters(model)
        for entry, value in optimizer.state[parameter].items()
    )
    return own_parts(named, with_whole=with_whole)


def unpack_state(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Restore what `pack_state` returned, of all parts, in an optimizer of the same model."""
    parameters = dict(_named_parameters(model))
    for key, value in tensors.items():
        name, entry = key.rsplit(":", 1)
        parameter = parameters[name]
        place = parameter.device if value.dim() or parameter.is_cuda else "cpu"
        value = value.to(place)
        optimizer.state[parameter][entry] = divide(value, parameter) if value.dim() else value
