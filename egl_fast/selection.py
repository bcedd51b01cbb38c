"""Which utterances to transcribe, given their scores and a budget."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from egl_fast.errors import SelectionError
from egl_fast.records import STRATEGIES, ScoreRecord

#: A record of this process, or an object read from a scores file.
Scored: TypeAlias = ScoreRecord | Mapping[str, Any]

_BUDGET_FORMS = "a percentage (20%), a number of utterances (500) or a duration (3.5h, 90m, 45s)"
_BUDGET = re.compile(r"(?P<sign>-?)(?P<number>[0-9]{1,18}(\.[0-9]{1,18})?)\s*(?P<unit>[%hms]?)")
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


#: Below this median mass the truncated sum was seen to follow the mass of the beam.
_LOW_MASS = 0.5


def select(records: Sequence[Scored], *, budget: str | int, strategy: str = "egl") -> list[int]:
    """The most informative utterances that a budget allows.

    Args:
        records: scored utterances, ``ScoreRecord`` or mappings with the same names.
        budget: how much to take. ``"20%"``: of the records, halves rounded up. ``500`` or
            ``"500"``: so many. ``"3.5h"``, ``"90m"`` or ``"45s"``: down the ranking as long as
            all fits; the first utterance that does not ends the selection, so that no utterance
            is passed over for a shorter one.
        strategy: the field to rank by, one of ``records.STRATEGIES``; higher is more informative,
            ties keep the order of ``records``.

    Returns:
        Indices into ``records``, most informative first; at least one.

    Raises:
        SelectionError: the budget cannot be read, is not above zero, is more than there is or less
            than one utterance; the strategy is unknown, or a record holds no number for it.

    Example:
        >>> pool = [{"egl": 1.0, "duration": 2.0}, {"egl": 9.0, "duration": 3.0}]
        >>> select(pool, budget="50%")
        [1]
        >>> select(pool, budget="5s")
        [1, 0]
    """
    if strategy not in STRATEGIES:
        raise SelectionError(f"strategy {strategy!r}: unknown; take one of {', '.join(STRATEGIES)}")
    parse_budget(budget)  # what is wrong with it comes before what is wrong with the records
    if not records:
        raise SelectionError("there is no record to select from")
    scores = _scores(records, strategy)
    return within_budget(records, rank(scores), budget=budget)


def rank(scores: Sequence[float]) -> list[int]:
    """Indices by falling score; ties keep their order.

    Example:
        >>> rank([1.0, 2.0, 1.0])
        [1, 0, 2]
    """
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def within_budget(
    records: Sequence[Scored], ranking: Sequence[int], *, budget: str | int
) -> list[int]:
    """The start of a ranking that a budget allows; see ``select``.

    Args:
        records: the pool; a budget of time needs their ``duration``.
        ranking: indices into ``records``, best first, each at most once.
        budget: as for ``select``; percentages are of ``records``.

    Raises:
        SelectionError: the budget cannot be read, or does not fit the records.
    """
    parsed = parse_budget(budget)
    if parsed.seconds is not None:
        return _fill(records, ranking, parsed.seconds, budget)
    count, available = parsed.amount, len(records)
    if parsed.unit == "%":
        count = Fraction(math.floor(available * parsed.amount / 100 + Fraction(1, 2)))
        if count == 0:
            raise SelectionError(
                f"budget {budget}: of {available} records that is less than half a record; "
                "give a larger budget"
            )
    if count > available:
        raise SelectionError(
            f"budget {budget}: there are only {available} records; give at most {available}"
        )
    return list(ranking[: int(count)])


def low_mass_warning(records: Iterable[Scored]) -> str | None:
    """One line for the user where ``egl`` is likely to mislead, or None.

    With a weak model the K best labelings hold little of the probability, and the sum over them
    grows with what they hold: it then prefers the utterances that the model is surest of.

    Args:
        records: as for ``select``; those without ``beam_mass`` are left out.

    Returns:
        None where the median ``beam_mass`` is at least 0.5, or where no record holds one.
    """
    found = (_field(record, "beam_mass") for record in records)
    masses = [mass for mass in found if isinstance(mass, (int, float))]
    if not masses or (median := statistics.median(masses)) >= _LOW_MASS:
        return None
    return (
        f"the K best labelings hold little of the probability (median beam_mass {median:.2g}): "
        "`egl` then follows that mass more than the gradients; consider `egl_normalized`"
    )


def parse_budget(budget: str | int) -> Budget:
    """What a budget says.

    Raises:
        SelectionError: it cannot be read, is not above zero, or is more than 100 %.

    Example:
        >>> parse_budget("1.5h").seconds
        Fraction(5400, 1)
    """
    match = _BUDGET.fullmatch(str(budget).strip())
    if match is None:
        raise SelectionError(f"budget {budget!r}: expected {_BUDGET_FORMS}")
    # Exact, so that 12.5% of 4 is a half and ten clips of 0.1 s fit one second.
    amount, unit = Fraction(match["number"]), match["unit"]
    if match["sign"] == "-" or amount == 0:
        raise SelectionError(f"budget {budget}: must be above zero; give {_BUDGET_FORMS}")
    if not unit and "." in match["number"]:
        raise SelectionError(f"budget {budget}: not a whole number; give {_BUDGET_FORMS}")
    if unit == "%" and amount > 100:
        raise SelectionError(f"budget {budget}: more than there is; give at most 100%")
    return Budget(amount, unit)


def _fill(
    records: Sequence[Scored], ranking: Sequence[int], seconds: Fraction, budget: str | int
) -> list[int]:
    """The longest start of the ranking whose durations sum to at most ``seconds``."""
    spent = Fraction(0)
    for taken, index in enumerate(ranking):
        duration = _number(records, index, "duration")
        if duration <= 0:
            # Scores of a model's own inputs know no seconds, and say 0.
            raise SelectionError(
                f"{_name(records, index)}: its duration is {duration:g}; a budget of time needs "
                "the durations, give a number of utterances or a percentage instead"
            )
        # The decimal that was written, not the binary fraction nearest to it.
        spent += Fraction(str(duration))
        if spent > seconds:
            if taken == 0:
                raise SelectionError(
                    f"budget {budget}: the most informative utterance alone takes "
                    f"{duration:.1f} s; give a larger budget"
                )
            return list(ranking[:taken])
    return list(ranking)


def _scores(records: Sequence[Scored], strategy: str) -> list[float]:
    if all(_field(record, strategy) is None for record in records):
        held = [s for s in STRATEGIES if None not in (_field(record, s) for record in records)]
        instead = f"rank by what it holds: {', '.join(held)}" if held else "is it a scores file?"
        raise SelectionError(f"strategy {strategy}: this file holds no {strategy}; {instead}")
    return [_number(records, index, strategy) for index in range(len(records))]


def _number(records: Sequence[Scored], index: int, name: str) -> float:
    value = _field(records[index], name)
    if value is None:
        raise SelectionError(
            f"{_name(records, index)} holds no {name}; score the pool again, all in one run"
        )
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -math.inf < value < math.inf:
        raise SelectionError(
            f"{_name(records, index)}: its {name} is {value!r}, not a finite number; "
            "score the pool again"
        )
    number: float = value
    return number


def _field(record: Scored, name: str) -> Any:
    return record.get(name) if isinstance(record, Mapping) else getattr(record, name)


def _name(records: Sequence[Scored], index: int) -> str:
    identity = _field(records[index], "id")
    return f"record {index + 1}" + ("" if identity is None else f" ({identity!r})")
