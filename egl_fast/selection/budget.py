"""How much may be transcribed: a share, a number of utterances, hours of audio, or money."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

from egl_fast.errors import SelectionError
from egl_fast.selection.candidates import Candidates, Scored
from egl_fast.selection.cost import Cost, seconds_of

_FORMS = "a percentage (20%), a number of utterances (500) or a duration (3.5h, 90m, 45s)"
_FORM = re.compile(r"(?P<sign>-?)(?P<number>[0-9]{1,18}(\.[0-9]{1,18})?)\s*(?P<unit>[%hms]?)")
_SECONDS_PER_UNIT = {"h": 3600, "m": 60, "s": 1}


class Budget(NamedTuple):
    """How much to take: an exact amount, and of what ("%", "h", "m", "s"; "" is utterances)."""

    amount: Fraction
    unit: str

    @property
    def seconds(self) -> Fraction | None:
        """The budget as audio, None for a share or a number of utterances."""
        per_unit = _SECONDS_PER_UNIT.get(self.unit)
        return None if per_unit is None else self.amount * per_unit


def parse_budget(budget: str | int, *, whole: bool = True) -> Budget:
    """What a budget says.

    Args:
        budget: as for ``select``.
        whole: whether a number without a unit counts utterances; False: it is money.

    Raises:
        SelectionError: it cannot be read, is not above zero, or is more than 100 %.

    Example:
        >>> parse_budget("1.5h").seconds
        Fraction(5400, 1)
    """
    match = _FORM.fullmatch(str(budget).strip())
    if match is None:
        raise SelectionError(f"budget {budget!r}: expected {_FORMS}")
    # Exact, so that 12.5% of 4 is a half and ten recordings of 0.1 s fit one second.
    amount, unit = Fraction(match["number"]), match["unit"]
    if match["sign"] == "-" or amount == 0:
        raise SelectionError(f"budget {budget}: must be above zero; give {_FORMS}")
    if whole and not unit and "." in match["number"]:
        raise SelectionError(f"budget {budget}: not a whole number; give {_FORMS}")
    if unit == "%" and amount > 100:
        raise SelectionError(f"budget {budget}: more than there is; give at most 100%")
    return Budget(amount, unit)


class Taken(NamedTuple):
    """What a budget buys.

    Attributes:
        picks: indices.
        is_unmet: whether there was nothing left to spend the rest on.
        is_too_few: whether a certain number was asked for, and there are not as many.
    """

    picks: list[int]
    is_unmet: bool
    is_too_few: bool = False

    def refuse_too_few(
        self, budget: str | int, total: int, why: str = "", remedy: str = ""
    ) -> None:
        """Raise ``SelectionError`` if there are too few.

        Args:
            budget: that was asked for.
            total: how many there were before any was left out.
            why: so many are left out.
            remedy: beside a smaller budget.
        """
        if self.is_too_few:
            count = len(self.picks)
            of = "" if count == total else f" left of {total}"
            because = f" ({why})" if why else ""
            raise SelectionError(
                f"budget {budget}: there are only {count} records{of}{because}; give at most "
                f"{count}{remedy}"
            )


def within_budget(
    records: Sequence[Scored] | Candidates,
    order: Iterable[int],
    *,
    budget: str | int,
    cost: Cost | None = None,
    num_others: int = 0,
) -> list[int]:
    """The start of an order that a budget allows; see ``take``."""
    taken = take(records, order, budget=budget, cost=cost, num_others=num_others)
    taken.refuse_too_few(budget, len(records) + num_others)
    return taken.picks


def take(
    records: Sequence[Scored] | Candidates,
    order: Iterable[int],
    *,
    budget: str | int,
    cost: Cost | None = None,
    num_others: int = 0,
) -> Taken:
    """The start of an order that a budget allows, and whether all of the budget found a use.

    No more of the order is made than is needed.

    Args:
        records: the pool; a budget of time needs their ``duration``.
        order: indices into ``records``, best first, each at most once; read only as far as the
            budget goes.
        budget: see ``select``; percentages are of all records and the others.
        cost: what a budget without a unit is spent on; None: it counts utterances.
        num_others: utterances of the pool that are not among the records.

    Raises:
        SelectionError: the budget cannot be read, or does not fit the records.
    """
    candidates = records if isinstance(records, Candidates) else Candidates(records)
    parsed = parse_budget(budget, whole=cost is None)
    if parsed.seconds is not None:
        return _fill(
            candidates, order, parsed.seconds, budget, lambda index: seconds_of(candidates, index)
        )
    if cost is not None and not parsed.unit:
        return _fill(
            candidates, order, parsed.amount, budget, lambda index: cost.of(candidates, index)
        )
    count, total = int(parsed.amount), len(candidates) + num_others
    if parsed.unit == "%":
        count = math.floor(total * parsed.amount / 100 + Fraction(1, 2))
        if count == 0:
            raise SelectionError(
                f"budget {budget}: of {total} records that is less than half a record; "
                "give a larger budget"
            )
    picks = list(islice(order, count))
    return Taken(picks, len(picks) < count, len(picks) < count and not parsed.unit)


def _fill(
    candidates: Candidates,
    order: Iterable[int],
    limit: Fraction,
    budget: str | int,
    price: Callable[[int], Fraction],
) -> Taken:
    """The longest start of the order whose prices add up to at most the limit."""
    spent, picks = Fraction(0), list[int]()
    for index in order:
        spent += price(index)
        if spent > limit:
            if not picks:
                alone = f"{float(price(index)):.4g}"
                if parse_budget(budget, whole=False).unit:
                    alone = f"{candidates.number(index, 'duration'):.1f} s"
                raise SelectionError(
                    f"budget {budget}: the most informative utterance alone takes {alone}; "
                    "give a larger budget"
                )
            return Taken(picks, is_unmet=False)
        picks.append(index)
    return Taken(picks, spent < limit)
