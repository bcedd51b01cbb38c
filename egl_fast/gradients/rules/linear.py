"""Linear layers: gradient = sum over positions of output cotangent (x) input."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from egl_fast.compute.linear import constant_linear
from egl_fast.gradients.contributions import Activation, Contribution, Explicit, OuterProducts
from egl_fast.gradients.rules.rule import Prepare, Pullback, register


def outer_product_pullback(
    inputs: Tensor, wanted: frozenset[str], *, weight: str = "weight", bias: str = "bias"
) -> Pullback:
    """For y = W x + b over inputs [P, I], a pullback of cotangents [R, P, O]."""
    activation = Activation(inputs.unsqueeze(0))

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        found: dict[str, Contribution] = {}
        if weight in wanted:
            found[weight] = OuterProducts(activation, cotangent.unsqueeze(2))
        if bias in wanted:
            found[bias] = Explicit(cotangent.sum(dim=1))
        return found

    return pull


def _forward(module: nn.Linear, input: Tensor) -> Tensor:
    return constant_linear(input, module.weight, module.bias)


@register(nn.Linear, forward=_forward)
def linear(module: nn.Linear | None, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.Linear``, and the function, over inputs [..., I]."""
    inputs: Tensor = args[0]
    num_positions = inputs.numel() // max(1, inputs.shape[-1])
    pull = outer_product_pullback(inputs.reshape(num_positions, -1), wanted)
    return lambda cotangent: pull(cotangent.reshape(len(cotangent), num_positions, -1))


def gate_products(weight: str, bias: str) -> Prepare:
    """One side of one direction of a recurrent layer: gates = W x + b over inputs [T, N, I].

    Names are without the direction's suffix.
    """

    def prepare(module: nn.Module, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
        pull = outer_product_pullback(args[0].flatten(0, 1), wanted, weight=weight, bias=bias)
        return lambda cotangent: pull(cotangent.flatten(1, 2))

    return prepare
