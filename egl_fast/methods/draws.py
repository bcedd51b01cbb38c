"""Labelings drawn from the model, and what those outside the beam add to the sum.

If c_y of n draws are labeling y, the sum of (c_y / n) ||g_y||^2 over those outside the K best
is an unbiased estimate of E_y [y not among the K] ||g_y||^2. Its columns sqrt(c_y / n) delta_y are
compressed as those of the hypotheses are. docs/estimators.md has the derivations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.methods.budget import Budget, Eigenvalues
from egl_fast.methods.directions_and_probes import DirectionsAndProbes
from egl_fast.methods.method import Estimate
from egl_fast.methods.samples import Labels
from egl_fast.methods.sparse_cotangents import SparseCotangents, energies_of

#: Further draws per draw that may be pulled back; only the lengths of their cotangents are used.
MORE_DRAWS: Final = 4
#: Ties among eigenvalues are broken as in csrc/core/cotangent_rows.h.
TIE_BREAK: Final = 1e-10


@dataclass(frozen=True)
class Draws:
    """An estimate of E_y [y not among the K] ||g_y||^2 from the draws outside the beam.

    Draws among the K count as zero. So none is rejected, and nothing is divided by a probability
    that may be small.
    """

    num_draws: int  # n
    counts: Tensor  # [D] float64, of the distinct labelings outside, in the order drawn
    energies: Tensor  # [D] float64, their ||delta_y||^2
    first: Tensor  # [2] the labelings of the first two draws outside; fewer if there are not two
    num_own: int  # labelings that are rows themselves, among them those two; the first ones
    rest: DirectionsAndProbes | None  # rows for the others; None if there are no others
    more_energies: Tensor  # [N] float64, ||delta_y||^2 of further draws, 0 if among the K

    def __len__(self) -> int:
        """Rows."""
        return self.num_own + (0 if self.rest is None else len(self.rest))

    def estimate(self, sq_norms: Tensor, output_share: Tensor, *, gain: float) -> Estimate:
        """The estimate, unbiased over draws and signs.

        Args:
            sq_norms: [len(self)] squared norms of the rows' gradients over all parameters.
            output_share: [len(self)] the output layer's share.
            gain: roughly ||g_y||^2 / ||delta_y||^2, from anything but these draws. The lengths of
                many more draws tell by how much these ones are longer or shorter than usual.
        """
        n, more = self.num_draws, self.more_energies
        slope = gain * len(more) / (len(more) + n)  # minimizes the variance if the gain is exact
        own = sq_norms[: self.num_own]
        value = float(self.counts[: self.num_own] @ own) / n
        variance = 0.0
        if self.rest is not None:
            share = float(self.counts[self.num_own :].sum()) / n
            rest = self.rest.estimate(sq_norms[self.num_own :], output_share[self.num_own :])
            value += share * rest.value
            variance += share**2 * rest.variance
        # Squared norms minus what the lengths predict: known for labelings with their own rows.
        left = own - slope * self.energies[: self.num_own]
        mean = value - slope * float(self.counts @ self.energies) / n
        if self.rest is None:
            spread = (float(self.counts @ left.square()) - n * mean**2) / (n - 1)
        else:
            # The variance is P E[left^2] - P^2 E[left]^2, P the probability outside the beam. Two
            # independent draws estimate both expectations without bias.
            one, two = left[self.first].tolist()
            outside = float(self.counts.sum()) / n
            pairs = outside * (outside * n - 1) / (n - 1)
            spread = outside * (one**2 + two**2) / 2 - pairs * one * two
        variance += spread / n + slope**2 * float(more.var()) / len(more)
        return Estimate(mean + slope * float(more.mean()), variance)


def compressed_draws(
    log_probs: Tensor,
    labelings: Sequence[Labels],
    inside: Collection[Labels],
    *,
    num_draws: int,
    budget: Callable[[Eigenvalues], Budget],
    key: int,
    frame_gram: Tensor | None,
    blank: int,
) -> tuple[Tensor, Draws]:
    """The rows of an utterance's draws [R, T, C] float64, and what they mean.

    Args:
        log_probs: [T, C] float64.
        labelings: drawn from p(y|x); the first ``num_draws`` may be pulled back.
        inside: the K best, which count as zero.
        num_draws: n, at least 2.
        budget: from eigenvalues, largest first, to directions and probes.
        key: decides signs, as in ``ops.ctc_nbest_cotangents``.
        frame_gram: [T, T] float64, of the output layer's inputs; None if unknown.
        blank: index of the blank.
    """
    outside = [y for y in labelings[:num_draws] if y not in inside]
    counted = Counter(outside)
    distinct = list(counted)
    counts = torch.tensor([counted[y] for y in distinct], dtype=torch.float64)
    cotangents = SparseCotangents.of(log_probs, distinct, blank=blank)
    energies = cotangents.sq_norms()
    first = torch.tensor([distinct.index(y) for y in outside[:2]], dtype=torch.int64)
    num_own = len(set(outside[:2]))
    combined = None
    if len(distinct) > num_own:
        combined = _compressed(
            cotangents[num_own:], counts[num_own:], distinct[num_own:], budget, key, frame_gram
        )
    if combined is None:
        rows, rest, num_own = cotangents.rows(), None, len(distinct)
    else:
        more_rows, rest = combined
        rows = torch.cat([cotangents[:num_own].rows(), more_rows])
    draws = Draws(
        num_draws=num_draws,
        counts=counts,
        energies=energies,
        first=first,
        num_own=num_own,
        rest=rest,
        more_energies=energies_of(log_probs, labelings[num_draws:], inside, blank=blank),
    )
    return rows, draws


def _compressed(
    cotangents: SparseCotangents,
    counts: Tensor,
    labelings: Sequence[Labels],
    budget: Callable[[Eigenvalues], Budget],
    key: int,
    frame_gram: Tensor | None,
) -> tuple[Tensor, DirectionsAndProbes] | None:
    """Directions and probes; None if there would not be fewer of them than labelings."""
    weights = counts / counts.sum()
    scales = weights.sqrt()
    hypotheses, keys = ops.Hypotheses.of([labelings]), torch.tensor([key])
    gram = cotangents.gram(scales)
    total = gram.trace().clamp_min(torch.finfo(gram.dtype).tiny)
    [ties] = ops.ctc_hypothesis_normals(hypotheses, keys, num_normals=1)
    gram = gram / total + TIE_BREAK * torch.diag(ties[:, 0].square())
    try:
        values, vectors = torch.linalg.eigh(gram)
    except RuntimeError:  # no convergence; without compression it takes longer but succeeds
        return None
    values, vectors = values.flip(0).clamp_min(0.0), vectors.flip(1)
    directions, probes = budget(values.numpy())
    if directions + probes >= len(labelings):
        return None
    # As in csrc/core/cotangent_rows.cpp: the signs along eigenvectors are those of normal numbers
    # that belong to the labelings. The first number has broken the ties.
    [normals] = ops.ctc_hypothesis_normals(hypotheses, keys, num_normals=1 + probes)
    beyond = vectors[:, directions:]
    signs = torch.where(beyond.T @ normals[:, 1:] < 0, -1.0, 1.0).double()
    combinations = torch.cat([vectors[:, :directions], beyond @ signs], dim=1).T
    rest = DirectionsAndProbes(
        weights=weights,
        combinations=combinations,
        num_directions=directions,
        tail_energy=total * (vectors[:, directions:].square() @ values[directions:]),
        output_sq_norms=None if frame_gram is None else cotangents.output_sq_norms(frame_gram),
    )
    return cotangents.rows(combinations * scales), rest
