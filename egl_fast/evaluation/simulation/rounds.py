"""The budgets of a simulation: whether each fits the pool, and which rounds lead to them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from egl_fast.errors import SelectionError
from egl_fast.evaluation.simulation.config import SimulationConfig
from egl_fast.evaluation.simulation.sets import Member, total_seconds
from egl_fast.evaluation.simulation.toml_reading import KeyPath
from egl_fast.selection import Budget, parse_budget, rank, within_budget


def rounds_of(config: SimulationConfig, pool: Sequence[Member]) -> dict[str, tuple[str, ...]]:
    """Each mode's budgets, ascending; in "single" mode, they do not build on each other.

    Raises:
        ConfigError: a query does not fit the pool, or the step does not lead to the queries.
    """
    for number, query in enumerate(config.queries):
        _check_query(config, pool, query, ("queries", number))
    sequential: tuple[str, ...] = ()
    if "sequential" in config.modes:
        path: KeyPath = ("step",) if config.step else ("queries",)
        try:
            sequential = _rounds(config.queries, config.step)
        except ValueError as error:
            raise config.source.error(path, str(error)) from None
        for query in sequential:
            _check_query(config, pool, query, path)
    return {"single": config.queries, "sequential": sequential}


def _check_query(
    config: SimulationConfig, pool: Sequence[Member], query: str, path: KeyPath
) -> None:
    budget, seconds = parse_budget(query), Fraction(total_seconds(pool))
    durations = [member.seconds for member in pool]
    try:
        if budget.seconds is not None and budget.seconds >= seconds:
            raise SelectionError(
                f"budget {query}: the pool has only {float(seconds):.0f} s of audio"
            )
        # The longest first: a ranking may begin with one that does not fit a short time.
        records = [{"duration": duration} for duration in durations]
        if len(within_budget(records, rank(durations), budget=query)) == len(pool):
            raise SelectionError(
                f"budget {query}: takes all {len(pool)} utterances of the pool, which is an end "
                "point"
            )
    except SelectionError as error:
        raise config.source.error(path, str(error)) from None


def _rounds(queries: tuple[str, ...], step: str | None) -> tuple[str, ...]:
    """Raises ValueError where the step does not lead to the queries."""
    budgets = [parse_budget(query) for query in queries]
    parsed = [*budgets, *([parse_budget(step)] if step else [])]
    if len({"time" if b.seconds is not None else b.unit for b in parsed}) > 1:
        raise ValueError("rounds need queries and step in one unit")
    amounts = [_amount(budget) for budget in budgets]
    if sorted(amounts) != amounts:
        raise ValueError('"sequential" needs queries from small to large')
    if step is None:
        return queries
    size = _amount(parsed[-1])
    for query, amount in zip(queries, amounts, strict=True):
        if amount % size:
            raise ValueError(f"{query} is not a multiple of step = {step!r}; change one of them")
    # A round that is a query has the query's name.
    written = dict(zip(amounts, queries, strict=True))
    unit = parsed[-1].unit
    per_unit = _amount(Budget(Fraction(1), unit))
    return tuple(
        written.get(number * size, f"{_decimal(number * size / per_unit)}{unit}")
        for number in range(1, int(amounts[-1] / size) + 1)
    )


def _amount(budget: Budget) -> Fraction:
    return budget.amount if budget.seconds is None else budget.seconds


def _decimal(amount: Fraction) -> str:
    return str(amount.numerator) if amount.denominator == 1 else f"{float(amount):g}"
