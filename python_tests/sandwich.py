"""A model whose middle is up to the test."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from foreign_models import NUM_BINS, NUM_CLASSES
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Between = Callable[["Sandwich", Tensor], Tensor]


class Sandwich(nn.Module):
    """Linear, something in between, Linear.

    Args:
        between: maps the model and the first layer's output [N, T, 8] to the last layer's input.
        mid: a module for ``between`` to call; by default, a linear layer.
    """

    def __init__(self, between: Between, mid: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inputs = nn.Linear(NUM_BINS, 8)
        self.mid = nn.Linear(8, 8) if mid is None else mid
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.output = nn.Linear(8, NUM_CLASSES)
        self.between = between

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(self.between(self, self.inputs(x)).to(x.dtype)), lengths


class Checkpointed(nn.Module):
    """Checkpoints its first layer, whose input needs no gradient."""

    def __init__(self, *, reentrant: bool, wants_gradient: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mid = nn.Linear(NUM_BINS, 8)
        self.output = nn.Linear(8, NUM_CLASSES)
        self.reentrant, self.wants_gradient = reentrant, wants_gradient

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.wants_gradient:
            x = x.detach().requires_grad_()
        return self.output(checkpoint(self.mid, x, use_reentrant=self.reentrant)), lengths


def gru_sandwich(change: Callable[[nn.Module], object] = lambda gru: None) -> nn.Module:
    model = Sandwich(lambda m, x: m.mid(input=x)[0], mid=nn.GRU(8, 8, batch_first=True)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of torch's own functions are deprecated
        change(model.mid)
    return model
