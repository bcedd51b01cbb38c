"""What is asked of a selection, and what is chosen: the same from Python and by commands."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from egl_fast.dataframes import is_table
from egl_fast.errors import SelectionError
from egl_fast.records import ScoreRecord
from egl_fast.selection.candidates import Candidates, Scored
from egl_fast.selection.cost import Cost
from egl_fast.selection.gate import (
    Gate,
    default_drop,
    how_to_close,
    likeness_in,
    too_few_trusted,
)
from egl_fast.selection.low_mass import low_mass_warning
from egl_fast.selection.ranking import Choice, Selection
from egl_fast.selection.scores import Scores
from egl_fast.selection.strategies import recommended
from egl_fast.warning import warn


@dataclass(frozen=True)
class Request:
    """What ``select`` is asked for, in plain values; see there."""

    budget: str | int
    strategy: str | None = None
    cost: str | None = None
    seed: int = 0
    batch: str | None = None
    share: str | None = None
    most: tuple[tuple[str, int], ...] = ()
    drop_atypical: str | float | None = None
    min_typicality: float | None = None
    kept_groups: tuple[int, ...] = ()

    @property
    def names_gate(self) -> bool:
        """Whether it says where the gate is, or that there is none."""
        return self.drop_atypical is not None or self.min_typicality is not None

    def with_default_gate(self, metadata: Mapping[str, Any]) -> Request:
        """The same with the gate that scores with these metadata have unless another is named."""
        return self if self.names_gate else replace(self, drop_atypical=default_drop(metadata))

    def selection(
        self,
        *,
        exclude: Collection[str] = (),
        num_others: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> Selection:
        """How to choose.

        Args:
            exclude: ids that are not candidates.
            num_others: see ``Selection``.
            metadata: of the scores; ``drop_atypical="auto"`` reads the threshold from it.

        Raises:
            SelectionError: an option cannot be used.
        """
        return Selection(
            self.budget,
            self.strategy,
            batch=self.batch,
            share=self.share,
            most=self.most,
            cost=None if self.cost is None else Cost.parse(self.cost),
            gate=Gate.of(
                self.drop_atypical,
                self.min_typicality,
                kept_groups=self.kept_groups,
                metadata=metadata,
            ),
            exclude=exclude,
            num_others=num_others,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and by what.

    Attributes:
        request: with the default gate and strategy filled in.
        selection: what it amounts to.
        choice: the result.
    """

    request: Request
    selection: Selection
    choice: Choice


def choose(
    request: Request,
    candidates: Candidates,
    metadata: Mapping[str, Any],
    *,
    exclude: Collection[str] = (),
) -> Chosen:
    """Choose, and warn of what makes the result doubtful.

    Args:
        request: what to choose by.
        candidates: the pool.
        metadata: of its scores.
        exclude: ids that are not candidates.

    Raises:
        SelectionError: an option cannot be used, or does not fit the scores.
    """
    request = request.with_default_gate(metadata)
    selection = request.selection(exclude=exclude, metadata=metadata)
    if selection.ranked_by is None:
        request = replace(request, strategy=recommended(candidates))
        selection = replace(selection, strategy=request.strategy)
    choice = selection.choose(candidates)
    if exclude and not any(identity in exclude for identity in candidates.values("id")):
        warn("exclude: none of its ids is in the scores; nothing is excluded")
    few = too_few_trusted(likeness_in(metadata).get("num_trusted"))
    if request.drop_atypical == "auto" and few is not None:
        warn(few)
    if selection.ranked_by in ("egl", "egl_unsquared"):
        low_mass = low_mass_warning(candidates)
        if low_mass is not None:
            warn(low_mass)
    return Chosen(request, selection, choice)


