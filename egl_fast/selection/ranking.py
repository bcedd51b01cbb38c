"""The most informative utterances that a budget allows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from egl_fast.errors import SelectionError
from egl_fast.selection.budget import parse_budget, within_budget
from egl_fast.selection.candidates import Candidates, Scored
from egl_fast.selection.strategies import scores_by

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
        strategy: what to rank by, see ``egl_fast.selection.strategies``; higher is more
            informative, ties keep the order of ``records``.

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
    parse_budget(budget)  # what is wrong with it comes before what is wrong with the records
    candidates = Candidates(records)
    if not records:
        raise SelectionError("there is no record to select from")
    return within_budget(candidates, rank(scores_by(strategy, candidates)), budget=budget)


def rank(scores: Sequence[float]) -> list[int]:
    """Indices by falling score; ties keep their order.

    Example:
        >>> rank([1.0, 2.0, 1.0])
        [1, 0, 2]
    """
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def low_mass_warning(records: Iterable[Scored]) -> str | None:
    """One line for the user where ``egl`` is likely to mislead, or None.

    With a weak model the K best labelings hold little of the probability, and the sum over them
    grows with what they hold: it then prefers the utterances that the model is surest of.

    Args:
        records: as for ``select``; those without ``beam_mass`` are left out.

    Returns:
        None where the median ``beam_mass`` is at least 0.5, or where no record holds one.
    """
    masses = [
        mass
        for mass in Candidates(list(records)).values("beam_mass")
        if isinstance(mass, (int, float))
    ]
    if not masses or (median := statistics.median(masses)) >= _LOW_MASS:
        return None
    return (
        f"the K best labelings hold little of the probability (median beam_mass {median:.2g}): "
        "`egl` then follows that mass more than the gradients; consider `egl_normalized`"
    )
