"""Samples beyond the beam: the part of the sum over all labelings outside the K best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.methods.keys import digest
from egl_fast.methods.method import Estimate

Labels: TypeAlias = tuple[int, ...]

#: From the rows' squared norms [m] and the output layer's share of them [m] to an estimate of
#: E_y [y not among the K] ||g_y||^2, unbiased over draws and signs.
Reading: TypeAlias = Callable[[Tensor, Tensor], Estimate]


def sample_labelings(
    log_probs: Tensor, num_samples: int, *, seed: int, name: str, blank: int = 0
) -> list[Labels]:
    """Labelings drawn exactly from p(y|x).

    Frames are conditionally independent under CTC, so one class a frame, collapsed (repeats merged,
    blanks dropped), is a draw from p(y|x) (Graves et al., 2006, eq. 2 and 3).

    Args:
        log_probs: [T, C] of one utterance.
        num_samples: n.
        seed: of the run.
        name: the utterance's id; with the seed it decides the random numbers.
        blank: index of the blank.

    Returns:
        n labelings, in the order drawn; they may repeat.

    Raises:
        ValueError: a frame has NaN or +inf, or no possible class.
    """
    key = int.from_bytes(digest("labelings", seed, name)[:16], "little")
    random = np.random.Generator(np.random.Philox(key=key))
    num_frames, num_classes = log_probs.shape
    cumulative = log_probs.detach().double().exp().cumsum(1).cpu().numpy()
    total = cumulative[:, -1]
    bad = np.flatnonzero(~(np.isfinite(total) & (total > 0)))
    if len(bad):
        raise ValueError(
            f"log_probs: expected probabilities, frame {bad[0]} adds up to {total[bad[0]]}"
        )
    uniform = random.random((num_samples, num_frames)) * total
    # The first class whose cumulative probability exceeds the number. One draw at a time: all of
    # them against all classes would take n T C bytes.
    paths = [
        (draw[:, None] >= cumulative).sum(axis=1).clip(max=num_classes - 1) for draw in uniform
    ]
    return [_collapsed(path.tolist(), blank) for path in paths]


def _collapsed(path: list[int], blank: int) -> Labels:
    pairs = zip([blank, *path], path, strict=False)
    return tuple(label for before, label in pairs if label not in (blank, before))


class Samples(Protocol):
    """n labelings drawn from p(y|x). Those among the K count as zero: nothing is rejected, and
    nothing divided by a small rest of probability.
    """

    @property
    def labelings(self) -> list[Labels]:
        """The D distinct draws outside the K."""
        ...

    def rows(self, cotangents: Tensor, frame_gram: Tensor | None) -> tuple[Tensor, Reading]:
        """[m, T, C] to pull back, and how to read what comes of it.

        Args:
            cotangents: [D, T, C] float64 of ``labelings``.
            frame_gram: [T, T] of the output layer's inputs, or None.
        """
        ...


@dataclass(frozen=True)
class SeparateSamples:
    """The distinct draws outside, pulled back one by one.

    Attributes:
        counts: how often each was drawn.
        num_draws: n.
    """

    counts: dict[Labels, int]
    num_draws: int

    @staticmethod
    def of(draws: Sequence[Labels], inside: Collection[Labels]) -> SeparateSamples:
        """From n draws, at least 2, and the K best."""
        return SeparateSamples(Counter(y for y in draws if y not in inside), len(draws))

    @property
    def labelings(self) -> list[Labels]:
        """See ``Samples``."""
        return list(self.counts)

    def rows(self, cotangents: Tensor, frame_gram: Tensor | None) -> tuple[Tensor, Reading]:
        """See ``Samples``."""
        return cotangents, self._estimate

    def _estimate(self, sq_norms: Tensor, of_output: Tensor) -> Estimate:
        counts = torch.tensor(list(self.counts.values()), dtype=torch.float64)
        mean = float(counts @ sq_norms) / self.num_draws
        squares = float(counts @ (sq_norms - mean).square())
        squares += (self.num_draws - float(counts.sum())) * mean**2  # the draws that count as zero
        return Estimate(mean, squares / (self.num_draws - 1) / self.num_draws)


@dataclass(frozen=True)
class SignedGroups:
    """The draws in m groups, each one row with random signs of its own.

    Groups are independent in draws and in signs, so their spread is the error of both.

    Attributes:
        labelings: see ``Samples``.
        shares: [m, D]: how often each labeling is in a group, over the group's size.
        signs: [D, m].
    """

    labelings: list[Labels]
    shares: Tensor
    signs: Tensor

    @staticmethod
    def of(
        draws: Sequence[Labels], inside: Collection[Labels], *, num_groups: int, key: int
    ) -> SignedGroups:
        """From n draws, at least 2, and the K best.

        Args:
            draws: n labelings.
            inside: the K best.
            num_groups: m, at least 2; no more than draws are made.
            key: decides the signs, as in ``ops.ctc_nbest_cotangents``.
        """
        num_groups = min(num_groups, len(draws))
        groups = [draws[i::num_groups] for i in range(num_groups)]
        counts = [Counter(y for y in group if y not in inside) for group in groups]
        labelings = list(dict.fromkeys(y for count in counts for y in count))
        shares = [
            [count[y] / len(group) for y in labelings]
            for count, group in zip(counts, groups, strict=True)
        ]
        normals = ops.ctc_hypothesis_normals(
            ops.Hypotheses.of([labelings]), torch.tensor([key]), num_normals=num_groups
        )
        return SignedGroups(
            labelings,
            torch.tensor(shares, dtype=torch.float64).view(num_groups, len(labelings)),
            torch.where(normals[0] < 0, -1.0, 1.0).double(),
        )

    def rows(self, cotangents: Tensor, frame_gram: Tensor | None) -> tuple[Tensor, Reading]:
        """See ``Samples``."""
        weights = (self.shares.sqrt() * self.signs.T).to(cotangents.device)
        combined: Tensor = torch.tensordot(weights, cotangents, dims=1)
        known = None
        if frame_gram is not None:
            own = (cotangents * torch.matmul(frame_gram, cotangents)).sum((1, 2)).cpu()
            known = self.shares @ own

        def estimate(sq_norms: Tensor, of_output: Tensor) -> Estimate:
            if known is not None:  # for every draw: no need of the signs' estimate
                sq_norms = sq_norms - of_output + known
            return Estimate(float(sq_norms.mean()), float(sq_norms.var() / sq_norms.numel()))

        return combined, estimate
