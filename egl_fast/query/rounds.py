"""Rounds of looks, until the set is right or the effort is spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from egl_fast.query.beliefs import Beliefs, Floats, believe, spreads
from egl_fast.query.looks import GRADIENTS, Levels
from egl_fast.query.plan import effort_of, next_looks

#: An estimate, and its standard error as reported.
Estimate: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Goal:
    """When to stop.

    Attributes:
        confidence: share of the exact set that the picks are expected to hold.
        effort: what may be spent, in inference passes over the pool.
        levels: how closely recordings can be looked at.
        seed: of everything random.
    """

    confidence: float = 0.98
    effort: float = 10.0
    levels: Levels = GRADIENTS
    seed: int = 0


@dataclass
class State:
    """What is known about n recordings, and what it cost.

    Attributes:
        scores: [n] the latest estimates.
        stderrs: [n] as reported.
        levels: [n] of the latest looks, indices into ``Goal.levels``.
        seconds: [n] lengths of the recordings.
        rounds: what each round did, in plain values.
        effort: spent so far.
    """

    scores: Floats
    stderrs: Floats
    seconds: Floats
    levels: npt.NDArray[np.int64] = field(init=False)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    effort: float = 0.0

    def __post_init__(self) -> None:
        self.levels = np.zeros(len(self.scores), dtype=np.int64)

    @classmethod
    def of(cls, estimates: Sequence[Estimate], seconds: Sequence[float]) -> State:
        """After the first look at all."""
        both = np.array(estimates, dtype=np.float64).reshape(-1, 2)
        return cls(both[:, 0].copy(), both[:, 1].copy(), np.array(seconds, dtype=np.float64))

    def take(self, index: int, level: int, found: Estimate | None) -> None:
        """A closer look's estimate and standard error; None where it failed."""
        self.levels[index] = level
        if found is not None:
            self.scores[index], self.stderrs[index] = found


#: A closer look: the number of the round, the level, and the recordings, to estimates and standard
#: errors; None for one that failed.
Look = Callable[[int, int, Sequence[int]], Sequence[Estimate | None]]


def run_rounds(
    state: State,
    choose: Callable[[Sequence[float]], list[int]],
    look: Look,
    goal: Goal,
    *,
    told: Callable[[int, Beliefs, State], object] = lambda number, beliefs, state: None,
) -> Beliefs:
    """Look closer until the goal is reached.

    Args:
        state: after the first round, a look at every recording; updated in place.
        choose: from scores [n] to the indices of a set.
        look: takes a closer look.
        goal: when to stop.
        told: called after each round.

    Returns:
        The set, and how sure it is.
    """
    finest = len(goal.levels) - 1
    everything = effort_of(state.levels, state.seconds, goal.levels)
    looked = np.arange(len(state.scores))
    levels, efforts = state.levels, everything
    while True:
        number = len(state.rounds) + 1
        beliefs = believe(
            choose,
            state.scores,
            spreads(state.scores, state.stderrs, state.levels),
            seed=goal.seed,
        )
        spent = float(efforts[looked].sum())
        state.effort += spent
        by_rows = {
            str(goal.levels.rows[x]): int((levels[looked] == x).sum())
            for x in np.unique(levels[looked])
        }
        state.rounds.append(
            {"looks_by_rows": by_rows, "passes": round(spent, 4), "overlap": beliefs.overlap}
        )
        told(number, beliefs, state)
        if beliefs.overlap >= goal.confidence:
            return beliefs
        levels = np.minimum(state.levels + 1, finest)
        efforts = effort_of(levels, state.seconds, goal.levels)
        looked = next_looks(
            beliefs.probabilities,
            state.levels,
            efforts,
            num_picks=len(beliefs.picks),
            confidence=goal.confidence,
            effort=goal.effort - state.effort,
            finest=finest,
        )
        if not len(looked):
            return beliefs
        for level in np.unique(levels[looked]).tolist():
            there = looked[levels[looked] == level].tolist()
            for index, found in zip(there, look(number + 1, level, there), strict=True):
                state.take(index, finest if found is None else level, found)  # a failure is final
