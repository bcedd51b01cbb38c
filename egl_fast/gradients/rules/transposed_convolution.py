"""Transposed convolutions: a linear layer whose outputs are patches that overlap."""

from __future__ import annotations

import math
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


@register(nn.ConvTranspose1d, nn.ConvTranspose2d)
def transposed_convolution(
    module: nn.ConvTranspose1d | nn.ConvTranspose2d, args: tuple[Any, ...], wanted: frozenset[str]
) -> Pullback:
    """``torch.nn.ConvTranspose1d`` and ``2d``, any stride, padding, dilation and groups."""
    dims = len(module.kernel_size)
    inputs: Tensor = args[0] if args[0].dim() == dims + 2 else args[0].unsqueeze(0)
    num_calls, _, *places = inputs.shape
    # [G, P, I]
    grouped = inputs.reshape(num_calls, module.groups, -1, math.prod(places))
    grouped = grouped.permute(1, 0, 3, 2).flatten(1, 2)
    activation = Activation(grouped)
    padding = [int(module.padding[d]) for d in reversed(range(dims)) for _ in range(2)]

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        # [R, calls, C, *output places]
        calls = cotangent.reshape(
            len(cotangent), num_calls, module.out_channels, *cotangent.shape[-dims:]
        )
        found: dict[str, Contribution] = {}
        if "weight" in wanted:
            patches = F.pad(calls, padding)
            for d, place in enumerate(places):
                # An input's outputs begin at its place times the stride.
                dilation = module.dilation[d]
                width = dilation * (module.kernel_size[d] - 1) + 1
                patches = patches.unfold(3 + d, width, module.stride[d])[..., ::dilation]
                patches = patches.narrow(3 + d, 0, place)
            # From [R, calls, C, *places, *K] to [R, P, G, O K].
            patches = patches.movedim(2, 2 + dims).flatten(1, 1 + dims)
            patches = patches.reshape(*patches.shape[:2], module.groups, -1)
            found["weight"] = InputsFirst(OuterProducts(activation, patches))
        if "bias" in wanted:
            found["bias"] = Explicit(calls.flatten(3).sum(dim=(1, 3)))
        return found

    return pull
