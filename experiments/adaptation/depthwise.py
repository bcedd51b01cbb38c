"""Depthwise convolutions by fast Fourier transform.

torch's own, on a CPU, take nine tenths of a training step of QuartzNet, whose kernels are 75 to 87
frames wide; these are a fifth of it, and in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _Convolution(Function):
    """Cross-correlation of x [N, C, T] with weights [C, 1, K], K odd, padded to T outputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        num_frames, width = x.shape[2], weight.shape[2]
        reach = dilation * (width - 1)
        size = _fast_size(num_frames + reach)
        spread = weight.new_zeros(len(weight), reach + 1)
        spread[:, ::dilation] = weight[:, 0]
        of_x, of_weight = torch.fft.rfft(x, size), torch.fft.rfft(spread, size)
        ctx.save_for_backward(of_x, of_weight)
        ctx.sizes = num_frames, reach, size, dilation
        full = torch.fft.irfft(of_x * of_weight.conj(), size)
        # Output t is the correlation at lag t - reach / 2; negative lags wrap around.
        return full.roll(reach // 2, dims=2)[..., :num_frames].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        of_x, of_weight = ctx.saved_tensors
        num_frames, reach, size, dilation = ctx.sizes
        padded = nn.functional.pad(grad, (0, size - num_frames)).roll(-(reach // 2), dims=2)
        of_grad = torch.fft.rfft(padded, size)
        of_x_grad = torch.fft.irfft(of_grad * of_weight, size)[..., :num_frames]
        of_weight_grad = (of_x * of_grad.conj()).sum(0)
        spread = torch.fft.irfft(of_weight_grad, size)[:, : reach + 1]
        return of_x_grad, spread[:, None, ::dilation].contiguous(), None


def _fast_size(at_least: int) -> int:
    """The next size whose prime factors are 2, 3 and 5."""
    size = at_least
    while True:
        left = size
        for prime in (2, 3, 5):
            while left % prime == 0:
                left //= prime
        if left == 1:
            return size
        size += 1


class FourierDepthwise(nn.Module):
    """What a depthwise ``nn.Conv1d`` of stride 1 without a bias computes, with its weights."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        width, dilation = convolution.kernel_size[0], convolution.dilation[0]
        assert convolution.groups == convolution.in_channels == convolution.out_channels
        assert convolution.stride == (1,)
        assert convolution.padding == (dilation * (width - 1) // 2,)
        assert width % 2 == 1
        assert convolution.bias is None
        self.weight = convolution.weight
        self.dilation = dilation

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T] to [N, C, T]."""
        with torch.autocast("cpu", enabled=False):
            out: Tensor = _Convolution.apply(x.float(), self.weight, self.dilation)
        return out


def use_fourier(module: nn.Module) -> None:
    """Replace the depthwise convolutions inside a module."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv1d) and child.groups == child.in_channels > 1:
            setattr(module, name, FourierDepthwise(child))
        else:
            use_fourier(child)
