"""Few combinations of an utterance's cotangents, chosen and computed step by step.

The slow twin of ``ops.ctc_nbest_cotangents``, given the hypotheses and their numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 2**64 - 1
#: As in csrc/core/cotangent_budget.h and csrc/core/cotangent_rows.h.
MIN_TAIL_PROBES = 4
NOTHING = 1e-8
TIE_BREAK = 1e-10


def split_mix(value: int) -> int:
    """One step of SplitMix64 (Steele, Lea, Flood, 2014), on 64 bits."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def hash_labeling(key: int, labels: list[int]) -> int:
    """64 bits that stand for an utterance's key and a labeling."""
    value = split_mix(key & _MASK)
    for label in labels:
        value = split_mix(value ^ label)
    return split_mix(value ^ len(labels))


def uniform(bits: int) -> float:
    """A number in (0, 1), from the upper 52 bits."""
    return ((bits >> 12) + 0.5) * 2.0**-52


def normal(value: int, index: int) -> float:
    """Number ``index`` of a hypothesis of this hash (Box and Muller, 1958)."""
    first, second = (uniform(split_mix((value + 2 * index + i) & _MASK)) for i in (0, 1))
    return math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)


def relative_tail_deviation(values: list[float]) -> list[float]:
    """Standard deviation of one probe beyond R = 0..K directions, relative to the sum, at most.

    The bound if the model scales all directions alike: that of e^T M e in random signs is at most
    sqrt(2) ||M||_F (Hutchinson, 1990).
    """
    total = sum(values)
    return [
        math.sqrt(2 * sum(v * v for v in values[r:])) / total if total else 0.0
        for r in range(len(values) + 1)
    ]


def budget_for_tolerance(values: list[float], tolerance: float) -> tuple[int, int]:
    """(directions, probes): the fewest passes that should keep the tolerance."""
    deviation = relative_tail_deviation(values)
    safety = tolerance**-0.25
    rank = next((r for r, d in enumerate(deviation) if d <= NOTHING), len(values))
    candidates = [(rank, 0)]
    for r in range(rank):
        probes = max(MIN_TAIL_PROBES, math.ceil((safety * deviation[r] / tolerance) ** 2))
        candidates.append((r, probes))
    fewest = min(sum(c) for c in candidates)
    return next(c for c in candidates if sum(c) == fewest)


def budget_of_probes(values: list[float], probes: int) -> tuple[int, int]:
    """(directions, probes): the best use of a number of passes."""
    deviation = relative_tail_deviation(values)
    most = min(probes - (3 if probes >= 4 else 2), len(values))
    for r in range(most + 1):
        if deviation[r] <= NOTHING:
            return r, 0
    best = min(range(most + 1), key=lambda r: deviation[r] / math.sqrt(probes - r))
    return best, probes - best


def weighted_gram(weights: Tensor, cotangents: Tensor) -> Tensor:
    """D^T D [K, K] for the columns sqrt(w_k) delta_k; cotangents are [K, T, C]."""
    columns = (cotangents * weights.sqrt()[:, None, None]).flatten(1)
    return columns @ columns.T


def eigen(gram: Tensor, tie_breaks: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [K], largest first, and eigenvectors in columns [K, K], ties broken."""
    broken = gram + TIE_BREAK * gram.trace() * torch.diag(tie_breaks)
    values, vectors = torch.linalg.eigh(broken)
    return values.flip(0).clamp_min(0.0), vectors.flip(1)


def combine(vectors: Tensor, budget: tuple[int, int], normals: Tensor) -> Tensor:
    """[R + m, K]: R leading eigenvectors, then m sums of the others under random signs.

    Args:
        vectors: [K, K], in columns.
        budget: R and m.
        normals: [K, m], standard normal: their signs along the eigenvectors are the signs.
    """
    directions, probes = budget
    beyond = vectors[:, directions:]
    signs = torch.where(beyond.T @ normals[:, :probes] < 0, -1.0, 1.0).to(vectors.dtype)
    return torch.cat([vectors[:, :directions].T, (beyond @ signs).T])
