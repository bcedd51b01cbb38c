"""Matrix products as fast as the machine allows.

torch uses MKL for float32 products, which picks its kernels by the maker of the processor. On an
AMD EPYC of 2024 they ran at half to a third of the rate of oneDNN's, which torch also includes and
which are generated for the instructions at hand (docs/decisions.md has the measurement).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

#: Multiplications from which oneDNN's call overhead no longer matters.
_LARGE = 2**18


@cache
def _has_onednn() -> bool:
    """Whether torch's oneDNN has a product for operands of any strides."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    a = torch.arange(6.0).view(2, 3)
    try:
        return torch.equal(_onednn(a, a.t()), a @ a.t())
    except (AttributeError, RuntimeError):
        return False


def _onednn(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(a, b.t(), None, "none", [], "")
    return product


def has_fast_product(a: Tensor, b: Tensor) -> bool:
    """Whether ``matrix_product`` of large operands is faster than torch's own."""
    return a.dtype == b.dtype == torch.float32 and a.device.type == "cpu" and _has_onednn()


def matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b [..., N] for a [..., K] and b [K, N] of any strides, in new memory and without a graph.

    Under ``torch.func.vmap`` over a, it is one product.
    """
    product: Tensor = torch.ops.egl_fast.matrix_product.default(a, b)
    return product


def _matrix_product(a: Tensor, b: Tensor) -> Tensor:
    rows = a.reshape(-1, a.shape[-1])
    if rows.shape[0] * b.numel() >= _LARGE and has_fast_product(a, b):
        # With gaps in an operand, oneDNN falls back to a kernel a thousand times as slow.
        dense = b.is_contiguous() or b.t().is_contiguous()
        product = _onednn(rows.contiguous(), b if dense else b.contiguous())
    else:
        product = rows @ b
    return product.view(*a.shape[:-1], b.shape[1])


def _vmap_matrix_product(
    info: Any, in_dims: tuple[int | None, int | None], a: Tensor, b: Tensor
) -> tuple[Tensor, int]:
    """The batch is one more dimension of rows."""
    of_a, of_b = in_dims
    if of_b is not None or of_a is None:
        raise NotImplementedError("matrix_product: vmap over a only")
    if of_a == a.dim() - 1:
        a, of_a = a.movedim(-1, 0), 0
    return matrix_product(a, b), of_a


torch.library.define("egl_fast::matrix_product", "(Tensor a, Tensor b) -> Tensor")
torch.library.impl("egl_fast::matrix_product", "CompositeExplicitAutograd", _matrix_product)
torch.library.register_fake(
    "egl_fast::matrix_product", lambda a, b: a.new_empty(*a.shape[:-1], b.shape[1])
)
torch.library.register_vmap("egl_fast::matrix_product", _vmap_matrix_product)
