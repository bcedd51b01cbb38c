"""Backward through time for many cotangents, as a torch loop over the frames."""

from __future__ import annotations

import torch
from torch import Tensor


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

    Args:
        cell: "rnn", "gru" or "lstm".
        cotangents: [T, R, N, H] floating point.
        coefficients: [T, N, P, H].
        weight_hh: [G * H, H].
        reverse: whether frames are visited from first to last.
        final_cell_cotangents: [R, N, H], LSTM only; None for zero.

    Returns:
        (gates [T, R, N, G * H], hidden_gates likewise, state [R, N, H], cell [R, N, H] or None).

    Raises:
        ValueError: unknown ``cell``.

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
