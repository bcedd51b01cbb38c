"""A recurrent layer over all frames, and what its backward pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egl_fast import _extension
from egl_fast.ops.arguments import check_same_device, given
from egl_fast.ops.recurrent import LSTM, RecurrentCell, cell_number

_NUM_COEFFICIENTS = (1, 5, 6)


@dataclass(frozen=True, eq=False)
class RecurrentScan:
    """One direction of a recurrent layer; all tensors float32, or all float64.

    Attributes:
        projected: [T, N, G * H], the input's share of the gates; any strides, not copied if the
            last dimension is contiguous.
        weight_hh: [G * H, H], torch's layout: rows are gates.
        bias_hh: [G * H] or None.
        initial_state: [N, H].
        initial_cell: [N, H] of an LSTM; None for other cells.
        reverse: run from the last frame to the first.
    """

    projected: Tensor
    weight_hh: Tensor
    bias_hh: Tensor | None
    initial_state: Tensor
    initial_cell: Tensor | None = None
    reverse: bool = False


@dataclass(frozen=True, eq=False)
class RecurrentStates:
    """The result of a ``RecurrentScan``, in new memory and the dtype of its tensors.

    Attributes:
        states: [T, N, H].
        previous: [T, N, H], the state that each frame started from.
        coefficients: [T, N, P, H], as ``recurrent_backward`` takes them.
        final_cell: [N, H], an LSTM's last cell state; None for other cells.
    """

    states: Tensor
    previous: Tensor
    coefficients: Tensor
    final_cell: Tensor | None


def recurrent_forward(
    cell: RecurrentCell,
    scans: Sequence[RecurrentScan],
    *,
    relu_clip: float | None = None,
    valid: Tensor | None = None,
    precise: bool = False,
) -> list[RecurrentStates]:
    """The directions of a recurrent layer, each over all frames, side by side.

    With u = weight_hh h + bias_hh for the previous state h, x the projected input, and gates in
    torch's order:

    - ``"rnn"``: tanh(x + u), or min(max(x + u, 0), relu_clip).
    - ``"gru"``: r, z = sigmoid(x + u), n = tanh(x_n + r u_n), (1 - z) n + z h.
    - ``"lstm"``: i, f, o = sigmoid(x + u), g = tanh(x_g + u_g), c = f c + i g, o tanh(c).

    Each utterance and gate is summed separately, in the order of the hidden units. So results are
    the same to the last bit for any number of threads and any other utterances in the call.
    Nonlinearities are computed in float64.

    Args:
        cell: which gates.
        scans: one per direction, of one shape and dtype.
        relu_clip: upper bound of an RNN's relu, ``math.inf`` for none; None: tanh, and for other
            cells.
        valid: [T, N] bool, False on padding, which resets the state and has zero states and
            coefficients; None: no padding.
        precise: carry the states of float32 scans from frame to frame, and sum the products, in
            float64; float64 scans always do.

    Returns:
        A RecurrentStates for each direction. With T = 0, ``final_cell`` is ``initial_cell``.

    Raises:
        ValueError: there is no scan, an argument has a wrong dtype or shape, some scans have a bias
            and some have none, ``relu_clip`` is not above 0, or it is given for a GRU or LSTM.
    """
    number = cell_number(cell)
    if not scans:
        raise ValueError("scans: expected at least one, got none")
    for scan in scans:
        check_same_device(
            "projected",
            scans[0].projected,
            projected=scan.projected,
            weight_hh=scan.weight_hh,
            initial_state=scan.initial_state,
            **given(bias_hh=scan.bias_hh, initial_cell=scan.initial_cell, valid=valid),
        )

    def present(tensors: list[Tensor | None]) -> list[Tensor]:
        return [tensor.detach() for tensor in tensors if tensor is not None]

    results = _extension.operators().recurrent_forward.default(
        number,
        relu_clip,
        present([scan.projected for scan in scans]),
        present([scan.weight_hh for scan in scans]),
        present([scan.bias_hh for scan in scans]),
        present([scan.initial_state for scan in scans]),
        present([scan.initial_cell for scan in scans]),
        valid,
        [scan.reverse for scan in scans],
        precise,
    )
    return [
        RecurrentStates(states, previous, coefficients, final if cell == "lstm" else None)
        for states, previous, coefficients, final in zip(*results, strict=True)
    ]


def _shape_of_recurrent_forward(
    cell: int,
    relu_clip: float | None,
    projected: list[Tensor],
    weight_hh: list[Tensor],
    bias_hh: list[Tensor],
    initial_state: list[Tensor],
    *rest: object,
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    T, N, _ = projected[0].shape
    H = initial_state[0].shape[1]

    def each(*shape: int) -> list[Tensor]:
        return [x.new_empty(shape) for x in projected]

    return (
        each(T, N, H),
        each(T, N, H),
        each(T, N, _NUM_COEFFICIENTS[cell], H),
        each(N if cell == LSTM else 0, H),
    )


torch.library.register_fake("egl_fast::recurrent_forward", _shape_of_recurrent_forward)
