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


def depthwise_correlation(
    x: Tensor,
    weight: Tensor,
    *,
    padding: tuple[int, int] = (0, 0),
    stride: int = 1,
    dilation: int = 1,
) -> Tensor:
    """y[n, c, t] = sum over k of weight[c, k] x[n, c, t stride + k dilation], in new memory.

    x [N, C, T] and weight [C, K] to [N, C, T'], without a graph. ``padding`` are zeros before and
    after x; negative, frames to leave out. Under ``torch.func.vmap`` over x, it is one call.
    """
    y: Tensor = torch.ops.egl_fast.depthwise_correlation.default(
        x, weight, *padding, stride, dilation
    )
    return y


def _depthwise_correlation(
    x: Tensor, weight: Tensor, before: int, after: int, stride: int, dilation: int
) -> Tensor:
    if dilation == 1 and before == after >= 0:
        return _channels_innermost(x.unsqueeze(2), weight, before, stride).squeeze(2)
    num_frames = x.shape[2] + before + after
    # The fast kernel takes no dilation: every dilation-th frame forms a separate line.
    lines = F.pad(x, (before, after + -num_frames % dilation))
    lines = lines.view(*x.shape[:2], -1, dilation)
    y = _channels_innermost(lines.mT, weight, 0, stride if dilation == 1 else 1).mT.flatten(2)
    y = y[..., : num_frames - dilation * (weight.shape[1] - 1)]
    return y if dilation == 1 else y[..., ::stride].contiguous()


def _channels_innermost(lines: Tensor, weight: Tensor, padding: int, stride: int) -> Tensor:
    """[N, C, L, T] to [N, C, L, T'], both contiguous."""
    y = F.conv2d(
        lines.contiguous(memory_format=torch.channels_last),
        weight[:, None, None],
        padding=(0, padding),
        stride=(1, stride),
        groups=len(weight),
    )
    # Back, by the same fast transposition, with frames in the role of channels.
    frames = y.flatten(2).transpose(1, 2).contiguous().unsqueeze(2)
    back = frames.contiguous(memory_format=torch.channels_last)
    return back.squeeze(2).transpose(1, 2).view(y.shape)


def _vmap_depthwise_correlation(
    info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, *sizes: int
) -> tuple[Tensor, int]:
    """The batch joins N."""
    x_dim, weight_dim, *_ = in_dims
    if weight_dim is not None or x_dim is None:
        raise NotImplementedError("depthwise_correlation: vmap over x only")
    x = x.movedim(x_dim, 0)
    operator = torch.ops.egl_fast.depthwise_correlation.default
    return operator(x.flatten(0, 1), weight, *sizes).unflatten(0, x.shape[:2]), 0


def _shape_of_result(
    x: Tensor, weight: Tensor, before: int, after: int, stride: int, dilation: int
) -> Tensor:
    reach = dilation * (weight.shape[1] - 1)
    return x.new_empty(*x.shape[:2], 1 + (x.shape[2] + before + after - reach - 1) // stride)


torch.library.define(
    "egl_fast::depthwise_correlation",
    "(Tensor x, Tensor weight, int before, int after, int stride, int dilation) -> Tensor",
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
        return depthwise_correlation(x, weight, padding=padding, stride=stride, dilation=dilation)

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
        of_x = depthwise_correlation(
            cotangent, weight.flip(1), padding=(before, after), dilation=dilation
        )
        return of_x, *(None,) * 4
