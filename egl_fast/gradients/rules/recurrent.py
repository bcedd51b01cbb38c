"""Recurrent layers: two linear layers a direction, over inputs and over previous states."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from egl_fast.gradients.rules.linear import outer_product_pullback
from egl_fast.gradients.rules.rule import Pullback
from egl_fast.recurrent import Direction


@dataclass(frozen=True)
class GateInputs:
    """What one set of gate weights of one direction multiplies, for all its columns.

    Attributes:
        inputs: [T, N, I].
        tap: [T, N, G*H], in the graph where the cotangent of the product arrives.
        weight: the weight's name, without the direction's suffix.
        bias: the bias's name, likewise.
        columns: utterance of each column, or None where they are in order.
    """

    inputs: Tensor
    tap: Tensor
    weight: str
    bias: str
    columns: tuple[int, ...] | None

    def column_of(self, utterance: int | None) -> int | None:
        """The utterance's column; None where all columns are the one utterance's."""
        if utterance is None or self.columns is None:
            return utterance
        return self.columns.index(utterance)

    def prepare(self, utterance: int | None, wanted: frozenset[str]) -> Pullback:
        """A function of gate cotangents [R, T, 1 (or all columns), G*H]."""
        column = self.column_of(utterance)
        inputs = self.inputs if column is None else self.inputs[:, column : column + 1]
        linear = outer_product_pullback(
            inputs.flatten(0, 1), wanted, weight=self.weight, bias=self.bias
        )

        return lambda cotangent: linear(cotangent.flatten(1, 2))


def gate_inputs(direction: Direction) -> tuple[GateInputs, GateInputs]:
    """The input side and the hidden side of a direction."""
    columns = direction.columns
    return (
        GateInputs(direction.inputs, direction.projected, "weight_ih", "bias_ih", columns),
        GateInputs(direction.previous, direction.hidden_tap, "weight_hh", "bias_hh", columns),
    )
