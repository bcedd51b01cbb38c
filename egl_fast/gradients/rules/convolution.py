"""Convolutions: a linear layer over the patches that the kernel sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egl_fast.compute.depthwise import DepthwiseConvolution, depthwise_correlation
from egl_fast.compute.linear import LARGE_WEIGHT
from egl_fast.compute.pointwise import PointwiseConvolution
from egl_fast.compute.products import has_fast_product, matrix_product
from egl_fast.gradients.contributions import (
    Activation,
    Contribution,
    Explicit,
    OuterProducts,
    factor_pays,
)
from egl_fast.gradients.rules.rule import Pullback, register

#: Patches repeat every input once per kernel element. So they are limited to this many bytes at a
#: time, but to at least one frame.
BLOCK_BYTES = 2**25


class Patches:
    """The inputs under a convolution's kernel, for one utterance, in blocks of output frames.

    Letters as in ``contributions``, with V output frames and E other output places (the bins of a
    2-D convolution); positions P are those of the batch dimension, E and V.
    """

    def __init__(self, module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> None:
        dims = len(module.kernel_size)
        x = inputs if inputs.dim() == dims + 2 else inputs.unsqueeze(0)
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        one = (1,) * (2 - dims)
        self.padded = x.unsqueeze(2) if dims == 1 else x
        self.kernel = (*one, *module.kernel_size)
        self.dilation = (*one, *module.dilation)
        self.stride = (*one, *module.stride)
        self.groups = module.groups
        places, self.num_frames = (
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, dilation, stride in zip(
                self.padded.shape[2:], self.kernel, self.dilation, self.stride, strict=True
            )
        )
        self.num_inputs = self.padded.shape[1] // self.groups * self.kernel[0] * self.kernel[1]
        self.positions_per_frame = self.padded.shape[0] * places

    @property
    def num_positions(self) -> int:
        """P."""
        return self.positions_per_frame * self.num_frames

    def windows(self, start: int, stop: int) -> Tensor:
        """[calls, C, *kernel, E, V] for output frames ``start`` to ``stop``, a view of the input.

        C are the channels of all groups.
        """
        first = start * self.stride[1]
        last = (stop - 1) * self.stride[1] + self.dilation[1] * (self.kernel[1] - 1)
        x = self.padded[..., first : last + 1]
        of_call, of_channel, of_place, of_frame = x.stride()
        num_places = self.positions_per_frame // x.shape[0]
        return x.as_strided(
            (*x.shape[:2], *self.kernel, num_places, stop - start),
            (
                of_call,
                of_channel,
                of_place * self.dilation[0],
                of_frame * self.dilation[1],
                of_place * self.stride[0],
                of_frame * self.stride[1],
            ),
            x.storage_offset(),
        )

    def frames(self, start: int, stop: int, *, out: Tensor | None = None) -> Tensor:
        """[G, P, I] for output frames ``start`` to ``stop``, in the memory of ``out`` if given."""
        windows = self.windows(start, stop)
        # Frames stay innermost, as in the input, so that long runs are copied.
        columns = (
            windows.new_empty(windows.shape) if out is None else out.view(-1)[: windows.numel()]
        )
        columns = columns.view(windows.shape).copy_(windows)
        grouped = columns.view(len(windows), self.groups, self.num_inputs, -1)
        return grouped.permute(1, 0, 3, 2).flatten(1, 2)

    @cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """Output frames of each block, from and to."""
        width = self.groups * self.num_inputs * self.padded.element_size()
        step = max(1, BLOCK_BYTES // (self.positions_per_frame * width))
        return [(v, min(v + step, self.num_frames)) for v in range(0, self.num_frames, step)]

    @cached_property
    def _whole(self) -> Tensor | None:
        """All patches, if they are one block; computed once for all passes."""
        return self.frames(0, self.num_frames) if len(self.bounds) == 1 else None

    @cached_property
    def as_activation(self) -> Activation:
        """All patches, for a factor of few positions."""
        return Activation(self.frames(0, self.num_frames))

    @cached_property
    def _buffer(self) -> Tensor:
        """Memory for one block: allocating it each time takes ten times as long as the copy."""
        start, stop = self.bounds[0]
        num_positions = self.positions_per_frame * (stop - start)
        return self.padded.new_empty(self.groups * self.num_inputs * num_positions)

    def blocks(self) -> Iterator[tuple[int, int, Tensor]]:
        """(start, stop, [G, P, I]) for consecutive blocks of output frames.

        Each block may be overwritten by the next.
        """
        for start, stop in self.bounds:
            patches = self._whole
            if patches is None:
                patches = self.frames(start, stop, out=self._buffer)
            yield start, stop, patches


@dataclass
class PatchProducts:
    """A use of a kernel: gradient_r = sum over positions of cotangent_r (x) patch, by blocks."""

    patches: Patches
    cotangent: Tensor  # [R, calls, G, O, E, V]

    def coordinates(self) -> list[Tensor]:
        return [self._products().transpose(1, 2).flatten(0, 1)]

    def gradient(self) -> Tensor:
        return self._products().transpose(0, 1).flatten(1)

    def _products(self) -> Tensor:
        """[G, R, O, I]."""
        num_rows, _, groups, num_outputs = self.cotangent.shape[:4]
        totals: list[Tensor] = []
        for start, stop, patches in self.patches.blocks():
            block = self.cotangent[..., start:stop].permute(2, 0, 3, 1, 4, 5)
            rows = block.reshape(groups, num_rows * num_outputs, -1)
            products = [matrix_product(rows[group], patches[group]) for group in range(groups)]
            if totals:
                for total, product in zip(totals, products, strict=True):
                    total += product
            else:
                totals = products
        return torch.stack(totals).view(groups, num_rows, num_outputs, -1)


@dataclass
class DepthwiseProducts:
    """A use of a kernel whose groups have one input channel each: hundreds of small products.

    On a CPU, with one output channel per group, they are a correlation of the inputs with the
    cotangents. Otherwise they are one batched product, which makes its own copy of the patches.
    """

    patches: Patches
    cotangent: Tensor  # [R, calls, G, O, E, V]

    def coordinates(self) -> list[Tensor]:
        return [self.gradient().unsqueeze(0)]

    def gradient(self) -> Tensor:
        x = self.patches.padded
        one_each = x.shape[0] == x.shape[2] == self.cotangent.shape[3] == 1
        if one_each and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
            return self._by_correlation()
        blocks = (
            torch.einsum(
                "ngijev,rngoev->rgoij",
                self.patches.windows(start, stop),
                self.cotangent[..., start:stop],
            )
            for start, stop in self.patches.bounds
        )
        total = next(blocks)
        for block in blocks:
            total += block
        return total.flatten(1)

    def _by_correlation(self) -> Tensor:
        """Kernel element k saw frame v stride + k dilation: stride and dilation change places."""
        x = self.patches.padded[:, :, 0]
        stride, dilation = self.patches.stride[1], self.patches.dilation[1]
        taps = self.cotangent.flatten(3)[:, 0]  # [R, G, V]
        seen = stride * (taps.shape[2] - 1) + dilation * (self.patches.kernel[1] - 1) + 1
        padding = (0, seen - x.shape[2])  # leaves out frames that no kernel element reached
        found = depthwise_correlation(x, taps, padding=padding, stride=dilation, dilation=stride)
        return found.flatten(1)


def _forward(module: nn.Conv1d | nn.Conv2d, input: Tensor) -> Tensor:
    """The module's own forward pass, or one that is faster on a CPU."""
    plain = isinstance(module, nn.Conv1d) and module.padding_mode == "zeros" and input.dim() == 3
    constant = not module.weight.requires_grad
    y: Tensor
    if not (plain and constant and input.device.type == "cpu"):
        y = module._conv_forward(input, module.weight, module.bias)
        return y
    before, after = module._reversed_padding_repeated_twice
    if module.groups == module.in_channels == module.out_channels:
        y = DepthwiseConvolution.apply(  # type: ignore[no-untyped-call]
            input, module.weight[:, 0], (before, after), module.stride[0], module.dilation[0]
        )
    elif (
        module.weight.shape[1:] == (module.in_channels, 1)
        and (before, after, module.stride[0]) == (0, 0, 1)
        and module.weight.numel() >= LARGE_WEIGHT
        and has_fast_product(input, module.weight)
    ):
        y = PointwiseConvolution.apply(  # type: ignore[no-untyped-call]
            input, module.weight[:, :, 0]
        )
    else:
        y = module._conv_forward(input, module.weight, module.bias)
        return y
    return y if module.bias is None else y + module.bias[:, None]


