"""Depthwise 1-D convolutions; torch runs them on a CPU at a tenth of the possible speed.

Pulled back to their kernels, they are hundreds of products too small for a matrix library; pulled
back to their inputs, they need changes of layout. Ours (csrc/core/depthwise_kernel.inc) reads the
frames in place, once per kernel element; docs/speed-log.md says what that saves.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import egl_fast._extension  # noqa: F401  (importing loads the operator)


def depthwise_correlation(
    x: Tensor,
    taps: Tensor,
    *,
    padding: tuple[int, int] = (0, 0),
    stride: int = 1,
    dilation: int = 1,
) -> Tensor:
    """y[n, c, j] = sum over k of taps[m, c, k] x[n, c, j stride + k dilation], in new memory.

    x [N, C, T] and taps [M, C, K], float32 or float64, to [N or M, C, J], on the CPU and without a
    graph. N or M is 1, and that row serves all rows of the other. ``padding``: zeros before and
    after x, or frames to leave out if negative. Under ``torch.func.vmap`` over x, it is one call.

    Raises:
        ValueError: a wrong dtype or shape, or fewer frames than the taps reach over.
    """
    operator = torch.ops.egl_fast.depthwise_correlation.default
    y: Tensor = operator(x, taps, *padding, stride, dilation)
    return y


def _vmap_depthwise_correlation(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, taps: Tensor, *sizes: int
) -> tuple[Tensor, int]:
    """The batch joins N."""
    x_dim, taps_dim, *_ = in_dims
    if taps_dim is not None or x_dim is None:
        raise NotImplementedError("depthwise_correlation: vmap over x only")
    x = x.movedim(x_dim, 0)
    operator = torch.ops.egl_fast.depthwise_correlation.default
    return operator(x.flatten(0, 1), taps, *sizes).unflatten(0, x.shape[:2]), 0


def _shape_of_result(
    x: Tensor, taps: Tensor, before: int, after: int, stride: int, dilation: int
) -> Tensor:
    rows = taps.shape[0] if x.shape[0] == 1 else x.shape[0]
    reach = dilation * (taps.shape[2] - 1)
    num_outputs = 1 + (x.shape[2] + before + after - reach - 1) // stride
    return x.new_empty(rows, x.shape[1], num_outputs)


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
        return depthwise_correlation(
            x, weight[None], padding=padding, stride=stride, dilation=dilation
        )

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangent of x: the output's cotangent correlated with the reversed kernel."""
        (weight,) = ctx.saved_tensors
        (cotangent,) = cotangents
        num_frames, (left, _), stride, dilation = ctx.sizes
        if stride > 1:  # with zeros between, so that each frame is at its place among the inputs
            spread = F.pad(cotangent.unsqueeze(3), (0, stride - 1)).flatten(2)
            cotangent = spread[..., : spread.shape[2] - stride + 1]
        reach = dilation * (weight.shape[1] - 1)
        before = reach - left
        after = num_frames + reach - before - cotangent.shape[2]
        of_x = depthwise_correlation(
            cotangent, weight.flip(1)[None], padding=(before, after), dilation=dilation
        )
        return of_x, *(None,) * 4
