"""What each strategy picks from the pool of a draw."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from greedy import bait, log_det_order, ridge_of, spread_order
from pools import Draw

from egl_fast.embeddings.clusters import clusters
from egl_fast.embeddings.spectrum import without_spectrum
from egl_fast.selection.shares import in_shares

#: Not strategies: no recording of the pool, and all of them, at any price.
NOTHING, EVERYTHING = "nothing", "everything"


Strategy = Callable[[Draw], list[int]]


def _shuffled(draw: Draw, candidates: Sequence[int], purpose: str) -> list[int]:
    return random.Random(f"{purpose} {draw.number}").sample(list(candidates), len(candidates))


def _top(
    draw: Draw, candidates: Sequence[int], name: str, *, per_second: bool = False
) -> list[int]:
    def score(index: int) -> float:
        return draw.score(index, name) / (draw.seconds(index) if per_second else 1.0)

    return sorted(candidates, key=score, reverse=True)


def _by_cluster(draw: Draw, order: Sequence[int]) -> list[int]:
    """Shares by cluster; within each, the order given."""
    seen = without_spectrum(draw.embeddings[list(order)])
    groups = clusters(seen, num_clusters=30, seed=draw.number)
    places = in_shares(
        groups.tolist(), [-float(p) for p in range(len(order))], [draw.seconds(i) for i in order]
    )
    return [order[place] for place in places]


def aimed_scores(draw: Draw, candidates: Sequence[int]) -> np.ndarray:
    """``egl_target`` of recordings, up to a factor."""
    return np.trace(draw.packed(candidates, "aimed"), axis1=1, axis2=2)


def top_aimed(draw: Draw, candidates: Sequence[int], *, per_second: bool = False) -> list[int]:
    scores = aimed_scores(draw, candidates)
    if per_second:
        scores /= [draw.seconds(i) for i in candidates]
    return [candidates[place] for place in np.argsort(-scores, kind="stable")]


def by_log_det(draw: Draw, candidates: Sequence[int]) -> list[int]:
    sketches, costs = draw.packed(candidates, "aimed"), [draw.seconds(i) for i in candidates]
    return [candidates[place] for place in log_det_order(sketches, costs, ridge_of(sketches))]


def by_bait(draw: Draw, candidates: Sequence[int]) -> list[int]:
    """Aimed at the candidates, forward and backward."""
    sketches, costs = draw.packed(candidates, "aimed"), [draw.seconds(i) for i in candidates]
    places = bait(sketches, sketches.sum(0), costs, ridge_of(sketches), draw.budget)
    return [candidates[place] for place in places]


def _badge(draw: Draw, candidates: Sequence[int]) -> list[int]:
    points = draw.packed(candidates, "badge")
    return [candidates[place] for place in spread_order(points, draw.number)]


#: Name -> the pool's recordings, best first. In the order in which they are trained.
STRATEGIES: dict[str, Strategy] = {
    "random": lambda d: _shuffled(d, d.pool, "random"),
    "gate egl_full": lambda d: _top(d, d.gated, "egl_full"),
    "gate random": lambda d: _shuffled(d, d.gated, "random"),
    "entropy": lambda d: _top(d, d.pool, "entropy"),
    "egl_full": lambda d: _top(d, d.pool, "egl_full"),
    "gate entropy": lambda d: _top(d, d.gated, "entropy"),
    "gate egl_full per second": lambda d: _top(d, d.gated, "egl_full", per_second=True),
    "gate clusters random": lambda d: _by_cluster(d, _shuffled(d, d.gated, "random")),
    "gate clusters egl_full": lambda d: _by_cluster(d, _top(d, d.gated, "egl_full")),
    "gate clusters pctc": lambda d: _by_cluster(d, _top(d, d.gated, "pctc")),
    "gate clusters entropy": lambda d: _by_cluster(d, _top(d, d.gated, "entropy")),
    "gate clusters egl_full per second": lambda d: _by_cluster(
        d, _top(d, d.gated, "egl_full", per_second=True)
    ),
    "speech random": lambda d: _shuffled(d, d.speech, "random"),
    "speech egl_full": lambda d: _top(d, d.speech, "egl_full"),
    "pctc": lambda d: _top(d, d.pool, "pctc"),
    "gate pctc": lambda d: _top(d, d.gated, "pctc"),
    "egl": lambda d: _top(d, d.pool, "egl"),
    "gate egl_target": lambda d: top_aimed(d, d.gated),
    "gate egl_target per second": lambda d: top_aimed(d, d.gated, per_second=True),
    "gate logdet": lambda d: by_log_det(d, d.gated),
    "gate bait": lambda d: by_bait(d, d.gated),
    "gate badge": lambda d: _badge(d, d.gated),
    "gate longest": lambda d: sorted(d.gated, key=d.seconds, reverse=True),
}
