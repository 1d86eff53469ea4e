"""Every use of torch's private operators and attributes: each behind a feature test, with a plain fallback.

torch promises nothing about names that begin with an underscore. If one goes away, models still compute, only slower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch.nn import functional

Linear = Callable[[torch.Tensor], torch.Tensor]
"""Rows [rows, in] to [rows, out]: a product with a packed matrix, plus a bias if there is one."""


def computes_bf16() -> bool:
    """Whether the processor computes bf16 in silicon; where it does not, bf16 is emulated and slow."""
    return _has_capability("avx512_bf16", "_is_avx512_bf16_supported") or has_amx()


def has_amx() -> bool:
    """Whether the processor has Intel's units for products of matrices in bf16."""
    return _has_capability("amx_bf16", "_is_amx_tile_supported")


def _has_capability(name: str, earlier: str) -> bool:
    if hasattr(torch.cpu, "get_capabilities"):  # from torch 2.11 on
        return bool(torch.cpu.get_capabilities().get(name))
    return hasattr(torch.cpu, earlier) and bool(getattr(torch.cpu, earlier)())


def pack_linear(
    weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype, *, expected_rows: int = 1
) -> Linear:
    """The product with a matrix [in, out] and a bias, computed in `dtype`.

    On a processor the weights are stored in oneDNN's own order, for products of about `expected_rows` rows, if oneDNN
    computes in `dtype` there; otherwise this is `torch.nn.functional.linear`.
    """
    rows, bias = weight.t().to(dtype).contiguous(), None if bias is None else bias.to(dtype)
    if rows.device.type != "cpu" or not has_onednn_linear(dtype):
        return lambda x: functional.linear(x.to(dtype), rows, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(rows, expected_rows)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, bias, "none", [], "")


def has_onednn_linear(dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed product is in this torch and computes in `dtype` on this processor."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def choose_int8_matmul() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """A function of x [rows, in], int8 `rows` [out, in] and `scales` [out]: x times the transpose, scaled: [rows, out].

    x and scales: bf16. Chosen once for a matrix, since a call within a call for each of them is felt in small models.
    """
    if has_int8_matmul():
        return torch._weight_int8pack_mm
    return lambda x, rows, scales: functional.linear(x, rows.to(x.dtype)) * scales


@cache
def has_int8_matmul() -> bool:
    """Whether this torch multiplies bf16 by int8 weights on the processor, and correctly so."""
    if not hasattr(torch, "_weight_int8pack_mm"):
        return False
    x, rows = torch.ones(1, 32, dtype=torch.bfloat16), torch.ones(32, 32, dtype=torch.int8)
    try:
        product = torch._weight_int8pack_mm(x, rows, torch.full((32,), 0.5, dtype=torch.bfloat16))
    except (RuntimeError, TypeError):  # not on this processor, or with other arguments
        return False
    return bool((product == 16).all())
