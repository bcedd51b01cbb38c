"""Every labeling of a small CTC problem, by listing all C^T alignments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeVar

Probability = TypeVar("Probability", float, Fraction)
Labeling = tuple[int, ...]


def collapse(alignment: Sequence[int], *, blank: int = 0) -> Labeling:
    """The labeling that an alignment stands for: repeats merged, then blanks dropped.

    This is the map B of Graves et al., "Connectionist Temporal Classification" (2006), section 3.1.

    Example:
        >>> collapse([1, 1, 0, 1, 2, 0])
        (1, 1, 2)
    """
    return tuple(cls for cls, _ in itertools.groupby(alignment) if cls != blank)


def enumerate_labelings(
    probs: Sequence[Sequence[Probability]], *, blank: int = 0
) -> dict[Labeling, Probability]:
    """The probability of every labeling that has any, summed over all C^T alignments.

    Graves et al. (2006), equations 2 and 3, term by term. ``probs`` are T rows of C probabilities.
    With ``Fraction`` entries the sums are exact, so that ties are ties. With T = 0 the empty
    labeling has probability 1.

    Example:
        >>> enumerate_labelings([[0.5, 0.5], [0.5, 0.5]])
        {(): 0.25, (1,): 0.75}
    """
    total: dict[Labeling, Probability] = {}
    possible = [[cls for cls, prob in enumerate(row) if prob != 0] for row in probs]
    for alignment in itertools.product(*possible):
        mass = None
        for row, cls in zip(probs, alignment, strict=True):
            mass = row[cls] if mass is None else mass * row[cls]
        labeling = collapse(alignment, blank=blank)
        if mass is None:
            total[labeling] = 1  # type: ignore[assignment]
        else:
            total[labeling] = total[labeling] + mass if labeling in total else mass
    return total


def rank_labelings(
    probabilities: dict[Labeling, Probability],
) -> list[tuple[Labeling, Probability]]:
    """(labeling, probability) pairs by falling probability, ties in labeling order.

    Labeling order is that of Python's tuples: lexicographic by class index, a labeling before its
    own extensions.

    Example:
        >>> rank_labelings({(2,): 0.25, (): 0.5, (1, 1): 0.25})
        [((), 0.5), ((1, 1), 0.25), ((2,), 0.25)]
    """
    return sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))
