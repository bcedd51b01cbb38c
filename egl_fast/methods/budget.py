"""How many directions and probes are worth a backward pass, given a Gram matrix's eigenvalues.

The twin of csrc/core/cotangent_budget.h, which decides for the hypotheses; this one decides for
draws. Both look at eigenvalues alone: a rule that looked at the estimate's own spread would bias
it.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

#: [K], largest first, not negative.
Eigenvalues: TypeAlias = NDArray[np.float64]

#: A tail with a smaller relative deviation than this is rounding.
NOTHING: Final = 1e-8
#: Probes for the error bar, if a tolerance decides the number of rows.
MIN_TAIL_PROBES: Final = 4


class Budget(NamedTuple):
    """Rows of a compression."""

    directions: int  # R
    probes: int  # m


def tail_deviation(eigenvalues: Eigenvalues) -> NDArray[np.float64]:
    """[K + 1], the standard deviation of one probe beyond R = 0..K directions, relative to the sum.

    At most, were all directions scaled alike: that of e^T M e in random signs is no more than
    sqrt(2) ||M||_F (Hutchinson, 1990).
    """
    total = float(eigenvalues.sum())
    if total == 0.0:
        return np.zeros(len(eigenvalues) + 1)
    squares = np.square(eigenvalues / total)
    return np.sqrt(2.0 * np.append(squares[::-1].cumsum()[::-1], 0.0))


def budget_for_tolerance(eigenvalues: Eigenvalues, tolerance: float) -> Budget:
    """The fewest rows whose relative standard error should be within the tolerance."""
    deviation = tail_deviation(eigenvalues)
    rank = int(np.argmax(deviation <= NOTHING))  # the last is 0
    if rank == 0:
        return Budget(0, 0)
    # A model scales directions of little energy less evenly than the bound assumes.
    safety = tolerance**-0.25
    needed = np.ceil(np.square(safety * deviation[:rank] / tolerance))
    rows = np.arange(rank) + np.maximum(MIN_TAIL_PROBES, needed)
    directions = int(rows.argmin())
    if rows[directions] >= rank:
        return Budget(rank, 0)
    return Budget(directions, int(rows[directions]) - directions)


def budget_of_probes(eigenvalues: Eigenvalues, num_rows: int) -> Budget:
    """The best use of a fixed number of rows, at least 2."""
    deviation = tail_deviation(eigenvalues)
    # At least two probes, for an error bar; three if there are enough rows.
    most = min(num_rows - (3 if num_rows >= 4 else 2), len(eigenvalues))
    for directions in range(most + 1):
        if deviation[directions] <= NOTHING:
            return Budget(directions, 0)
    errors = [deviation[r] / math.sqrt(num_rows - r) for r in range(most + 1)]
    directions = int(np.argmin(errors))
    return Budget(directions, num_rows - directions)
