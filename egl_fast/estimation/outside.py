"""The part of the sum over all labelings that lies outside the K best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egl_fast import ops

Labels = tuple[int, ...]


@dataclass(frozen=True)
class OutsideEstimate:
    """Of E_y [y not among the K] ||g_y||^2.

    Attributes:
        value: unbiased over draws and signs.
        variance: unbiased estimate of the value's variance, of both kinds of randomness.
    """

    value: float
    variance: float


class OutsideDraws:
    """n labelings drawn from p(y|x), those outside the K pulled back one by one.

    Draws inside count as zero: no rejection, and no division by a small rest of probability.

    Args:
        draws: n labelings, at least 2.
        inside: the K best.

    Attributes:
        labelings: the distinct draws outside, whose cotangents [D, T, C] are to be pulled back.
    """

    def __init__(self, draws: Sequence[Labels], inside: Collection[Labels]) -> None:
        self._num_draws = len(draws)
        self._counts = Counter(labels for labels in draws if labels not in inside)
        self.labelings = list(self._counts)

    def finish(self, sq_norms: Tensor) -> OutsideEstimate:
        """From [D] squared norms."""
        counts = torch.tensor(list(self._counts.values()), dtype=torch.float64)
        mean = float(counts @ sq_norms) / self._num_draws
        squares = float(counts @ (sq_norms - mean).square())
        squares += (self._num_draws - float(counts.sum())) * mean**2  # the draws that count as zero
        return OutsideEstimate(mean, squares / (self._num_draws - 1) / self._num_draws)


class OutsideGroups:
    """The draws in groups, each one cotangent with random signs of its own.

    Groups are independent in draws and in signs, so their spread is the error of both.

    Args:
        draws: n labelings, at least 2.
        inside: the K best.
        num_groups: m, at least 2; no more than draws are made.
        key: decides the signs, as in ``ops.ctc_nbest_cotangents``.

    Attributes:
        labelings: the distinct draws outside; ``combine`` wants their cotangents.
    """

    def __init__(
        self,
        draws: Sequence[Labels],
        inside: Collection[Labels],
        *,
        num_groups: int,
        key: int,
    ) -> None:
        num_groups = min(num_groups, len(draws))
        groups = [draws[i::num_groups] for i in range(num_groups)]
        counts = [Counter(y for y in group if y not in inside) for group in groups]
        self.labelings = list(dict.fromkeys(y for count in counts for y in count))
        #: [m, D]: how often each labeling is in a group, over the group's size.
        self._shares = torch.tensor(
            [
                [count[y] / len(group) for y in self.labelings]
                for count, group in zip(counts, groups, strict=True)
            ],
            dtype=torch.float64,
        ).view(num_groups, len(self.labelings))
        normals = ops.ctc_hypothesis_normals(
            ops.Hypotheses.of([self.labelings]), torch.tensor([key]), num_normals=num_groups
        )
        self._signs = torch.where(normals[0] < 0, -1.0, 1.0).double()
        self._of_output: Tensor | None = None

    def combine(self, cotangents: Tensor, frame_gram: Tensor | None) -> Tensor:
        """[m, T, C] to pull back, from the labelings' cotangents [D, T, C].

        Args:
            cotangents: float64.
            frame_gram: [T, T] of the output layer's inputs, or None.
        """
        own = None
        if frame_gram is not None:
            own = (cotangents * torch.matmul(frame_gram, cotangents)).sum((1, 2)).cpu()
        self._of_output = None if own is None else self._shares @ own
        weights = (self._shares.sqrt() * self._signs.T).to(cotangents.device)
        combined: Tensor = torch.tensordot(weights, cotangents, dims=1)
        return combined

    def finish(self, sq_norms: Tensor, of_output: Tensor) -> OutsideEstimate:
        """From [m] squared norms and the output layer's share of them."""
        if self._of_output is not None:  # known for every draw: no need of the signs' estimate
            sq_norms = sq_norms - of_output + self._of_output
        return OutsideEstimate(float(sq_norms.mean()), float(sq_norms.var() / sq_norms.numel()))
