"""Which recurrent cell a torch module is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from egl_fast.ops import RecurrentCell
from egl_fast.recurrent.clipped_relu import CLIP, ClippedReluRNN


@dataclass(frozen=True)
class Cell:
    """A recurrent cell, in terms of ``ops.recurrent_forward`` and ``ops.recurrent_backward``."""

    kind: RecurrentCell  # which gates
    relu_clip: float | None = None  # upper bound of an RNN's relu; None: tanh, and for other cells


#: A module runs as a scan only if its forward is still this one.
_KINDS: tuple[type[nn.RNNBase], ...] = (ClippedReluRNN, nn.RNN, nn.GRU, nn.LSTM)
TORCH_FORWARDS: dict[type[nn.RNNBase], Callable[..., Any]] = {kind: kind.forward for kind in _KINDS}


def cell_of(module: nn.RNNBase) -> Cell | None:
    """The cell of a torch recurrent module, or None if it cannot run as a scan."""
    if module.proj_size or _has_own_forward(module):
        return None
    if type(module) is ClippedReluRNN:
        return Cell("rnn", relu_clip=CLIP)
    if type(module) is nn.RNN:
        return Cell("rnn", relu_clip=None if module.nonlinearity == "tanh" else math.inf)
    if type(module) is nn.GRU:
        return Cell("gru")
    return Cell("lstm") if type(module) is nn.LSTM else None


def is_projected_lstm(module: nn.RNNBase) -> bool:
    """Whether the module is torch's LSTM with projections, which none of our cells covers."""
    return type(module) is nn.LSTM and module.proj_size > 0 and not _has_own_forward(module)


def _has_own_forward(module: nn.RNNBase) -> bool:
    return "forward" in vars(module) or TORCH_FORWARDS.get(type(module)) is not type(module).forward
