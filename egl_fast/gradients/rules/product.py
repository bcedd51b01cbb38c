"""Products with a weight whose inputs come first: a linear layer's, transposed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from egl_fast.compute.linear import constant_linear
from egl_fast.gradients.contributions import Contribution, OuterProducts
from egl_fast.gradients.rules.linear import linear
from egl_fast.gradients.rules.rule import Pullback, register
from egl_fast.gradients.rules.transposed_convolution import InputsFirst


class Product(nn.Module):
    """x [..., I] times a weight [I, O], as in ``x @ weight``."""

    def __init__(self, num_inputs: int, num_outputs: int, device: str | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_inputs, num_outputs, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        return constant_linear(x, self.weight.t())


@register(Product)
def product(module: Product, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.matmul`` with a weight."""
    pull_linear = linear(None, args, wanted)

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        transposed = pull_linear(cotangent)["weight"]
        assert isinstance(transposed, OuterProducts)
        return {"weight": InputsFirst(transposed)}

    return pull
