"""Embeddings: a row's gradient is the sum of the cotangents where it was looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from egl_fast.gradients.contributions import Contribution
from egl_fast.gradients.rules.rule import Pullback, register


@dataclass
class LookedUpRows:
    """A use of a table: most of its rows were not looked up, and their gradient is zero."""

    indices: Tensor  # [P]
    cotangent: Tensor  # [R, P, D]
    num_rows: int  # of the table

    def coordinates(self) -> list[Tensor]:
        used, places = torch.unique(self.indices, return_inverse=True)
        return [self._summed(places, len(used)).unsqueeze(0)]

    def gradient(self) -> Tensor:
        return self._summed(self.indices, self.num_rows)

    def _summed(self, places: Tensor, count: int) -> Tensor:
        num_cotangents, _, width = self.cotangent.shape
        total = self.cotangent.new_zeros(num_cotangents, count, width)
        return total.index_add_(1, places, self.cotangent).flatten(1)


# With ``max_norm``, a call changes the weight.
@register(
    nn.Embedding,
    covers=lambda module: module.max_norm is None and not module.scale_grad_by_freq,
)
def embedding(module: nn.Embedding, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.Embedding``; its ``padding_idx`` gets no gradient."""
    indices: Tensor = args[0].flatten()
    counted = None if module.padding_idx is None else indices != module.padding_idx

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        rows = cotangent.reshape(len(cotangent), len(indices), -1)
        if counted is not None:
            rows = rows * counted[:, None]
        return {"weight": LookedUpRows(indices, rows, module.num_embeddings)}

    return pull
