"""Which combinations of the hypotheses are worth a backward pass of their own.

Hypotheses of a beam are combinations of a few local edits, so a few directions carry nearly all of
the cotangents' energy. Which, and how many, is decided by the cotangents' Gram matrix alone, which
costs no backward pass: a choice that looked at the estimate's own spread would bias it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Probes that estimate the tail under a tolerance, at least: their spread is the error bar.
MIN_TAIL_PROBES = 4

#: A model does not scale all directions alike. On recorded speech what is left beyond R directions
#: deviates by up to this many times what it would then, but for some clips in a hundred.
SAFETY = 3.0

#: Relative energy below which the tail is rounding.
_NOTHING = 1e-12


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues and eigenvectors of a Gram matrix, largest first.

    Attributes:
        values: [K] float64, not negative.
        vectors: [K, K] float64, in columns.
    """

    values: Tensor
    vectors: Tensor

    @staticmethod
    def of(gram: Tensor) -> Spectrum:
        """Of a symmetric positive semi-definite matrix [K, K]."""
        values, vectors = torch.linalg.eigh(gram)
        return Spectrum(values.flip(0).clamp_min(0.0), vectors.flip(1))

    def relative_tail_deviation(self) -> Tensor:
        """[K + 1]: standard deviation of one probe of the tail beyond R directions, R = 0..K.

        Relative to the sum, and as it were if the model scaled all directions alike. Of a form
        e^T M e in random signs e it is at most sqrt(2) ||M||_F (Hutchinson, 1990).
        """
        squares = self.values.square()
        tails = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])
        return (2 * tails).sqrt() / self.values.sum().clamp_min(torch.finfo(torch.float64).tiny)


@dataclass(frozen=True)
class Budget:
    """How many cotangents are pulled back.

    Attributes:
        directions: R, pulled back one by one.
        probes: m, random combinations of what is left; 0 where nothing is.
    """

    directions: int
    probes: int

    @property
    def total(self) -> int:
        """Backward passes."""
        return self.directions + self.probes


def budget_for_tolerance(spectrum: Spectrum, tolerance: float) -> Budget:
    """The fewest passes whose relative standard error should be within the tolerance."""
    deviation = (SAFETY * spectrum.relative_tail_deviation()).tolist()
    size = len(deviation) - 1
    rank = next(r for r, value in enumerate(deviation) if value <= _NOTHING or r == size)
    best = Budget(rank, 0)
    for directions in range(rank):
        needed = math.ceil((deviation[directions] / tolerance) ** 2)
        candidate = Budget(directions, max(MIN_TAIL_PROBES, needed))
        if candidate.total < best.total:
            best = candidate
    return best


def budget_of_probes(spectrum: Spectrum, probes: int) -> Budget:
    """The best use of a fixed number of passes, at least 2 of them probes, 3 of 6 or more."""
    deviation = spectrum.relative_tail_deviation().tolist()
    fewest = 3 if probes >= 6 else 2
    candidates = range(min(probes - fewest, len(deviation) - 1) + 1)
    directions = min(candidates, key=lambda r: deviation[r] / math.sqrt(probes - r))
    if deviation[directions] <= _NOTHING:
        return Budget(directions, 0)
    return Budget(directions, probes - directions)