@register(nn.Conv1d, nn.Conv2d, forward=_forward)
def convolution(
    module: nn.Conv1d | nn.Conv2d, args: tuple[Any, ...], wanted: frozenset[str]
) -> Pullback:
    """``torch.nn.Conv1d`` and ``Conv2d`` with any stride, padding, dilation and groups."""
    patches = Patches(module, args[0])
    groups, num_outputs = module.groups, module.out_channels // module.groups

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        unbatched = cotangent.dim() == len(module.kernel_size) + 2
        calls = cotangent.unsqueeze(1) if unbatched else cotangent
        # [R, calls, G, O, E, V]
        spread = calls.reshape(*calls.shape[:2], groups, num_outputs, -1, patches.num_frames)
        found: dict[str, Contribution] = {}
        if "weight" in wanted:
            num_columns = spread.shape[0] * num_outputs
            if groups == module.in_channels > 1:
                found["weight"] = DepthwiseProducts(patches, spread)
            elif factor_pays(patches.num_positions, patches.num_inputs, num_columns):
                positions = spread.permute(0, 1, 4, 5, 2, 3).flatten(1, 3)
                found["weight"] = OuterProducts(patches.as_activation, positions)
            else:
                found["weight"] = PatchProducts(patches, spread)
        if "bias" in wanted:
            found["bias"] = Explicit(spread.sum(dim=(1, 4, 5)))
        return found

    return pull
