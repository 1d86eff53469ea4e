"""Muon's steps are nearly orthogonal, alike for queries, keys and values, and as torch's own Muon has them."""

from __future__ import annotations

import math

import pytest
import torch

from epigone.training.optimizer import THREE, Muon, orthogonalise


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step_once(
    matrix: torch.Tensor, gradients: list[torch.Tensor], *, momentum: float = 0.95, **group: float
) -> torch.Tensor:
    """How far a matrix has moved after these gradients, as a part of the rate."""
    parameter = torch.nn.Parameter(matrix.clone())
    optimizer = Muon(
        [{"params": [parameter], "lr": 0.01, "n_parts": 1, **group}], dtype=torch.float32, momentum=momentum
    )
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return (matrix - parameter.detach()) / 0.01


@pytest.mark.parametrize("shape", [(2, 32, 32), (3, 24, 96), (1, 96, 24)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_singular_values_are_brought_near_one_and_directions_stay(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    matrices = draw(*shape)
    found = orthogonalise(matrices, dtype)
    assert found.dtype == torch.float32 and found.shape == matrices.shape
    values = torch.linalg.svdvals(found)
    assert float(values.max()) < 1.25
    assert float((values > 0.6).float().mean()) >= 0.95, "all but those that were all but zero"
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    nearest = left @ right
    assert float(torch.cosine_similarity(found.flatten(1), nearest.flatten(1)).min()) > 0.97


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["usual", "all but one direction small", "one direction"])
def test_with_three_polynomials_they_stay_within_bounds(kind: str, dtype: torch.dtype) -> None:
    """As gradients of few tokens are: most of their directions are all but zero."""
    left, values, right = torch.linalg.svd(draw(4, 32, 48), full_matrices=False)
    if kind != "usual":
        values[:, 1:] *= 1e-2 if "small" in kind else 1e-9
    matrices = left @ torch.diag_embed(values) @ right
    found = torch.linalg.svdvals(orthogonalise(matrices, dtype, THREE))
    shares = values / values.norm(dim=1, keepdim=True)
    assert float(found.max()) < 1.75
    assert int((found > 0.32).sum()) >= int((shares > 0.0035).sum())


def test_no_polynomial_of_its_kind_brings_them_nearer() -> None:
    """The error is as large, up and down in turn, at four points, as Chebyshev has it of the best with three terms."""
    low, high = 0.003, 1.01
    for a, b, c in THREE:
        x = torch.logspace(math.log10(low), math.log10(high), 400_000, dtype=torch.float64)
        error = a * x + b * x**3 + c * x**5 - 1
        most = float(error.abs().max())
        signs = error[error.abs() > 0.997 * most].sign()
        assert int((signs[1:] != signs[:-1]).sum()) == 3
        low, high = (1 - most) / 1.01, 1.01 * (1 + most)


def test_nothing_comes_of_nothing() -> None:
    assert not orthogonalise(torch.zeros(1, 8, 8), torch.float32).any()


@pytest.mark.parametrize("momentum", [0.95, 0.9])
@pytest.mark.parametrize("shape", [(32, 32), (24, 96), (96, 24)], ids=str)
def test_its_steps_are_those_of_torch(shape: tuple[int, int], momentum: float) -> None:
    """torch's Muon takes [out, in] and computes in bf16: a matrix is turned over for it, and rounding allowed for."""
    matrix, gradients = draw(*shape), [draw(*shape, seed=seed) for seed in (1, 2, 3)]
    ours = step_once(matrix, gradients, momentum=momentum)
    turned = torch.nn.Parameter(matrix.t().clone())
    reference = torch.optim.Muon([turned], lr=0.01, weight_decay=0.0, momentum=momentum, nesterov=True)
    for gradient in gradients:
        turned.grad = gradient.t().contiguous()
        reference.step()
    theirs = (matrix - turned.detach().t()) / 0.01
    assert float(torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)) > 0.999
    assert float(ours.norm() / theirs.norm()) == pytest.approx(1, abs=0.02)


def test_queries_keys_and_values_are_stepped_apart() -> None:
    """A gradient a thousand times as large in one of them takes nothing from the others."""
    gradient = draw(16, 48)
    gradient[:, :16] *= 1000
    together = step_once(torch.zeros(16, 48), [gradient], n_parts=3)
    apart = [step_once(torch.zeros(16, 16), [part.contiguous()]) for part in gradient.chunk(3, dim=1)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), rtol=1e-4, atol=1e-5)
    as_one = step_once(torch.zeros(16, 48), [gradient])
    assert float(as_one[:, 16:].norm()) < 0.1 * float(together[:, 16:].norm())


def test_matrices_of_one_shape_do_not_mix() -> None:
    """They are computed together, and each is what it would be alone."""
    both = [torch.nn.Parameter(torch.zeros(16, 16)) for _ in range(2)]
    optimizer = Muon([{"params": both, "lr": 0.01, "n_parts": 1}], dtype=torch.float32)
    gradients = [draw(16, 16, seed=seed) for seed in (1, 2)]
    for parameter, gradient in zip(both, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    for parameter, gradient in zip(both, gradients, strict=True):
        alone = step_once(torch.zeros(16, 16), [gradient])
        torch.testing.assert_close(parameter.detach() / -0.01, alone, rtol=1e-4, atol=1e-5)


def test_the_size_of_the_gradient_does_not_matter() -> None:
    small, large = (step_once(torch.zeros(16, 32), [scale * draw(16, 32)]) for scale in (1e-4, 1e4))
    torch.testing.assert_close(small, large, rtol=1e-2, atol=1e-3)


def test_it_shrinks_by_rate_times_decay() -> None:
    parameter = torch.nn.Parameter(torch.ones(8, 8))
    parameter.grad = torch.zeros(8, 8)
    Muon([{"params": [parameter], "lr": 0.1, "weight_decay": 0.5, "n_parts": 1}], dtype=torch.float32).step()
    torch.testing.assert_close(parameter.detach(), torch.full((8, 8), 0.95))


def test_the_rest_is_stepped_by_adamw_as_torch_has_it() -> None:
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    optimizer = Muon([{"params": [ours], "lr": 0.02, "weight_decay": 0.1, "betas": (0.9, 0.95)}], dtype=torch.float32)
    reference = torch.optim.AdamW([theirs], lr=0.02, weight_decay=0.1, betas=(0.9, 0.95), fused=False, foreach=False)
    for seed in range(4):
        for parameter, one in ((ours, optimizer), (theirs, reference)):
            parameter.grad = draw(5, seed=seed)
            one.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_has_no_gradient_stays() -> None:
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    Muon([{"params": [parameter], "lr": 0.1, "n_parts": 1}], dtype=torch.float32).step()
    assert torch.equal(parameter.detach(), torch.ones(4, 4))
