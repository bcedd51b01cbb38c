"""The gate: which recordings are left out because they are not like speech of the domain."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from egl_fast.errors import SelectionError
from egl_fast.selection.candidates import Candidates

_SHARE = re.compile(r"(?P<percent>[0-9]+(\.[0-9]+)?)%")
#: Share of recordings like the trusted ones that ``auto`` may turn away by mistake.
FALSE_ALARMS = 0.02


@dataclass(frozen=True)
class Gate:
    """Where the line is drawn; exactly one of the first two is set.

    Attributes:
        share: of the pool, the least typical first.
        minimum: of ``typicality``; what is below is left out.
        kept_groups: numbers of groups that a person has taken back, see ``groups``.
    """

    share: float | None = None
    minimum: float | None = None
    kept_groups: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        drop: str | None,
        minimum: float | None,
        *,
        kept_groups: Sequence[int] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Gate | None:
        """What ``--drop-atypical`` and ``--min-typicality`` ask for; None if neither is given.

        Args:
            drop: a percentage of the pool, or "auto".
            minimum: of ``typicality``.
            kept_groups: of ``--keep-group``.
            metadata: of the scores file; "auto" reads the threshold from it.

        Raises:
            SelectionError: both are given, or one of them cannot be used.
        """
        if drop is None and minimum is None:
            if kept_groups:
                raise SelectionError("--keep-group: nothing is turned away; give --drop-atypical")
            return None
        if drop is not None and minimum is not None:
            raise SelectionError("give either --drop-atypical or --min-typicality, not both")
        kept = tuple(kept_groups)
        if minimum is not None:
            if math.isnan(minimum):
                raise SelectionError("--min-typicality nan: expected a number")
            return cls(minimum=minimum, kept_groups=kept)
        assert drop is not None
        if drop == "auto":
            return cls(minimum=_calibrated(metadata), kept_groups=kept)
        match = _SHARE.fullmatch(drop.strip())
        if match is None or not 0 <= float(match["percent"]) < 100:
            raise SelectionError(
                f"--drop-atypical {drop}: expected a percentage below 100, such as 10%, or auto"
            )
        return cls(share=float(match["percent"]) / 100, kept_groups=kept)

    def turned_away(self, candidates: Candidates) -> list[int]:
        """Indices of what is left out before groups are taken back, least typical first.

        Raises:
            SelectionError: a record holds no ``typicality``.
        """
        if all(value is None for value in candidates.values("typicality")):
            raise SelectionError(
                "this file holds no typicality; score the pool with --typicality TRUSTED.jsonl"
            )
        values = candidates.numbers("typicality")
        order = sorted(range(len(values)), key=values.__getitem__)
        if self.share is not None:
            return order[: math.floor(self.share * len(order) + 0.5)]
        assert self.minimum is not None
        return [index for index in order if values[index] < self.minimum]


def _calibrated(metadata: Mapping[str, Any] | None) -> float:
    thresholds = ((metadata or {}).get("typicality") or {}).get("thresholds") or {}
    found = thresholds.get(f"{FALSE_ALARMS:g}")
    if not isinstance(found, (int, float)):
        raise SelectionError(
            "--drop-atypical auto: the scores' .meta.json holds no calibrated threshold; score the "
            "pool with --typicality TRUSTED.jsonl, or give a percentage"
        )
    return float(found)


def groups(candidates: Candidates, indices: Sequence[int]) -> list[int]:
    """A group number, from 1 by falling size, for each of some recordings: like with like.

    Args:
        candidates: the pool; without embeddings, all are one group.
        indices: what was turned away.
    """
    if candidates.embeddings is None or len(indices) < 2:
        return [1] * len(indices)
    from egl_fast.embeddings.clusters import clusters

    found = clusters(np.asarray(candidates.embeddings)[list(indices)])
    return [int(number) + 1 for number in found]
