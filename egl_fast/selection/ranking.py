"""The utterances that a budget is best spent on."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from egl_fast.errors import SelectionError
from egl_fast.naming import named
from egl_fast.selection.batches import order_by, without_scores
from egl_fast.selection.budget import parse_budget, take
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.cost import Cost, seconds_of
from egl_fast.selection.gate import Gate, groups
from egl_fast.selection.shares import in_shares
from egl_fast.selection.strategies import Strategy, scores_by


@dataclass(frozen=True)
class Selection:
    """What to choose by.

    Attributes:
        budget: see ``request.select``.
        strategy: see ``request.select``; or a function.
        batch: a way to choose a set, see ``egl_fast.selection.batches``; None: the top of the list.
        share: a key of the records; its values get shares of the budget as clusters do.
        most: key -> so many utterances of each of its values, and no more.
        cost: of transcribing; with it, a budget without a unit is money.
        gate: what is left out because it is not like speech of the domain.
        exclude: ids that are not candidates.
        num_others: utterances of the pool that are not among the candidates; percentages are of
            these, too.
        seed: of what is random.
        num_picks: about how many utterances a batch is for; None: what the budget pays for.
    """

    budget: str | int
    strategy: str | Strategy | None = None
    batch: str | None = None
    share: str | None = None
    most: tuple[tuple[str, int], ...] = ()
    cost: Cost | None = None
    gate: Gate | None = None
    exclude: Collection[str] = frozenset()
    num_others: int = 0
    seed: int = 0
    num_picks: int | None = None

    def __post_init__(self) -> None:
        # Complain about the options before complaining about the records.
        parse_budget(self.budget, whole=self.cost is None)
        if self.batch is not None:
            order_by(self.batch)
            if self.share is not None:
                raise SelectionError("give either a batch or a share, not both")

    @property
    def ranked_by(self) -> str | Strategy | None:
        """What decides: the strategy or, if the batch looks at no score, the batch."""
        return self.batch if self.batch in without_scores() else self.strategy

    def choose(self, candidates: Candidates) -> Choice:
        """Choose.

        Raises:
            SelectionError: the options do not fit the records; the message names them.
        """
        return self.offer(candidates).choose()

    def offer(self, candidates: Candidates) -> Offer:
        """What remains to choose from after the gate and exclusions, whatever the scores.

        Raises:
            SelectionError: the options do not fit the records; the message names them.
        """
        if not len(candidates):
            raise SelectionError("there are no records to select from")
        for key, _ in self.most:
            if all(value is None for value in candidates.values(key)):
                raise SelectionError(f"per {key}: no record holds {key}")
        away = [] if self.gate is None else self.gate.turned_away(candidates)
        numbers = groups(candidates.embeddings, away)
        kept = self.gate.kept_groups if self.gate is not None else ()
        for number in kept:
            if number not in numbers:
                raise SelectionError(
                    f"{named('keep_group')}: there is no group {number}; "
                    + (
                        f"the last is {max(numbers)}"
                        if numbers
                        else "of these scores, the gate leaves out nothing. Give those that the "
                        "groups are from, not the selection"
                    )
                )
        turned_away = [
            (index, number)
            for index, number in zip(away, numbers, strict=True)
            if number not in kept
        ]
        outside = {index for index, _ in turned_away}
        inside = [
            index
            for index, identity in enumerate(candidates.values("id"))
            if index not in outside and identity not in self.exclude
        ]
        if not inside:
            raise SelectionError(
                "nothing is left to select from: every utterance is excluded, or not typical "
                f"enough ({named('drop_atypical', '0%')} keeps all)"
            )
        return Offer(self, candidates, turned_away, inside)

    def order(self, candidates: Candidates, scores: Sequence[float], *, of: int) -> Iterator[int]:
        """Indices by falling score, or as a batch or shares have it.

        Args:
            candidates: n utterances.
            scores: [n].
            of: how many there were before the gate and exclusions, which percentages are of.
        """
        if self.batch is None and self.share is None:
            return iter(rank(scores))
        costs = self._prices(candidates)
        if self.share is not None:
            values = list(map(repr, candidates.values(self.share)))
            if set(values) == {"None"}:
                raise SelectionError(f"share {self.share}: no record holds {self.share}")
            return in_shares(values, scores, costs)
        assert self.batch is not None
        return order_by(self.batch)(
            candidates, scores, costs, num_picks=self._num_picks(costs, of), seed=self.seed
        )

    def _num_picks(self, costs: Sequence[float], of: int) -> int:
        budget = parse_budget(self.budget, whole=self.cost is None)
        if self.num_picks is not None:
            expected = float(self.num_picks)
        elif budget.unit == "%":
            expected = float(budget.amount) * of / 100
        else:
            amount = budget.amount if budget.seconds is None else budget.seconds
            expected = float(amount) * len(costs) / math.fsum(costs)
        return max(1, min(len(costs), round(expected)))

    def _prices(self, candidates: Candidates) -> list[float]:
        every = range(len(candidates))
        if parse_budget(self.budget, whole=self.cost is None).seconds is not None:
            return [float(seconds_of(candidates, index)) for index in every]
        if self.cost is None:
            return [1.0] * len(candidates)
        prices = [float(self.cost.of(candidates, index)) for index in every]
        if 0.0 in prices:
            raise SelectionError(
                f"{candidates.name(prices.index(0.0))}: the model hears no words in it, so it "
                f"costs nothing; {named('batch')} and {named('share')} need a cost per utterance "
                "or per second as well"
            )
        return prices


@dataclass(frozen=True)
class Offer:
    """What a selection chooses from; made once, however often scores change.

    Attributes:
        selection: what to choose by.
        candidates: the pool.
        turned_away: see ``Choice``.
        inside: indices of the candidates that are left.
    """

    selection: Selection
    candidates: Candidates
    turned_away: list[tuple[int, int]]
    inside: list[int]

    def choose(self, scores: Sequence[float] | None = None) -> Choice:
        """Choose.

        Args:
            scores: [n] of the whole pool; None: what the selection's strategy gives.

        Raises:
            SelectionError: the options do not fit the records; the message names them.
        """
        selection, part = self.selection, self._part
        if self._num_copies == len(self.inside):
            raise SelectionError(
                "nothing is left to select from: every utterance is a copy of an excluded one"
            )
        if scores is None:
            own = scores_by(selection.strategy, part)
        else:
            own = [scores[index] for index in self.inside]
        order = self._first_copies(
            self.inside[place] for place in selection.order(part, own, of=len(self.candidates))
        )
        taken = take(
            self.candidates,
            self._limited(order),
            budget=selection.budget,
            cost=selection.cost,
            num_others=selection.num_others,
        )
        left_out = self._left_out(len(taken.picks)) if taken.is_unmet else ""
        wider = f", or widen the gate ({named('drop_atypical', '0%')} opens it)"
        taken.refuse_too_few(
            selection.budget,
            len(self.candidates) + selection.num_others,
            left_out,
            wider if self.turned_away else "",
        )
        return Choice(
            taken.picks,
            self.turned_away,
            self.num_excluded,
            self._num_copies,
            taken.is_unmet,
            left_out,
            [own[bisect_left(self.inside, index)] for index in taken.picks],
        )

    @cached_property
    def num_excluded(self) -> int:
        """How many of the pool are excluded, whether or not the gate leaves them out, too."""
        exclude, ids = self.selection.exclude, self.candidates.values("id")
        return self.selection.num_others + sum(identity in exclude for identity in ids)

    def _left_out(self, num_picks: int) -> str:
        size = len(self.candidates) + self.selection.num_others
        counts = {
            "turned away by the gate": len(self.turned_away),
            "excluded": size - len(self.inside) - len(self.turned_away),
            "copies of others": self._num_copies,
            f"beyond {named('per')}": len(self.inside) - self._num_copies - num_picks,
        }
        return ", ".join(f"{what}: {number}" for what, number in counts.items() if number)

    @cached_property
    def _part(self) -> Candidates:
        return self.candidates.part(self.inside)

    @cached_property
    def originals(self) -> Sequence[int]:
        """The first copy of each candidate of the pool; excluded ones have copies, too."""
        if self.candidates.embeddings is None:
            return range(len(self.candidates))
        from egl_fast.embeddings.duplicates import copies

        found: list[int] = copies(self.candidates.embeddings).tolist()
        return found

    @cached_property
    def _excluded(self) -> set[int]:
        """Originals of what is excluded: a copy of it is excluded, too."""
        exclude = self.selection.exclude
        if not exclude:
            return set()
        ids = self.candidates.values("id")
        return {self.originals[i] for i, identity in enumerate(ids) if identity in exclude}

    @cached_property
    def _num_copies(self) -> int:
        if self.candidates.embeddings is None:
            return 0
        left = {self.originals[index] for index in self.inside} - self._excluded
        return len(self.inside) - len(left)

    def _first_copies(self, order: Iterable[int]) -> Iterator[int]:
        seen = set(self._excluded)
        for index in order:
            original = self.originals[index]
            if original not in seen:
                seen.add(original)
                yield index

    def _limited(self, order: Iterable[int]) -> Iterator[int]:
        taken: Counter[tuple[str, str]] = Counter()
        most = self.selection.most
        for index in order:
            values = [(key, repr(self.candidates.value(index, key))) for key, _ in most]
            if all(taken[value] < n for value, (_, n) in zip(values, most, strict=True)):
                taken.update(values)
                yield index


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        picks: indices into the candidates, first to transcribe first.
        turned_away: index and group of what the gate left out, least typical first.
        num_excluded: how many were excluded, whether or not the gate leaves them out, too.
        num_copies: how many of the rest are copies of others, or of what is excluded.
        is_unmet: whether part of the budget remains because nothing more can be picked.
        left_out: in that case, what was left out and why, in words; "" if nothing was.
        scores: of the picks, in their order, by the selection's strategy.
    """

    picks: list[int]
    turned_away: list[tuple[int, int]]
    num_excluded: int = 0
    num_copies: int = 0
    is_unmet: bool = False
    left_out: str = ""
    scores: Sequence[float] = ()


def rank(scores: Sequence[float]) -> list[int]:
    """Indices by falling score; ties keep their order.

    Example:
        >>> rank([1.0, 2.0, 1.0])
        [1, 0, 2]
    """
    return sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
