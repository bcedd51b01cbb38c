"""Recurrent layers forward and back through time, as torch loops over the frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def recurrent_forward(
    cell: str,
    projected: Tensor,
    weight_hh: Tensor,
    bias_hh: Tensor,
    initial_state: Tensor,
    initial_cell: Tensor,
    *,
    reverse: bool,
    relu_clip: float | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The plain twin of ``egl_fast.ops.recurrent_forward``, which documents the arguments.

    T is at least 1. ``initial_cell`` is read by an LSTM only.

    Returns:
        (states [T, N, H], previous [T, N, H], coefficients [T, N, P, H], final cell [N, H]).

    Example:
        >>> one, zero = torch.ones(1, 1), torch.zeros(1, 1)
        >>> states, *_ = recurrent_forward("rnn", torch.ones(3, 1, 1), one, zero[0], zero, zero,
        ...     reverse=False, relu_clip=2.5)
        >>> states.flatten().tolist()
        [1.0, 2.0, 2.5]
    """
    T = projected.shape[0]
    states: list[Tensor] = [initial_state] * T
    previous: list[Tensor] = [initial_state] * T
    coefficients: list[Tensor] = [initial_state] * T
    h, c = initial_state, initial_cell
    for t in reversed(range(T)) if reverse else range(T):
        previous[t] = h
        h, c, a = _step(cell, projected[t], h @ weight_hh.T + bias_hh, h, c, relu_clip)
        coefficients[t] = torch.stack(a, dim=1)
        if valid is not None:
            present = valid[t, :, None]
            h, c = h.where(present, 0.0), c.where(present, 0.0)
            coefficients[t] = coefficients[t].where(present[:, None], 0.0)
        states[t] = h
    return torch.stack(states), torch.stack(previous), torch.stack(coefficients), c


def _step(
    cell: str, x: Tensor, u: Tensor, h: Tensor, c: Tensor, relu_clip: float | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(state, cell state, coefficients) after a frame of projected input x and product u."""
    if cell == "rnn":
        if relu_clip is None:
            h = torch.tanh(x + u)
            return h, c, [1 - h**2]
        total = (x + u).requires_grad_()
        # At a relu's corners, torch decides which derivative to use.
        h = total.relu() if relu_clip == math.inf else total.clamp(0, relu_clip)
        (derivative,) = torch.autograd.grad(h.sum(), total)
        return h.detach(), c, [derivative]
    if cell == "gru":
        (x_r, x_z, x_n), (u_r, u_z, u_n) = x.chunk(3, dim=1), u.chunk(3, dim=1)
        r, z = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
        n = torch.tanh(x_n + r * u_n)
        a_n = (1 - z) * (1 - n**2)
        a_r, a_z = a_n * u_n * r * (1 - r), (h - n) * z * (1 - z)
        return (1 - z) * n + z * h, c, [a_r, a_z, a_n, a_n * r, z]
    i, f, g, o = (x + u).chunk(4, dim=1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    before, c = c, f * c + i * g
    squashed = torch.tanh(c)
    to_c = o * (1 - squashed**2)
    a_i, a_f, a_g = g * i * (1 - i), before * f * (1 - f), i * (1 - g**2)
    return o * squashed, c, [to_c, a_i, a_f, a_g, squashed * o * (1 - o), f]


def recurrent_backward(
    cell: str,
    cotangents: Tensor,
    coefficients: Tensor,
    weight_hh: Tensor,
    *,
    reverse: bool,
    final_cell_cotangents: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The plain twin of ``egl_fast.ops.recurrent_backward``, which documents the arguments.

    Backpropagation through time (Werbos, 1990) for an Elman RNN, a GRU (Cho et al., 2014, in the
    form of cuDNN and torch, with the reset gate after the product) and an LSTM (Hochreiter and
    Schmidhuber, 1997, with forget gates).

    Returns:
        (gates [T, R, N, G * H], hidden_gates likewise, state [R, N, H], cell [R, N, H] or None).

    Example:
        >>> ones = torch.ones(2, 1, 1, 1)
        >>> half = torch.full((1, 1), 0.5)
        >>> gates, _, state, _ = recurrent_backward("rnn", ones, ones, half, reverse=False)
        >>> gates.flatten().tolist(), state.item()
        ([1.5, 1.0], 0.75)
    """
    T, R, N, H = cotangents.shape
    gates: list[Tensor] = [torch.empty(0)] * T
    hidden_gates: list[Tensor] = [torch.empty(0)] * T
    carry = cotangents.new_zeros(R, N, H)
    dc = carry if final_cell_cotangents is None else final_cell_cotangents
    for t in range(T) if reverse else reversed(range(T)):
        dh = cotangents[t] + carry
        a = coefficients[t].unbind(dim=1)  # P tensors [N, H], shared by the R cotangents
        if cell == "rnn":
            gates[t] = hidden_gates[t] = dh * a[0]
            carry = hidden_gates[t] @ weight_hh
        elif cell == "gru":
            a_r, a_z, a_n, a_hn, z = a
            gates[t] = torch.cat([dh * a_r, dh * a_z, dh * a_n], dim=-1)
            hidden_gates[t] = torch.cat([dh * a_r, dh * a_z, dh * a_hn], dim=-1)
            carry = dh * z + hidden_gates[t] @ weight_hh
        elif cell == "lstm":
            q, a_i, a_f, a_g, a_o, f = a
            dc = dc + dh * q
            gates[t] = hidden_gates[t] = torch.cat([dc * a_i, dc * a_f, dc * a_g, dh * a_o], dim=-1)
            dc = dc * f
            carry = hidden_gates[t] @ weight_hh
        else:
            raise ValueError(f"cell: expected rnn, gru or lstm, got {cell!r}")
    if T == 0:
        nothing = cotangents.new_zeros(0, R, N, {"rnn": 1, "gru": 3, "lstm": 4}[cell] * H)
        return nothing, nothing, carry, dc if cell == "lstm" else None
    sides = torch.stack(gates), torch.stack(hidden_gates)
    return *sides, carry, dc if cell == "lstm" else None
