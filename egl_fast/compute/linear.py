"""Linear layers with constant weights, at the rate of the fastest matrix product there is."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.compute.products import has_fast_product, matrix_product

#: Weights with fewer numbers than this are left to torch: their products take no time.
LARGE_WEIGHT = 2**16


def constant_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` with constant weights [O, I] and [O]; only x gets a gradient.

    Its backward pass is one product for all rows under ``torch.func.vmap``.
    """
    constant = not weight.requires_grad and (bias is None or not bias.requires_grad)
    if constant and weight.numel() >= LARGE_WEIGHT and has_fast_product(x, weight):
        y: Tensor = _ConstantLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return y
    return F.linear(x, weight, bias)


class _ConstantLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[..., I] to [..., O]."""
        ctx.save_for_backward(weight)
        y = matrix_product(x, weight.t())
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        """[..., O] to [..., I]."""
        (weight,) = ctx.saved_tensors
        return matrix_product(cotangents[0], weight), None, None
