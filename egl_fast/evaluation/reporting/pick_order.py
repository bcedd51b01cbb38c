"""The order in which `select` picks from a scored pool if it is given nothing but a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from egl_fast.data.audio_folder import read_metadata
from egl_fast.embeddings.file import load_embeddings
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.statistics.bootstrap import Floats
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.gate import likeness_in
from egl_fast.selection.request import Request
from egl_fast.selection.strategies import recommended


@dataclass(frozen=True)
class PickOrder:
    """M recordings of a pool of N, the first to label first; any start of it is a selection.

    Attributes:
        strategy: what it ranks by.
        indices: [M] positions in the pool.
        inside: [n] positions that the gate leaves, ascending.
        originals: [N] position of the first copy of each recording.
        copies: position -> positions of the copies left out in its favor.
        num_away: recordings that the gate leaves out.
        gate: as a user gives it, or "" for none.
        options: of `select`, beyond the budget, that give this order.
    """

    strategy: str
    indices: npt.NDArray[np.int64]
    inside: npt.NDArray[np.int64]
    originals: npt.NDArray[np.int64]
    copies: Mapping[int, Sequence[int]] = field(default_factory=dict)
    num_away: int = 0
    gate: str = ""
    options: tuple[str, ...] = ()

    def first(self, scores: Floats, count: int) -> npt.NDArray[np.int64]:
        """The positions that `select` would pick first by other scores [N]."""
        order = self.inside[np.argsort(-scores[self.inside], kind="stable")]
        _, firsts = np.unique(self.originals[order], return_index=True)
        return order[np.sort(firsts)[:count]]


def pick_order(pool: ScoresFile) -> PickOrder:
    """What `select` picks from a pool, from its own code.

    Args:
        pool: the scores, with ids where embeddings are beside them.

    Raises:
        SelectionError: `select` would refuse these scores.
    """
    metadata = read_metadata(str(pool.path))
    likeness = likeness_in(metadata)
    embeddings = None
    if pool.ids:
        embeddings = load_embeddings(pool.path, pool.ids, likeness)
    columns = {**pool.strategies, "duration": pool.durations}
    if not np.isnan(pool.typicality).any():
        columns["typicality"] = pool.typicality
    candidates = _Columns((), embeddings, columns)
    strategy = recommended(candidates)
    is_default = strategy in pool.strategies
    if not is_default:
        strategy = next(iter(pool.strategies))
    selection = Request("100%", strategy).with_default_gate(metadata).selection(metadata=metadata)
    offer = selection.offer(candidates)
    choice = offer.choose()
    copies: dict[int, list[int]] = {}
    picked = {offer.originals[index]: index for index in choice.picks}
    if choice.num_copies:
        for index in offer.inside:
            pick = picked[offer.originals[index]]
            if pick != index:
                copies.setdefault(pick, []).append(index)
    return PickOrder(
        strategy,
        np.array(choice.picks, dtype=np.int64),
        np.array(offer.inside, dtype=np.int64),
        np.array(offer.originals, dtype=np.int64),
        copies,
        len(pool) - len(offer.inside),
        "" if selection.gate is None else selection.gate.option,
        () if is_default else ("--strategy", strategy),
    )


@dataclass(frozen=True)
class _Columns(Candidates):
    """Candidates whose numbers are columns: a million records as mappings would not fit."""

    columns: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["duration"])

    def value(self, index: int, key: str) -> float | None:
        column = self.columns.get(key)
        return None if column is None else float(column[index])

    def part(self, indices: Sequence[int]) -> Candidates:
        rows = list(indices)
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return _Columns((), embeddings, {key: of[rows] for key, of in self.columns.items()})
