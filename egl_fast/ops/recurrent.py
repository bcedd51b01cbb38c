"""Backward through time, for the cotangents of many losses at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from egl_fast import _extension
from egl_fast.ops.arguments import check_same_device, given

RecurrentCell = Literal["rnn", "gru", "lstm"]

# The order is RecurrentCell's in csrc/core/recurrent_backward.h.
_RECURRENT_CELLS: tuple[RecurrentCell, ...] = ("rnn", "gru", "lstm")
_NUM_GATES = (1, 3, 4)
_GRU, LSTM = 1, 2


def cell_number(cell: RecurrentCell) -> int:
    """What the operators call a cell.

    Raises:
        ValueError: there is no such cell.
    """
    if cell not in _RECURRENT_CELLS:
        raise ValueError(f"cell: expected one of {', '.join(_RECURRENT_CELLS)}, got {cell!r}")
    return _RECURRENT_CELLS.index(cell)


@dataclass(frozen=True, eq=False)
class RecurrentCotangents:
    """What ``recurrent_backward`` returns.

    Attributes:
        gates: [T, R, N, G * H], cotangents of the input's share of the gates, before their
            nonlinearities; in torch's order.
        hidden_gates: the same for the previous state's share, which differ in the candidate of a
            GRU; for other cells it is ``gates``.
        state: [R, N, H], cotangents of the initial hidden state.
        cell: [R, N, H], cotangents of an LSTM's initial cell state; None for other cells.
    """

    gates: Tensor
    hidden_gates: Tensor
    state: Tensor
    cell: Tensor | None


def recurrent_backward(
    cell: RecurrentCell,
    cotangents: Tensor,
    coefficients: Tensor,
    weight_hh: Tensor,
    *,
    reverse: bool,
    final_cell_cotangents: Tensor | None = None,
) -> RecurrentCotangents:
    """Backward through time for R cotangents over one stored forward pass.

    One layer, one direction. Frames are visited from last to first, or from first to last if
    ``reverse``, with ``dh = cotangents[t] + carry``, where the carry starts at 0. The step is
    linear in dh, with coefficients that all R cotangents of an utterance share. Below, the names
    in parentheses are the P coefficients, and ``W`` is ``weight_hh``:

    - ``"rnn"``, P = 1, (a) with a = 1 - h^2 for tanh: gates = dh a; carry = gates W.
    - ``"gru"``, P = 5, (a_r, a_z, a_n, a_hn, z), where h = (1 - z) n + z h_prev and
      n = tanh(x_n + r h_n): a_n = (1 - z)(1 - n^2), a_r = a_n h_n r (1 - r),
      a_z = (h_prev - n) z (1 - z), a_hn = a_n r. gates = dh (a_r, a_z, a_n);
      hidden_gates = dh (a_r, a_z, a_hn); carry = dh z + hidden_gates W.
    - ``"lstm"``, P = 6, (q, a_i, a_f, a_g, a_o, f): q = o (1 - tanh(c)^2), a_i = g i (1 - i),
      a_f = c_prev f (1 - f), a_g = i (1 - g^2), a_o = tanh(c) o (1 - o). dc = dh q + dc_carry;
      gates = (dc a_i, dc a_f, dc a_g, dh a_o); dc_carry = dc f; carry = gates W.

    There are no lengths: padding frames must have zero coefficients, through which nothing passes.
    With ``reverse`` false, padding follows an utterance and is visited first, so cotangents of
    padding, and ``final_cell_cotangents`` of padded utterances, are lost.

    ``torch.func.vmap`` over ``cotangents`` (and ``final_cell_cotangents``) is one native call, with
    the batch as part of R; other arguments cannot be batched.

    Args:
        cell: which coefficients and gates.
        cotangents: [T, R, N, H] float32 or float64, of the layer's output; any strides, not
            copied if H is contiguous.
        coefficients: [T, N, P, H], same dtype.
        weight_hh: [G * H, H], same dtype, torch's layout: rows are gates.
        reverse: whether the forward pass ran from the last frame to the first.
        final_cell_cotangents: [R, N, H], of an LSTM's final cell state; None for zero.

    Returns:
        RecurrentCotangents in new memory. With T = 0, ``state`` is zero and ``cell`` is
        ``final_cell_cotangents``.

    Raises:
        ValueError: an argument has a wrong dtype or shape, or ``final_cell_cotangents`` is given
            for a cell other than an LSTM.
    """
    number = cell_number(cell)
    check_same_device(
        "cotangents",
        cotangents,
        coefficients=coefficients,
        weight_hh=weight_hh,
        **given(final_cell_cotangents=final_cell_cotangents),
    )
    gates, hidden_gates, state, final = _extension.operators().recurrent_backward.default(
        number,
        cotangents.detach(),
        coefficients.detach(),
        weight_hh.detach(),
        reverse,
        None if final_cell_cotangents is None else final_cell_cotangents.detach(),
    )
    return RecurrentCotangents(
        gates,
        hidden_gates if cell == "gru" else gates,
        state,
        final if cell == "lstm" else None,
    )


def _shape_of_recurrent_backward(
    cell: int, cotangents: Tensor, *rest: Tensor | bool | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    T, R, N, H = cotangents.shape
    sides = (T, R, N, _NUM_GATES[cell] * H)
    return (
        cotangents.new_empty(sides),
        cotangents.new_empty(sides if cell == _GRU else (0,)),
        cotangents.new_empty(R, N, H),
        cotangents.new_empty((R, N, H) if cell == LSTM else (0,)),
    )


def _vmap_recurrent_backward(
    info: Any,
    in_dims: tuple[int | None, ...],
    cell: int,
    cotangents: Tensor,
    coefficients: Tensor,
    weight_hh: Tensor,
    reverse: bool,
    final_cell_cotangents: Tensor | None,
) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
    """The batch B joins the cotangents R: [T, B * R, N, H], in one call."""
    _, cotangents_dim, coefficients_dim, weight_dim, _, final_dim = in_dims
    if coefficients_dim is not None or weight_dim is not None:
        raise NotImplementedError(
            "recurrent_backward: vmap over cotangents only; coefficients and weight_hh belong to "
            "the stored forward pass and cannot be batched"
        )
    B = info.batch_size

    def fold(tensor: Tensor, dim: int | None, r_axis: int) -> Tensor:
        """[..., R, N, H] with a batch at ``dim`` -> [..., B * R, N, H]."""
        if dim is None:
            shape = (*tensor.shape[:r_axis], B, *tensor.shape[r_axis:])
            return tensor.unsqueeze(r_axis).expand(shape).flatten(r_axis, r_axis + 1)
        return tensor.movedim(dim, r_axis).flatten(r_axis, r_axis + 1)

    final = None
    if final_cell_cotangents is not None:
        final = fold(final_cell_cotangents, final_dim, 0)
    gates, hidden_gates, state, cell_state = _extension.operators().recurrent_backward.default(
        cell, fold(cotangents, cotangents_dim, 1), coefficients, weight_hh, reverse, final
    )

    results = (gates, hidden_gates, state, cell_state)
    dims = (1, 1 if cell == _GRU else None, 0, 0 if cell == LSTM else None)
    return tuple(
        result if dim is None else _split(result, dim, B)
        for result, dim in zip(results, dims, strict=True)
    ), dims


def _split(tensor: Tensor, dim: int, batch_size: int) -> Tensor:
    """[..., B * R, ...] -> [..., B, R, ...]; sizes spelled out, since T may be 0."""
    shape = tensor.shape
    return tensor.view(*shape[:dim], batch_size, shape[dim] // batch_size, *shape[dim + 1 :])


torch.library.register_fake("egl_fast::recurrent_backward", _shape_of_recurrent_backward)
torch.library.register_vmap("egl_fast::recurrent_backward", _vmap_recurrent_backward)
