"""What commands say, and record, about what they chose and what they left out."""

from __future__ import annotations

from fractions import Fraction

from egl_fast.cli.console import say, warn
from egl_fast.selection import Candidates, parse_budget
from egl_fast.selection.ranking import Choice, Selection


def say_nothing_left_out(remedy: str) -> None:
    """Warn that the picks may hold anything, and say what helps."""
    warn(f"noise, music, and other languages were not left out; to leave them out, {remedy}")


def summarize(
    selection: Selection, choice: Choice, candidates: Candidates, *, listed_in: str
) -> None:
    """Say what was chosen, what was not a candidate, and whether the budget found a use.

    Args:
        selection: what was chosen by.
        choice: the result.
        candidates: the pool, which a choice's indices point to.
        listed_in: the file that lists what the gate turned away; "" for none.
    """
    if choice.is_unmet:
        warn(_unmet(selection, choice, len(candidates) + selection.num_others))
    if selection.gate is not None:
        say(_turned_away(selection.gate.option, choice, listed_in))
    if choice.num_excluded or choice.num_copies:
        say(
            f"not candidates: {choice.num_excluded} excluded utterances, {choice.num_copies} "
            "copies of others"
        )
    say(_chosen(selection, choice, candidates))


def _unmet(selection: Selection, choice: Choice, size: int) -> str:
    if not choice.left_out:
        return f"budget {selection.budget}: exceeds all {size} utterances; selected all"
    return (
        f"budget {selection.budget}: is not spent in full; selected {len(choice.picks)} of {size} "
        f"utterances, all that is left ({choice.left_out})"
    )


def _turned_away(option: str, choice: Choice, listed_in: str) -> str:
    if not choice.turned_away:
        return f"{option}: leaves out nothing"
    count, groups = len(choice.turned_away), len({group for _, group in choice.turned_away})
    return (
        f"{option}: leaves out {count} atypical utterance{'s' if count > 1 else ''} in "
        f"{groups} group{'s' if groups > 1 else ''}"
        + (f"; {listed_in} lists them" if listed_in else "")
    )


def _chosen(selection: Selection, choice: Choice, candidates: Candidates) -> str:
    durations = candidates.numbers("duration")
    total = sum(durations)
    taken = sum(durations[index] for index in choice.picks)
    unit, seconds = ("h", 3600) if total >= 3600 else ("min", 60)
    line = (
        f"selected {len(choice.picks)} of {len(candidates)} utterances by {selection.ranked_by}: "
        f"{taken / seconds:.2f} of {total / seconds:.2f} {unit}, "
        f"{taken / len(choice.picks):.1f} s on average"
    )
    if selection.cost is None:
        return line
    spent = sum((selection.cost.of(candidates, index) for index in choice.picks), Fraction(0))
    budget = parse_budget(selection.budget, whole=False)
    of = "" if budget.unit else f" of {_money(budget.amount)}"
    return f"{line}; cost {_money(spent)}{of}"


def _money(amount: Fraction) -> str:
    """An amount to the cent; below 1, to three digits."""
    value = float(amount)
    return f"{value:,.2f}" if value >= 1 else f"{value:.3g}"
