"""Linear layers: gradient = sum over positions of output cotangent (x) input."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from egl_fast.gradients.contributions import Activation, Contribution, Explicit, OuterProducts
from egl_fast.gradients.rules.rule import Prepare, Pullback, register


def outer_product_pullback(
    inputs: Tensor, wanted: frozenset[str], *, weight: str = "weight", bias: str = "bias"
) -> Pullback:
    """Weight and bias of y = W x + b.

    Args:
        inputs: [P, I].
        wanted: names of the parameters that count.
        weight: name of W.
        bias: name of b.

    Returns:
        A function of output cotangents [R, P, O].
    """
    activation = Activation(inputs.unsqueeze(0))

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        found: dict[str, Contribution] = {}
        if weight in wanted:
            found[weight] = OuterProducts(activation, cotangent.unsqueeze(2))
        if bias in wanted:
            found[bias] = Explicit(cotangent.sum(dim=1))
        return found

    return pull


@register(nn.Linear)
def linear(module: nn.Linear, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.Linear`` over inputs [..., I]."""
    pull = outer_product_pullback(args[0].reshape(-1, module.in_features), wanted)
    return lambda cotangent: pull(cotangent.reshape(cotangent.shape[0], -1, module.out_features))


def gate_products(weight: str, bias: str) -> Prepare:
    """One side of one direction of a recurrent layer: gates = W x + b over inputs [T, N, I].

    Args:
        weight: name of W, without the direction's suffix.
        bias: name of b, likewise.
    """

    def prepare(module: nn.Module, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
        pull = outer_product_pullback(args[0].flatten(0, 1), wanted, weight=weight, bias=bias)
        return lambda cotangent: pull(cotangent.flatten(1, 2))

    return prepare
