"""One direction of a recurrent layer over all frames, as two nodes of the autograd graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from egl_fast.compute.products import matrix_product
from egl_fast.ops import RecurrentCell, RecurrentStates, recurrent_backward


class Projection(torch.autograd.Function):
    """The input's share of the gates at all frames: ``torch.nn.functional.linear``.

    A node of our own, so that under vmap its backward pass is one product for all cotangents.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[T, N, I] and [G*H, I] to [T, N, G*H]."""
        ctx.save_for_backward(inputs if ctx.needs_input_grad[1] else None, weight)
        return torch.nn.functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """Cotangents of the inputs, the weight and the bias, where asked for."""
        inputs, weight = ctx.saved_tensors
        (gates,) = cotangents
        wants_inputs, wants_weight, wants_bias = ctx.needs_input_grad
        return (
            matrix_product(gates, weight) if wants_inputs else None,
            gates.flatten(0, 1).t() @ inputs.flatten(0, 1) if wants_weight else None,
            gates.sum((0, 1)) if wants_bias else None,
        )


class Scan(torch.autograd.Function):
    """The states of one direction, already computed; backward through time in one call.

    The directions of a layer run in one call (``ops.recurrent_forward``), but each has its own
    node in the graph.
    """

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        hidden_tap: Tensor | None,
        weight_hh: Tensor,
        bias_hh: Tensor | None,
        initial_state: Tensor,
        initial_cell: Tensor | None,
        cell: RecurrentCell,
        reverse: bool,
        result: RecurrentStates,
    ) -> tuple[Tensor, Tensor | None]:
        """States [T, N, H] and the final cell state [N, H], which are in ``result``.

        ``hidden_tap`` [T, N, G*H] is zero, and None if its cotangent is not needed.
        """
        ctx.save_for_backward(result.coefficients, weight_hh, result.previous)
        ctx.kind, ctx.reverse, ctx.has_bias = cell, reverse, bias_hh is not None
        ctx.set_materialize_grads(False)
        return result.states, result.final_cell

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Cotangents of the projected input, the weights where asked for, the initial states."""
        coefficients, weight_hh, previous = ctx.saved_tensors
        state_cotangents, cell_cotangent = cotangents
        if state_cotangents is None:
            state_cotangents = torch.zeros_like(previous)
        result = recurrent_backward(
            ctx.kind,
            state_cotangents.unsqueeze(1),
            coefficients,
            weight_hh,
            reverse=ctx.reverse,
            final_cell_cotangents=None if cell_cotangent is None else cell_cotangent.unsqueeze(0),
        )
        input_side, hidden_side = result.gates.squeeze(1), result.hidden_gates.squeeze(1)
        weight_gradient = bias_gradient = None
        if ctx.needs_input_grad[2] or (ctx.has_bias and ctx.needs_input_grad[3]):
            rows = hidden_side.flatten(0, 1)
            weight_gradient = rows.t() @ previous.flatten(0, 1)
            bias_gradient = rows.sum(0) if ctx.has_bias else None
        return (
            input_side,
            hidden_side if ctx.needs_input_grad[1] else None,
            weight_gradient,
            bias_gradient,
            result.state.squeeze(0),
            None if result.cell is None else result.cell.squeeze(0),
            *(None,) * 3,
        )
