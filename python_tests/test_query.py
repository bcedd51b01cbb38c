"""Who gets a closer look, on synthetic pools whose true scores are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from egl_fast.query.beliefs import believe, spreads
from egl_fast.query.looks import FULL, GRADIENTS, OUTPUTS, ROWS, seed_of
from egl_fast.query.plan import effort_of, next_looks
from egl_fast.query.rounds import Goal, State, run_rounds
from egl_fast.selection import rank

#: Relative error of a look at each level: as on real speech, more or less.
ERRORS = (0.12, 0.02, 0.003)


class Pool:
    """A pool whose looks are off as those of real speech are, more or less."""

    def __init__(self, seed: int, num_recordings: int = 300, num_picks: int = 60) -> None:
        self._random = np.random.default_rng(seed)
        self._num_picks = num_picks
        self.truth = np.exp(0.6 * self._random.standard_normal(num_recordings))
        self.seconds = self._random.uniform(1.0, 5.0, num_recordings)
        self.num_looks = 0

    def choose(self, scores: Sequence[float]) -> list[int]:
        # As ``rank``, but faster.
        return np.argsort(-np.asarray(scores), kind="stable")[: self._num_picks].tolist()

    def look(self, number: int, level: int, indices: Sequence[int]) -> list[tuple[float, float]]:
        self.num_looks += len(indices)
        # The law that beliefs have of errors; what real ones do to it is in docs/query.md.
        errors = ERRORS[level] * 0.8 * self._random.standard_t(3, len(indices))
        values = self.truth[indices] * (1 + errors).clip(0.05)
        return [(value, ERRORS[level] * value) for value in values.tolist()]

    def query(self, goal: Goal) -> tuple[float, float, State]:
        """The true overlap, the one that is said, and the end."""
        state = State.of(self.look(1, 0, range(len(self.truth))), self.seconds.tolist())
        beliefs = run_rounds(state, self.choose, self.look, goal)
        right = set(self.choose(self.truth.tolist()))
        return len(right.intersection(beliefs.picks)) / len(right), beliefs.overlap, state


@pytest.mark.parametrize("confidence", [0.9, 0.97])
def test_what_is_said_of_the_set_is_true_on_average(confidence: float) -> None:
    ends = [Pool(s).query(Goal(confidence, effort=30.0, seed=s)) for s in range(20)]
    found, said = (np.array([end[i] for end in ends]) for i in (0, 1))
    assert (said >= confidence).all()
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - said.mean()) < 3 * error


def test_more_effort_is_never_worse_on_average() -> None:
    found, spent = [], []
    for effort in (4.0, 5.0, 7.0, 12.0):
        ends = [Pool(s).query(Goal(0.999, effort=effort, seed=s)) for s in range(8)]
        found.append(float(np.mean([end[0] for end in ends])))
        spent.append(max(end[2].effort for end in ends))
        assert spent[-1] <= effort
    assert found == sorted(found)
    assert found[-1] > found[0] + 0.03


def test_a_query_costs_less_than_looking_closely_at_all() -> None:
    _, said, state = Pool(0).query(Goal(0.98, effort=100.0))
    assert said >= 0.98
    assert state.effort < GRADIENTS.passes[1]
    assert state.effort == pytest.approx(sum(one["passes"] for one in state.rounds), abs=1e-3)


def test_the_same_seed_and_scores_give_the_same_picks() -> None:
    first, second = (Pool(3).query(Goal(seed=7)) for _ in range(2))
    assert first[2].rounds == second[2].rounds
    assert (first[2].scores == second[2].scores).all()


def test_what_is_clear_is_not_looked_at_again() -> None:
    pool = Pool(0, num_recordings=20, num_picks=10)
    pool.truth[:10], pool.truth[10:] = 1000.0, 1.0
    found, said, state = pool.query(Goal(0.98))
    assert (found, pool.num_looks, len(state.rounds)) == (1.0, 20, 1)
    assert said > 0.99


def test_ties_go_by_position_and_are_not_looked_at_for_ever() -> None:
    def look(number: int, level: int, indices: Sequence[int]) -> list[tuple[float, float]]:
        return [(1.0, 0.0) for _ in indices]

    state = State.of(look(1, 0, range(8)), [1.0] * 8)
    beliefs = run_rounds(state, lambda scores: rank(scores)[:3], look, Goal(1.0))
    assert beliefs.picks == [0, 1, 2]
    assert beliefs.probabilities.tolist() == [1.0] * 3 + [0.0] * 5
    assert len(state.rounds) == 1
    assert state.effort == pytest.approx(GRADIENTS.passes[0])


def test_a_tie_that_errors_leave_open_ends_when_no_closer_look_is_left() -> None:
    def look(number: int, level: int, indices: Sequence[int]) -> list[tuple[float, float]]:
        return [(1.0, 0.1) for _ in indices]

    state = State.of(look(1, 0, range(8)), [1.0] * 8)
    beliefs = run_rounds(state, lambda scores: rank(scores)[:3], look, Goal(1.0, effort=1e9))
    assert state.levels.tolist() == [len(ROWS) - 1] * 8
    assert beliefs.overlap < 0.9


def test_a_look_that_fails_is_not_repeated_and_keeps_the_estimate_before() -> None:
    pool = Pool(0)
    failed: list[int] = []
    latest = dict(enumerate(pool.look(1, 0, range(300))))

    def look(number: int, level: int, indices: Sequence[int]) -> list[tuple[float, float] | None]:
        assert not set(failed).intersection(indices)
        failed.append(indices[0])
        found = pool.look(number, level, indices[1:])
        latest.update(zip(indices[1:], found, strict=True))
        return [None, *found]

    state = State.of(list(latest.values()), pool.seconds.tolist())
    run_rounds(state, pool.choose, look, Goal(0.98, effort=20.0))
    assert failed
    assert state.scores.tolist() == [latest[i][0] for i in range(300)]


def test_the_least_settled_come_first_as_many_as_it_takes() -> None:
    probabilities = np.array([1.0, 0.99, 0.6, 0.4, 0.0, 0.9])
    levels = np.zeros(6, dtype=np.int64)
    efforts = np.full(6, 0.1)

    def looks(confidence: float, effort: float = 9.0) -> list[int]:
        found = next_looks(
            probabilities, levels, efforts, num_picks=3, confidence=confidence, effort=effort
        )
        return found.tolist()

    # In doubt: 0.4 and 0.4, then 0.1, then 0.01. All others may have three quarters of 2 (1 - c) 3.
    assert looks(0.9) == [2, 3]
    assert looks(0.97) == [2, 3]
    assert looks(0.99) == [2, 3, 5]
    assert looks(1.0) == [1, 2, 3, 5]
    assert looks(1.0, effort=0.25) == [2, 3]
    assert looks(1.0, effort=0.05) == []
    # What no look can settle leaves less: 0.6 - 0.4 at 90%, 0.42 - 0.4 at 93%.
    levels[2] = len(ROWS) - 1
    assert looks(0.9) == [3]
    assert looks(0.93) == [3, 5]


def test_an_error_bar_leans_on_others_of_its_kind() -> None:
    values = np.full(6, 10.0)
    stderrs = np.array([1.0, 1.0, 4.0, 0.0, 0.0, 0.2])
    levels = np.array([0, 0, 0, 0, 1, 1])
    found = spreads(values, stderrs, levels)
    assert found[3] == found[4] == 0.0  # exact
    pooled = (0.01 + 0.01 + 0.16) / 4
    assert found[:3] ** 2 == pytest.approx((np.array([0.01, 0.01, 0.16]) + 2 * pooled) / 3)
    # A single closer look is not believed to be much better than its kind can be expected to be.
    assert 0.02 < found[5] < found[0]


def test_zero_scores_have_no_spread() -> None:
    found = spreads(np.array([0.0, 1.0]), np.array([0.0, 0.1]), np.zeros(2, dtype=np.int64))
    assert np.isfinite(found).all()
    assert found[0] == 0.0


def test_probabilities_follow_the_distance_to_the_cut_off() -> None:
    scores = np.array([100.0, 11.0, 10.0, 0.1])
    beliefs = believe(lambda s: rank(s)[:2], scores, np.full(4, 0.1), seed=0)
    assert beliefs.picks == [0, 1]
    first, second, third, last = beliefs.probabilities
    assert first > 0.99 > second > 0.6 > 0.4 > third > 0.01 > last
    assert beliefs.overlap == pytest.approx((first + second) / 2)
    assert beliefs.likely_overlap == 0.5


def test_effort_is_counted_in_passes_over_the_pool() -> None:
    levels = np.array([0, 1])
    efforts = effort_of(levels, np.array([3.0, 1.0]))
    assert efforts == pytest.approx([0.75 * GRADIENTS.passes[0], 0.25 * GRADIENTS.passes[1]])
    assert FULL.passes[0] > GRADIENTS.passes[0] > OUTPUTS.passes[0]


def test_rounds_draw_their_own_signs() -> None:
    assert seed_of(5, 1) == 5
    assert len({seed_of(seed, number) for seed in range(5) for number in range(1, 5)}) == 20
