"""Recurrent layers: two linear layers a direction, over inputs and over previous states."""

from __future__ import annotations

from torch import Tensor

from egl_fast.gradients.contributions import Contribution
from egl_fast.gradients.linear import outer_product_pullback
from egl_fast.gradients.rules import Pullback
from egl_fast.recurrent import Direction, to_hidden_side


def prepare_direction(direction: Direction, column: int | None, wanted: frozenset[str]) -> Pullback:
    """Weights and biases of one direction, for one utterance.

    The candidate gate of a GRU has different cotangents for the two: the reset gate stands
    between its hidden side and its input side.

    Args:
        direction: the direction as it ran.
        column: the utterance's column in it; None where all columns are the one utterance's.
        wanted: names of parameters asked for, without the direction's suffix.

    Returns:
        A function of gate cotangents [R, T, 1 (or all columns), G*H], input side.
    """

    def columns(x: Tensor) -> Tensor:
        return x if column is None else x[:, column : column + 1]

    of_input = outer_product_pullback(
        columns(direction.inputs).flatten(0, 1), wanted, weight="weight_ih", bias="bias_ih"
    )
    of_state = outer_product_pullback(
        columns(direction.previous).flatten(0, 1), wanted, weight="weight_hh", bias="bias_hh"
    )
    reset = None if direction.candidate_factor is None else columns(direction.candidate_factor)
    needs_hidden_side = bool(wanted & {"weight_hh", "bias_hh"})

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        found = of_input(cotangent.flatten(1, 2))
        if needs_hidden_side:
            found |= of_state(to_hidden_side(cotangent, reset).flatten(1, 2))
        return found

    return pull
