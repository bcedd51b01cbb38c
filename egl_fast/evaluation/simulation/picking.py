"""Turns scores into picks: the one place that carries out a choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from egl_fast.errors import SelectionError
from egl_fast.evaluation.simulation.choices import Choice
from egl_fast.evaluation.simulation.filters import matches
from egl_fast.evaluation.simulation.sets import Member, hidden, total_seconds
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.units import ScoreUnit
from egl_fast.selection import Budget, Candidates, parse_budget, within_budget
from egl_fast.selection.gate import Gate
from egl_fast.selection.ranking import Selection


class Picker:
    """Picks from a pool; remembers orders that it has computed.

    Args:
        pool: all of it.
    """

    def __init__(self, pool: Sequence[Member]) -> None:
        self._pool = pool
        self._lines = [utterance.record for utterance in hidden(pool)]
        self._durations = [{"duration": member.seconds} for member in pool]
        self._orders: dict[tuple[str, str, bool, int | None, tuple[int, ...]], list[int]] = {}

    def pick(
        self,
        choice: Choice,
        query: str,
        unit: ScoreUnit,
        scored: Sequence[int],
        picked: tuple[int, ...],
        store: UnitStore,
    ) -> tuple[int, ...]:
        """A choice's picks within a budget, earlier picks included.

        Args:
            choice: how.
            query: the budget; if limits or the gate leave less, everything left is picked.
            unit: the scoring of the utterances ``scored``.
            scored: indices into the pool.
            picked: earlier picks, in order.
            store: where the scores are.

        Raises:
            SelectionError: the scores do not allow this choice; the message names it.
        """
        budget = parse_budget(query)
        in_time = budget.seconds is not None
        num_picks = None if choice.batch is None else self._expected(budget) - len(picked)
        key = (choice.name, unit.name, in_time, num_picks, picked)
        if key not in self._orders:
            try:
                self._orders[key] = self._order(
                    choice, unit, scored, picked, store, in_time, num_picks
                )
            except SelectionError as error:
                raise SelectionError(f"choice {choice.name!r}: {error}") from None
        order = [*picked, *self._orders[key]]
        if not in_time and budget.unit != "%" and budget.amount > len(order):
            return tuple(order)
        return tuple(within_budget(self._durations, order, budget=query))

    def _expected(self, budget: Budget) -> int:
        """About how many utterances a budget labels."""
        if budget.seconds is None:
            share = budget.amount / (100 if budget.unit == "%" else len(self._pool))
        else:
            share = budget.seconds / Fraction(total_seconds(self._pool))
        return round(share * len(self._pool))

    def _order(
        self,
        choice: Choice,
        unit: ScoreUnit,
        scored: Sequence[int],
        picked: Sequence[int],
        store: UnitStore,
        in_time: bool,
        num_picks: int | None,
    ) -> list[int]:
        """All remaining candidates, best first."""
        taken = set(picked)
        places = [
            place
            for place, index in enumerate(scored)
            if index not in taken
            and not (choice.without and matches(self._lines[index], choice.without))
        ]
        if not places:
            return []
        scores = store.scores(unit)
        records = [
            {
                **self._lines[scored[place]],
                **scores[place],
                "duration": self._pool[scored[place]].seconds,
            }
            for place in places
        ]
        embeddings = store.embeddings(unit)[places] if choice.needs_embeddings else None
        metadata = store.result(unit.name)
        selection = Selection(
            f"{math.ceil(total_seconds(self._pool)) + 1}s" if in_time else "100%",
            choice.score,
            batch=choice.batch,
            share=choice.share,
            most=choice.per,
            gate=Gate.of(choice.drop_atypical, choice.min_typicality, metadata=metadata),
            seed=unit.options.seed,
            num_picks=num_picks,
        )
        order = selection.choose(Candidates(records, embeddings)).picks
        return [scored[places[place]] for place in order]
