"""Draws of trusted recordings, pool and test set, and what each strategy picks from the pool."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from greedy import bait, log_det_order, ridge_of, spread_order
from halves import Cache
from sketches import packed

from egl_fast.embeddings.clusters import clusters
from egl_fast.embeddings.typicality import typicality
from egl_fast.selection.gate import FALSE_ALARMS
from egl_fast.selection.shares import in_shares

NUM_TRUSTED, NUM_TEST, NUM_HARD = 100, 300, 30
#: Share of the pool's audio that is picked.
BUDGET = 0.2


@dataclass(frozen=True)
class Draw:
    """Half of the training speakers, all outliers and a few recordings with wrong prompts.

    Attributes:
        number: decides everything random.
        cache: of all recordings.
        scores: their records, by id.
        embeddings: [all, d].
        pool, trusted, test: indices into the cache.
    """

    number: int
    cache: Cache
    scores: dict[str, dict[str, Any]]
    embeddings: np.ndarray
    pool: tuple[int, ...]
    trusted: tuple[int, ...]
    test: tuple[int, ...]

    @classmethod
    def of(
        cls, number: int, cache: Cache, scores: dict[str, dict[str, Any]], embeddings: np.ndarray
    ) -> Draw:
        """Draw by number. Trusted recordings are of speakers that are not in the pool."""
        chance = random.Random(f"draw {number}")
        by_part: dict[str, list[int]] = {"train": [], "test": [], "hard": [], "outliers": []}
        for index, one in enumerate(cache.recordings):
            part = one.record["split"] if one.corpus == "speechocean762" else one.corpus
            by_part.setdefault(part, []).append(index)

        def speaker(index: int) -> str:
            return str(cache.recordings[index].record["speaker"])

        speakers = sorted({speaker(index) for index in by_part["train"]})
        inside = set(chance.sample(speakers, len(speakers) // 2))
        speech = [index for index in by_part["train"] if speaker(index) in inside]
        others = [index for index in by_part["train"] if speaker(index) not in inside]
        hard = chance.sample(by_part["hard"], NUM_HARD)
        return cls(
            number,
            cache,
            scores,
            embeddings,
            pool=tuple(sorted([*speech, *hard, *by_part["outliers"]])),
            trusted=tuple(sorted(chance.sample(others, NUM_TRUSTED))),
            test=tuple(sorted(random.Random("test").sample(by_part["test"], NUM_TEST))),
        )

    def score(self, index: int, name: str) -> float:
        """A field of a recording's record."""
        return float(self.scores[self.cache.recordings[index].id][name])

    def seconds(self, index: int) -> float:
        """Of a recording."""
        return self.cache.recordings[index].seconds

    def is_junk(self, index: int) -> bool:
        """Whether it is not speech of the domain."""
        return self.cache.recordings[index].corpus == "outliers"

    def is_rejected(self, index: int) -> bool:
        """Whether a careful annotator hands it back: junk, and what experts hardly understood.

        What the collection has for the latter is the prompt, which may not be what was said.
        """
        return self.is_junk(index) or self.cache.recordings[index].corpus == "hard"

    @cached_property
    def speech(self) -> list[int]:
        """What of the pool is not junk: a control that nobody has in practice."""
        return [index for index in self.pool if not self.is_junk(index)]

    @cached_property
    def gated(self) -> list[int]:
        """What the gate leaves of the pool, as ``select --drop-atypical auto`` draws the line."""
        found = typicality(self.embeddings[list(self.trusted)], self.embeddings[list(self.pool)])
        line = found.threshold(FALSE_ALARMS)
        return [i for i, value in zip(self.pool, found.pool, strict=True) if value >= line]

    @cached_property
    def budget(self) -> float:
        """Seconds of audio that may be picked."""
        return BUDGET * sum(self.seconds(index) for index in self.pool)

    def packed(self, indices: Iterable[int], name: str) -> np.ndarray:
        """What ``sketches.py`` keeps of some recordings."""
        return np.stack([packed(name)[self.cache.recordings[index].id] for index in indices])

    def within_budget(self, order: Iterable[int]) -> list[int]:
        """The start of an order that the budget allows."""
        left = self.budget
        picks = []
        for index in order:
            left -= self.seconds(index)
            if left < 0:
                break
            picks.append(index)
        return picks


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
    groups = clusters(draw.embeddings[list(order)], num_clusters=30, seed=draw.number)
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
