"""Samples beyond the beam: the part of the sum over all labelings outside the K best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.methods.keys import labelings_key
from egl_fast.methods.method import Estimate

Labels: TypeAlias = tuple[int, ...]

#: From the rows' squared norms [m], and the output layer's share of them [m], to an estimate of
#: E_y [y not among the K] ||g_y||^2 that is unbiased over draws and signs.
Estimator: TypeAlias = Callable[[Tensor, Tensor], Estimate]


def sample_labelings(
    log_probs: Tensor, num_samples: int, *, seed: int, name: str, blank: int = 0
) -> list[Labels]:
    """Labelings drawn exactly from p(y|x), in the order drawn; they may repeat.

    Frames are conditionally independent under CTC, so one class drawn per frame, collapsed (repeats
    merged, blanks dropped), is a draw from p(y|x) (Graves et al., 2006, eq. 2 and 3).

    Args:
        log_probs: [T, C] of one utterance.
        num_samples: n.
        seed: of the run.
        name: the utterance's id.
        blank: index of the blank.

    Raises:
        ValueError: a frame has NaN or +inf, or no possible class.
    """
    random = np.random.Generator(np.random.Philox(key=labelings_key(seed, name)))
    num_frames, num_classes = log_probs.shape
    cumulative = log_probs.detach().double().exp().cumsum(1).cpu().numpy()
    total = cumulative[:, -1]
    bad = np.flatnonzero(~(np.isfinite(total) & (total > 0)))
    if len(bad):
        raise ValueError(
            f"log_probs: expected probabilities, frame {bad[0]} adds up to {total[bad[0]]}"
        )
    uniform = random.random((num_samples, num_frames)) * total
    # The first class whose cumulative probability exceeds the number. One draw at a time, as all
    # of them would take n T C bytes.
    paths = [
        (draw[:, None] >= cumulative).sum(axis=1).clip(max=num_classes - 1) for draw in uniform
    ]
    return [_collapsed(path.tolist(), blank) for path in paths]


def _collapsed(path: list[int], blank: int) -> Labels:
    pairs = zip([blank, *path], path, strict=False)
    return tuple(label for before, label in pairs if label not in (blank, before))


@dataclass(frozen=True)
class Samples:
    """Labelings drawn from p(y|x), and how those outside the K best are pulled back.

    Draws among the K count as zero. So none is rejected, and nothing is divided by what may be a
    small probability.
    """

    labelings: list[Labels]  # the D distinct draws outside
    # From their cotangents [D, T, C] float64, and the output layer's frame Gram matrix [T, T] or
    # None, to rows [m, T, C] and their estimator.
    rows: Callable[[Tensor, Tensor | None], tuple[Tensor, Estimator]]


def separate_samples(draws: Sequence[Labels], inside: Collection[Labels]) -> Samples:
    """A row for each distinct draw; n is at least 2."""
    counted = Counter(y for y in draws if y not in inside)
    counts = torch.tensor(list(counted.values()), dtype=torch.float64)
    n = len(draws)

    def estimate(sq_norms: Tensor, output_share: Tensor) -> Estimate:
        mean = float(counts @ sq_norms) / n
        squares = float(counts @ (sq_norms - mean).square())
        squares += (n - float(counts.sum())) * mean**2  # the draws that count as zero
        return Estimate(mean, squares / (n - 1) / n)

    return Samples(list(counted), lambda cotangents, _: (cotangents, estimate))


def signed_groups(
    draws: Sequence[Labels], inside: Collection[Labels], *, num_groups: int, key: int
) -> Samples:
    """A row for each of m groups of draws: their sum under random signs.

    Groups are independent in draws and in signs, so their spread shows the error of both. There are
    no more groups than draws; ``key`` decides the signs, as in ``ops.ctc_nbest_cotangents``.
    """
    m = min(num_groups, len(draws))
    groups = [draws[i::m] for i in range(m)]
    counts = [Counter(y for y in group if y not in inside) for group in groups]
    labelings = list(dict.fromkeys(y for count in counts for y in count))
    # [m, D]: how often each labeling is in a group, over the group's size.
    shares = torch.tensor(
        [[c[y] / len(group) for y in labelings] for c, group in zip(counts, groups, strict=True)],
        dtype=torch.float64,
    ).view(m, len(labelings))
    normals = ops.ctc_hypothesis_normals(
        ops.Hypotheses.of([labelings]), torch.tensor([key]), num_normals=m
    )
    weights = shares.sqrt() * torch.where(normals[0] < 0, -1.0, 1.0).double().T

    def rows(cotangents: Tensor, frame_gram: Tensor | None) -> tuple[Tensor, Estimator]:
        combined: Tensor = torch.tensordot(weights.to(cotangents.device), cotangents, dims=1)
        known: Tensor | None = None
        if frame_gram is not None:
            known = shares @ (cotangents * torch.matmul(frame_gram, cotangents)).sum((1, 2)).cpu()

        def estimate(sq_norms: Tensor, output_share: Tensor) -> Estimate:
            if known is not None:  # exactly, for every draw
                sq_norms = sq_norms - output_share + known
            return Estimate(float(sq_norms.mean()), float(sq_norms.var() / sq_norms.numel()))

        return combined, estimate

    return Samples(labelings, rows)
