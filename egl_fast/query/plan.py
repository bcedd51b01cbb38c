"""What to look at more closely."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from egl_fast.query.looks import GRADIENTS, Levels

#: Share of the allowed errors for recordings that are not looked at again.
_SHARE = 0.75


def effort_of(
    levels: npt.NDArray[np.int64],
    seconds: npt.NDArray[np.float64],
    of_level: Levels = GRADIENTS,
) -> npt.NDArray[np.float64]:
    """[n] what looks cost, in inference passes over the whole pool.

    Args:
        levels: [n] of the looks.
        seconds: [n] lengths of the recordings.
        of_level: what a look at each level costs.
    """
    passes = np.array(of_level.passes)
    found: npt.NDArray[np.float64] = passes[levels] * seconds / seconds.sum()
    return found


def next_looks(
    probabilities: npt.NDArray[np.float64],
    levels: npt.NDArray[np.int64],
    efforts: npt.NDArray[np.float64],
    *,
    num_picks: int,
    confidence: float,
    effort: float,
    finest: int = len(GRADIENTS) - 1,
) -> npt.NDArray[np.int64]:
    """The recordings to look at more closely, in their order.

    The least settled ones: enough that all others together are wrong by no more than three quarters
    of what the confidence allows, on top of what no look can settle. The last quarter is for what
    remains unclear about these. Empty if nothing can be gained, or the effort does not suffice for
    a single one.

    Args:
        probabilities: [n] of belonging to the set.
        levels: [n] of the last looks.
        efforts: [n] cost of a closer look at each.
        num_picks: size of the set.
        confidence: share of the set that should be right.
        effort: what may still be spent.
        finest: the level of what cannot be looked at more closely.
    """
    doubt = np.minimum(probabilities, 1 - probabilities)
    # Every wrong pick is one recording in doubt inside, and another one outside.
    allowed = 2 * (1 - confidence) * num_picks
    can = (levels < finest) & (doubt > 0)
    allowed = max(0.0, allowed - float(doubt[~can].sum()))
    order = np.argsort(-doubt, kind="stable")
    order = order[can[order]]
    remaining = doubt[can].sum() - np.cumsum(doubt[order])
    needed = 1 + int((remaining > _SHARE * allowed).sum())
    order = order[:needed]
    affordable = int((np.cumsum(efforts[order]) <= effort).sum())
    return np.sort(order[:affordable])
