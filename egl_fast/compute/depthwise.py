"""Depthwise 1-D convolutions, which torch computes on a CPU at a tenth of the speed it could.

oneDNN has a fast kernel for 2-D depthwise convolutions whose channels are innermost, and torch
does not use it for 1-D. Over [12, 512, 172] with kernels of 75, it takes 2 ms instead of 49
(one thread of an AMD EPYC with AVX-512), layout included, with the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def depthwise_correlation(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """y[n, c, t] = sum over k of weight[c, k] x[n, c, t stride + k dilation], in new memory.

    x [N, C, T] and weight [C, K] to [N, C, 1 + (T - dilation (K - 1) - 1) // stride]. Without a
    graph. Under ``torch.func.vmap`` over x, it is one call.
    """
    y: Tensor = torch.ops.egl_fast.depthwise_correlation.default(x, weight, stride, dilation)
    return y


def _depthwise_correlation(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    num_frames = x.shape[2] - dilation * (weight.shape[1] - 1)
    # The fast kernel takes no dilation: every dilation-th frame is a line of its own.
    lines = F.pad(x, (0, -x.shape[2] % dilation)).unflatten(2, (-1, dilation)).transpose(2, 3)
    y = F.conv2d(
        lines.contiguous(memory_format=torch.channels_last),
        weight[:, None, None],
        stride=(1, stride if dilation == 1 else 1),
        groups=len(weight),
    )
    y = y.transpose(2, 3).flatten(2)[..., :num_frames]
    return y.contiguous() if dilation == 1 else y[..., ::stride].contiguous()


def _vmap_depthwise_correlation(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, *sizes: int
) -> tuple[Tensor, int]:
    """The batch joins N."""
    of_x, of_weight, *_ = in_dims
    if of_weight is not None or of_x is None:
        raise NotImplementedError("depthwise_correlation: vmap over x only")
    x = x.movedim(of_x, 0)
    y = depthwise_correlation(x.flatten(0, 1), weight, *sizes)
    return y.unflatten(0, x.shape[:2]), 0


def _shape_of_result(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    num_frames = 1 + (x.shape[2] - dilation * (weight.shape[1] - 1) - 1) // stride
    return x.new_empty(*x.shape[:2], num_frames)


torch.library.define(
    "egl_fast::depthwise_correlation",
    "(Tensor x, Tensor weight, int stride, int dilation) -> Tensor",
)
torch.library.impl(
    "egl_fast::depthwise_correlation", "CompositeExplicitAutograd", _depthwise_correlation
)
torch.library.register_fake("egl_fast::depthwise_correlation", _shape_of_result)
torch.library.register_vmap("egl_fast::depthwise_correlation", _vmap_depthwise_correlation)


class DepthwiseConvolution(torch.autograd.Function):
    """x [N, C, T], padded by (left, right), correlated with constant weights [C, K]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        padding: tuple[int, int],
        stride: int,
        dilation: int,
    ) -> Tensor:
        """[N, C, T] to [N, C, T']."""
        ctx.save_for_backward(weight)
        ctx.sizes = x.shape[2], padding, stride, dilation
        return depthwise_correlation(F.pad(x, padding), weight, stride, dilation)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangent of x: its own correlation with the reversed kernel."""
        (weight,) = ctx.saved_tensors
        (cotangent,) = cotangents
        num_frames, (left, _), stride, dilation = ctx.sizes
        if stride > 1:  # at each frame's place among the inputs, zeros between
            spread = F.pad(cotangent.unsqueeze(3), (0, stride - 1)).flatten(2)
            cotangent = spread[..., : spread.shape[2] - stride + 1]
        reach = dilation * (weight.shape[1] - 1)
        before = reach - left
        after = num_frames + reach - before - cotangent.shape[2]
        padded = F.pad(cotangent, (before, after))
        return depthwise_correlation(padded, weight.flip(1), 1, dilation), *(None,) * 4
