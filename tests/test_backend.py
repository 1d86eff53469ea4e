"""Torch's private operators compute what plain ones do, and are done without where they are missing."""

from __future__ import annotations

import pytest
import torch

from epigone import backend


def make_matrices(n_rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(shape, generator=generator) for shape in ((n_rows, 64), (64, 96), (96,)))  # type: ignore[return-value]


@pytest.fixture(params=["there", "missing"])
def operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With torch's private operators, and on a torch that has lost them."""
    backend.has_int8_matmul.cache_clear()
    if request.param == "missing":
        monkeypatch.delattr(torch, "_weight_int8pack_mm")
        monkeypatch.setattr(torch.ops, "mkldnn", object())
        assert not backend.has_int8_matmul() and not backend.has_onednn_linear(torch.float32)
    request.addfinalizer(backend.has_int8_matmul.cache_clear)
    return str(request.param)


@pytest.mark.usefixtures("operators")
@pytest.mark.parametrize("n_rows", [1, 40])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.3)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_packed_product_is_the_plain_one(n_rows: int, dtype: torch.dtype, tolerance: float, with_bias: bool) -> None:
    x, weight, bias = make_matrices(n_rows)
    found = backend.pack_linear(weight, bias if with_bias else None, dtype)(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), x @ weight + (bias if with_bias else 0), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("operators")
def test_a_product_with_eight_bit_weights_is_the_plain_one() -> None:
    x, _, _ = make_matrices(3)
    rows = torch.randint(-127, 128, (96, 64), dtype=torch.int8, generator=torch.Generator().manual_seed(2))
    scales = torch.linspace(0.001, 0.02, 96)
    found = backend.choose_int8_matmul()(x.bfloat16(), rows, scales.bfloat16())
    expected = (x @ rows.float().t()) * scales
    torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.02 * float(expected.abs().max()))


def test_an_operator_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_weight_int8pack_mm", lambda x, rows, scales: torch.zeros(len(x), len(rows)))
    backend.has_int8_matmul.cache_clear()
    assert not backend.has_int8_matmul()
    backend.has_int8_matmul.cache_clear()