def select(
    records: Sequence[Scored] | Scores,
    *,
    budget: str | int,
    strategy: str | None = None,
    batch: str | None = None,
    share: str | None = None,
    per: Mapping[str, int] | None = None,
    cost: str | None = None,
    drop_atypical: str | float | None = None,
    min_typicality: float | None = None,
    keep_group: Sequence[int] = (),
    exclude: Collection[str] = (),
    seed: int = 0,
) -> list[int]:
    """The utterances that a budget is best spent on: what ``egl-fast select`` picks.

    Args:
        records: scored utterances: what ``read_scores`` returns, or a list of ``ScoreRecord`` or
            of mappings with the same names. Only the first comes with the embeddings that
            ``batch`` and the recognition of copies need, and with the threshold of the gate.
        budget: how much to take. ``"20%"``: of the records, halves rounded up. ``500`` or
            ``"500"``: so many. ``"3.5h"``, ``"90m"`` or ``"45s"``: down the ranking as long as
            all fits; the first utterance that does not ends the selection, so that no utterance
            is passed over for a shorter one. With ``cost``, a plain number is money.
        strategy: what to rank by, see ``egl_fast.selection.strategies``; higher is more
            informative, ties keep the order of ``records``. None: ``pctc``, which our experiments
            recommend (docs/choosing.md).
        batch: choose a varied set instead of the top of the list, see
            ``egl_fast.selection.batches``.
        share: a key of the records, each value of which gets a fair share; instead of ``batch``.
        per: key of the records -> the most utterances of each of its values.
        cost: what transcribing an utterance costs, such as ``"0.5 + 0.02*seconds"``.
        drop_atypical: the gate: leave out the least typical, ``"10%"`` or 0.1 of the records, or
            ``"auto"``: those below the threshold in the metadata, which is the default if the pool
            was scored with enough trusted recordings. 0 leaves out nothing.
        min_typicality: instead of that, leave out what has a lower ``typicality``.
        keep_group: numbers of groups of what the gate leaves out, to be taken back.
        exclude: ids that are not candidates.
        seed: of ``batch``.

    Returns:
        Indices into ``records``, most informative first; at least one.

    Raises:
        SelectionError: ``records`` are something else; the budget cannot be read, is not above
            zero, is more than there is or less than one utterance; another option cannot be used;
            or a record lacks what it needs.

    Example:
        >>> pool = [{"egl": 1.0, "duration": 2.0}, {"egl": 9.0, "duration": 3.0}]
        >>> select(pool, budget="50%")
        [1]
        >>> select(pool, budget="5s")
        [1, 0]
    """
    _refuse_other_kinds(per, keep_group, exclude)
    request = Request(
        budget,
        strategy,
        cost,
        seed,
        batch,
        share,
        tuple((per or {}).items()),
        drop_atypical,
        min_typicality,
        tuple(keep_group),
    )
    scores = records if isinstance(records, Scores) else Scores(_checked(records))
    candidates = Candidates(scores.records, scores.embeddings)
    chosen = choose(request, candidates, scores.metadata, exclude=frozenset(exclude))
    if chosen.selection.gate is None and any(
        value is not None for value in candidates.values("typicality")
    ):
        warn(
            "noise, music, and other languages were not left out; to leave them out, "
            + how_to_close(
                scores.metadata,
                holds_typicality=True,
                read_from="file" if scores is records else "list",
            )
        )
    return chosen.choice.picks


def _refuse_other_kinds(per: object, keep_group: object, exclude: object) -> None:
    """Raise ``SelectionError`` for what is easily given instead."""
    if per is not None and not isinstance(per, Mapping):
        raise SelectionError(f'per: expected a mapping such as {{"speaker": 5}}, got {per!r}')
    if isinstance(keep_group, str) or not isinstance(keep_group, Collection):
        raise SelectionError(f"keep_group: expected numbers such as [2], got {keep_group!r}")
    if isinstance(exclude, str) or not all(isinstance(one, str) for one in exclude):  # type: ignore[attr-defined]
        raise SelectionError(
            "exclude: expected ids, such as {record['id'] for record in picks}, got "
            + (repr(exclude) if isinstance(exclude, str) else "something else among them")
        )


def _checked(records: object) -> Sequence[Any]:
    """Records in a list; raises ``SelectionError`` for anything else."""
    expected = "expected a list of score records, or what egl_fast.read_scores returns"
    if isinstance(records, (str, os.PathLike)):
        raise SelectionError(f"records: {expected}, got a path; give read_scores({records!r})")
    if is_table(records):
        raise SelectionError(
            f"records: {expected}, got a DataFrame, whose missing values are no scores; give the "
            "records that it was made from"
        )
    if not isinstance(records, Sequence):
        raise SelectionError(f"records: {expected}, got {type(records).__name__}; give list(...)")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, (ScoreRecord, Mapping)):
            raise SelectionError(f"record {number}: {expected}, got {type(record).__name__} in it")
    return records
