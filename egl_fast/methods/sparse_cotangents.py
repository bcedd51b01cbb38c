"""Cotangents of many labelings of one utterance, which differ in few classes.

delta_y = softmax - occupancy_y, and occupancy_y is zero at classes that are not in y. With a
vocabulary of thousands, the classes of all labelings together are still few; beyond them all
cotangents are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.methods.samples import Labels

#: Labelings whose occupancies are in memory together, if only the cotangents' lengths are wanted.
_BLOCK = 256


@dataclass(frozen=True)
class SparseCotangents:
    """Cotangents [D, T, C] of D labelings, in float64. Results are on the CPU, except for rows."""

    classes: Tensor  # [V] that are in a labeling, and the blank
    values: Tensor  # [D, T, V] cotangents at these classes
    rest: Tensor  # [T, C] cotangents at all others, the same for every labeling; 0 at the V

    @staticmethod
    def of(log_probs: Tensor, labelings: Sequence[Labels], *, blank: int) -> SparseCotangents:
        """Cotangents of labelings, from log-probabilities [T, C] float64."""
        device = log_probs.device
        used = sorted({blank}.union(*labelings))
        place = {label: v for v, label in enumerate(used)}
        classes = torch.tensor(used).to(device)
        own = log_probs[:, classes]
        renamed = ops.Hypotheses.of([[tuple(place[label] for label in y) for y in labelings]])
        _, [occupancy] = ops.ctc_occupancy(
            own[None],
            torch.tensor([len(own)]).to(device),
            renamed.to(device),
            blank=place[blank],
        )
        rest = log_probs.exp()
        rest[:, classes] = 0.0
        return SparseCotangents(classes, own.exp() - occupancy, rest)

    def __getitem__(self, some: slice) -> SparseCotangents:
        return replace(self, values=self.values[some])

    def sq_norms(self) -> Tensor:
        """[D], ||delta_y||^2."""
        return (self.values.square().sum((1, 2)) + self.rest.square().sum()).cpu()

    def output_sq_norms(self, frame_gram: Tensor) -> Tensor:
        """[D], sums over classes of delta_y^T frame_gram delta_y, for frame_gram [T, T]."""
        own = (self.values * (frame_gram @ self.values)).sum((1, 2))
        return (own + (self.rest * (frame_gram @ self.rest)).sum()).cpu()

    def gram(self, scales: Tensor) -> Tensor:
        """[D, D], inner products of scales_y delta_y."""
        columns = (self.values * scales.to(self.values.device)[:, None, None]).flatten(1)
        return (columns @ columns.T).cpu() + self.rest.square().sum().cpu() * torch.outer(
            scales, scales
        )

    def rows(self, combinations: Tensor | None = None) -> Tensor:
        """[R, T, C], sums over y of combinations[r, y] delta_y; without, the D cotangents."""
        values, multiples = self.values, self.values.new_ones(len(self.values))
        if combinations is not None:
            combinations = combinations.to(values.device)
            values, multiples = torch.tensordot(combinations, values, 1), combinations.sum(1)
        rows = multiples[:, None, None] * self.rest
        rows[:, :, self.classes] = values
        return rows


def energies_of(
    log_probs: Tensor, draws: Sequence[Labels], inside: Collection[Labels], *, blank: int
) -> Tensor:
    """[N] float64, ||delta_y||^2 of every draw; 0 for those inside."""
    known: dict[Labels, float] = dict.fromkeys(inside, 0.0)
    new = [y for y in dict.fromkeys(draws) if y not in known]
    for start in range(0, len(new), _BLOCK):
        block = new[start : start + _BLOCK]
        sq_norms = SparseCotangents.of(log_probs, block, blank=blank).sq_norms()
        known.update(zip(block, sq_norms.tolist(), strict=True))
    return torch.tensor([known[y] for y in draws], dtype=torch.float64)
