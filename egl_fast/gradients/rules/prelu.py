"""PReLU: y = max(x, 0) + weight min(x, 0), with a weight per channel or one for all."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from egl_fast.gradients.rules.normalization import scale_and_shift_pullback
from egl_fast.gradients.rules.rule import Pullback, register


@register(nn.PReLU)
def prelu(module: nn.PReLU, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.PReLU``; channels are dimension 1."""
    inputs: Tensor = args[0]
    shared = module.num_parameters == 1
    reduced = [d for d in range(inputs.dim()) if shared or d != 1]
    return scale_and_shift_pullback(inputs.clamp(max=0), reduced, wanted)
