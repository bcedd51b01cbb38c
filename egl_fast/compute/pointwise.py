"""Pointwise 1-D convolutions of few utterances, which oneDNN computes slowly as convolutions.

As matrix products, four of [512, 512] x [512, 158] take 1.6 ms instead of 4.2 (one thread of an AMD
EPYC with AVX-512). From 16 on, both are equally fast, and the convolution makes no copies.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.compute.products import matrix_product

#: With this many utterances, or rows under ``torch.func.vmap``, the convolution is as fast.
_MANY = 16


def _pointwise_product(x: Tensor, weight: Tensor) -> Tensor:
    if len(x) >= _MANY:
        return F.conv1d(x, weight[:, :, None])
    weight = weight.contiguous()  # once, not in every product
    y = x.new_empty(len(x), len(weight), x.shape[2])
    for own, one in zip(y, x, strict=True):
        own.copy_(matrix_product(weight, one))
    return y


def _vmap_pointwise_product(
    info: Any, in_dims: tuple[int | None, int | None], x: Tensor, weight: Tensor
) -> tuple[Tensor, int]:
    """The batch joins N."""
    of_x, of_weight = in_dims
    if of_weight is not None or of_x is None:
        raise NotImplementedError("pointwise_product: vmap over x only")
    x = x.movedim(of_x, 0)
    y = torch.ops.egl_fast.pointwise_product.default(x.flatten(0, 1), weight)
    return y.unflatten(0, x.shape[:2]), 0


# x [N, I, T] and weight [O, I] to [N, O, T], in new memory and without a graph.
torch.library.define("egl_fast::pointwise_product", "(Tensor x, Tensor weight) -> Tensor")
torch.library.impl("egl_fast::pointwise_product", "CompositeExplicitAutograd", _pointwise_product)
torch.library.register_fake(
    "egl_fast::pointwise_product",
    lambda x, weight: x.new_empty(len(x), len(weight), x.shape[2]),
)
torch.library.register_vmap("egl_fast::pointwise_product", _vmap_pointwise_product)


class PointwiseConvolution(torch.autograd.Function):
    """x [N, I, T] under a constant weight [O, I]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """[N, I, T] to [N, O, T]."""
        ctx.save_for_backward(weight)
        y: Tensor = torch.ops.egl_fast.pointwise_product.default(x, weight)
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        """[N, O, T] to [N, I, T]."""
        (weight,) = ctx.saved_tensors
        y = torch.ops.egl_fast.pointwise_product.default(cotangents[0], weight.t())
        return y, None
