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
    own_forward = (
        "forward" in vars(module) or TORCH_FORWARDS.get(type(module)) is not type(module).forward
    )
    if module.proj_size or own_forward:
        return None
    if type(module) is ClippedReluRNN:
        return Cell("rnn", relu_clip=CLIP)
    if type(module) is nn.RNN:
        return Cell("rnn", relu_clip=None if module.nonlinearity == "tanh" else math.inf)
    if type(module) is nn.GRU:
        return Cell("gru")
    return Cell("lstm") if type(module) is nn.LSTM else None
