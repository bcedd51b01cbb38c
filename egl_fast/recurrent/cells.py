"""Recurrent cells: a step forward, and what backward through time needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from egl_fast.model import CLIP, ClippedReluRNN


class Cell(Protocol):
    """One step of a recurrent cell, and what its backward pass needs to know of a step.

    ``step`` takes the projected input [N, G*H], the recurrent product [N, G*H] (bias included)
    and the previous state (and cell state), and returns the new ones with the values to keep.
    ``coefficients`` turns the kept values of all frames, [T, N, H] each, into the factors
    [T, N, P, H] of ``ops.recurrent_backward``.
    """

    kind: str

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]: ...

    def coefficients(
        self, kept: list[Tensor], states: Tensor, previous: Tensor
    ) -> list[Tensor]: ...


class TanhCell:
    """h_t = tanh(W x_t + U h_(t-1) + b)."""

    kind = "rnn"

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        return (projected + recurrent).tanh(), cell_state, ()

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        return [1 - states.square()]


class ReluCell:
    """h_t = min(max(W x_t + U h_(t-1) + b, 0), clip)."""

    kind = "rnn"

    def __init__(self, clip: float) -> None:
        self.clip = clip

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        total = projected + recurrent
        # torch passes a gradient through clamp at its very bounds, and none through relu at 0.
        inside = total > 0 if self.clip == torch.inf else (total >= 0) & (total <= self.clip)
        return total.clamp(0.0, self.clip), cell_state, (inside.to(total.dtype),)

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        return kept


class GruCell:
    """Gated recurrent unit in torch's form, gates in the order r, z, n."""

    kind = "gru"

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        hidden = state.shape[-1]
        gates = (projected[:, : 2 * hidden] + recurrent[:, : 2 * hidden]).sigmoid()
        r, z = gates[:, :hidden], gates[:, hidden:]
        candidate = recurrent[:, 2 * hidden :]
        n = torch.addcmul(projected[:, 2 * hidden :], r, candidate).tanh()
        return torch.lerp(n, state, z), cell_state, (r, z, n, candidate)

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        r, z, n, candidate = kept
        to_n = (1 - z) * (1 - n.square())
        to_r = to_n * candidate * r * (1 - r)
        to_z = (previous - n) * z * (1 - z)
        return [to_r, to_z, to_n, to_n * r, z]


class LstmCell:
    """Long short-term memory in torch's form, gates in the order i, f, g, o."""

    kind = "lstm"

    def step(
        self, projected: Tensor, recurrent: Tensor, state: Tensor, cell_state: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """See ``Cell``."""
        i, f, g, o = (projected + recurrent).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        new_cell = torch.addcmul(f * cell_state, i, g)
        squashed = new_cell.tanh()
        return o * squashed, new_cell, (i, f, g, o, cell_state, squashed)

    def coefficients(self, kept: list[Tensor], states: Tensor, previous: Tensor) -> list[Tensor]:
        """See ``Cell``."""
        i, f, g, o, cell_before, squashed = kept
        return [
            o * (1 - squashed.square()),
            g * i * (1 - i),
            cell_before * f * (1 - f),
            i * (1 - g.square()),
            squashed * o * (1 - o),
            f,
        ]


#: What a module must run to be run as a scan instead; others may have replaced it.
_KINDS: tuple[type[nn.RNNBase], ...] = (ClippedReluRNN, nn.RNN, nn.GRU, nn.LSTM)
TORCH_FORWARDS: dict[type[nn.RNNBase], Callable[..., Any]] = {kind: kind.forward for kind in _KINDS}


def cell_of(module: nn.RNNBase) -> Cell | None:
    """The cell of a torch recurrent module, or None where the scan has no form for it."""
    own_forward = (
        "forward" in vars(module) or TORCH_FORWARDS.get(type(module)) is not type(module).forward
    )
    if module.proj_size or own_forward:
        return None
    if type(module) is ClippedReluRNN:
        return ReluCell(CLIP)
    if type(module) is nn.RNN:
        return TanhCell() if module.nonlinearity == "tanh" else ReluCell(torch.inf)
    if type(module) is nn.GRU:
        return GruCell()
    return LstmCell() if type(module) is nn.LSTM else None
