"""Convolutions: a linear layer over the patches that the kernel sees."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from egl_fast.gradients.contributions import Activation, Contribution, Explicit, OuterProducts
from egl_fast.gradients.rules import Pullback, register


@register(nn.Conv1d, nn.Conv2d)
class ConvolutionRule:
    """``torch.nn.Conv1d`` and ``Conv2d`` with any stride, padding, dilation and groups."""

    def covers(self, module: nn.Module) -> bool:
        """See ``Rule``."""
        return True

    def prepare(
        self, module: nn.Conv1d | nn.Conv2d, args: tuple[Any, ...], wanted: frozenset[str]
    ) -> Pullback:
        """See ``Rule``."""
        activation = Activation(_patches(module, args[0])) if "weight" in wanted else None
        groups, num_outputs = module.groups, module.out_channels

        def pull(cotangent: Tensor) -> dict[str, Contribution]:
            unbatched = cotangent.dim() == len(module.kernel_size) + 2
            # [R, N, O, positions]; N > 1 only where a lone caller's batch is one utterance's.
            spread = (cotangent.unsqueeze(1) if unbatched else cotangent).flatten(3)
            found: dict[str, Contribution] = {}
            if activation is not None:
                grouped = spread.reshape(*spread.shape[:2], groups, num_outputs // groups, -1)
                found["weight"] = OuterProducts(
                    activation, grouped.permute(0, 1, 4, 2, 3).flatten(1, 2)
                )
            if "bias" in wanted:
                found["bias"] = Explicit(spread.sum(dim=(1, 3)))
            return found

        return pull


def _patches(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    """[G, P, I]: for each group and position, the inputs under the kernel."""
    dims = len(module.kernel_size)
    x = inputs if inputs.dim() == dims + 2 else inputs.unsqueeze(0)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    one = (1,) * (2 - dims)
    x = x.unsqueeze(2) if dims == 1 else x
    columns: Tensor = F.unfold(
        x,
        kernel_size=(*one, *module.kernel_size),
        dilation=(*one, *module.dilation),
        stride=(*one, *module.stride),
    )
    # [N, G * I, positions] to [G, N * positions, I]
    num_utterances, _, num_positions = columns.shape
    grouped = columns.reshape(num_utterances, module.groups, -1, num_positions)
    return grouped.permute(1, 0, 3, 2).flatten(1, 2)
