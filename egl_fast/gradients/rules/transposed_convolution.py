"""Transposed convolutions: a linear layer whose outputs are patches that overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from egl_fast.gradients.contributions import Activation, Contribution, Explicit, OuterProducts
from egl_fast.gradients.rules.rule import Pullback, register


@dataclass
class InputsFirst:
    """Outer products of a weight whose own order is [G, I, O]."""

    products: OuterProducts

    def coordinates(self) -> list[Tensor]:
        return self.products.coordinates()

    def gradient(self) -> Tensor:
        num_groups, _, num_inputs = self.products.activation.matrix.shape
        outputs_first = self.products.gradient()
        outputs_first = outputs_first.view(len(outputs_first), num_groups, -1, num_inputs)
        return outputs_first.transpose(2, 3).flatten(1)


@register(nn.ConvTranspose1d)
def transposed_convolution(
    module: nn.ConvTranspose1d, args: tuple[Any, ...], wanted: frozenset[str]
) -> Pullback:
    """``torch.nn.ConvTranspose1d`` with any stride, padding, dilation and groups."""
    inputs: Tensor = args[0] if args[0].dim() == 3 else args[0].unsqueeze(0)
    num_calls, _, num_frames = inputs.shape
    # [G, P, I]
    grouped = inputs.reshape(num_calls, module.groups, -1, num_frames)
    grouped = grouped.permute(1, 0, 3, 2).flatten(1, 2)
    activation = Activation(grouped)
    [width], [stride], [dilation] = module.kernel_size, module.stride, module.dilation
    padding = int(module.padding[0])

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        # [R, calls, C, frames]
        calls = cotangent.reshape(len(cotangent), num_calls, module.out_channels, -1)
        found: dict[str, Contribution] = {}
        if "weight" in wanted:
            padded = F.pad(calls, (padding, padding))
            # An input's outputs begin at its frame times the stride.
            patches = padded.unfold(3, dilation * (width - 1) + 1, stride)[..., ::dilation]
            patches = patches[..., :num_frames, :]
            patches = patches.reshape(*patches.shape[:2], module.groups, -1, *patches.shape[3:])
            # From [R, calls, G, O, V, K] to [R, P, G, O K].
            positions = patches.permute(0, 1, 4, 2, 3, 5).flatten(4).flatten(1, 2)
            found["weight"] = InputsFirst(OuterProducts(activation, positions))
        if "bias" in wanted:
            found["bias"] = Explicit(calls.sum(dim=(1, 3)))
        return found

    return pull
