"""Recurrent layers: two linear layers a direction, over inputs and over previous states."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from egl_fast.gradients.contributions import Contribution
from egl_fast.gradients.linear import outer_product_pullback
from egl_fast.gradients.rules import Pullback
from egl_fast.recurrent import Direction


@dataclass(frozen=True)
class GateInputs:
    """What one set of gate weights of one direction multiplies, for all its columns.

    Attributes:
        inputs: [T, N, I].
        tap: [T, N, G*H], in the graph where the cotangent of the product arrives.
        weight: the weight's name, without the direction's suffix.
        bias: the bias's name, likewise.
        rolled: whether the tap's gates are a GRU's in the order n, r, z.
        order: utterance of each column, or None where they are in order.
    """

    inputs: Tensor
    tap: Tensor
    weight: str
    bias: str
    rolled: bool
    order: Tensor | None

    def column_of(self, utterance: int | None) -> int | None:
        """The utterance's column; None where all columns are the one utterance's."""
        if utterance is None or self.order is None:
            return utterance
        return int((self.order == utterance).nonzero().item())

    def prepare(self, utterance: int | None, wanted: frozenset[str]) -> Pullback:
        """A function of gate cotangents [R, T, 1 (or all columns), G*H]."""
        column = self.column_of(utterance)
        inputs = self.inputs if column is None else self.inputs[:, column : column + 1]
        linear = outer_product_pullback(
            inputs.flatten(0, 1), wanted, weight=self.weight, bias=self.bias
        )

        def pull(cotangent: Tensor) -> dict[str, Contribution]:
            found = linear(cotangent.flatten(1, 2))
            return {name: Rolled(c) for name, c in found.items()} if self.rolled else found

        return pull


@dataclass(frozen=True)
class Rolled:
    """A contribution to a GRU's input weights that was made in the order n, r, z."""

    inner: Contribution

    def sq_norms(self) -> Tensor:
        """See ``Contribution``; the order of rows does not matter."""
        return self.inner.sq_norms()

    def gradient(self) -> Tensor:
        """See ``Contribution``."""
        gradient = self.inner.gradient()
        return gradient.reshape(gradient.shape[0], 3, -1).roll(-1, 1).flatten(1)


def gate_inputs(direction: Direction) -> tuple[GateInputs, GateInputs]:
    """The input side and the hidden side of a direction."""
    order = direction.order
    return (
        GateInputs(
            direction.inputs,
            direction.projected,
            "weight_ih",
            "bias_ih",
            direction.kind == "gru",
            order,
        ),
        GateInputs(direction.previous, direction.hidden_tap, "weight_hh", "bias_hh", False, order),
    )
