"""The gate: which recordings are left out because they are not like speech of the domain."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from egl_fast.errors import SelectionError
from egl_fast.naming import named
from egl_fast.selection.candidates import Candidates

_SHARE = re.compile(r"(?P<percent>[0-9]+(\.[0-9]+)?)%")
#: ``auto`` draws the line below which this share of the trusted recordings lies. Nominal: of other
#: speech, it leaves out less or more (docs/typicality.md has measurements).
FALSE_ALARMS = 0.02
#: Fewer trusted recordings say too little about where that share of them ends.
ENOUGH_TRUSTED = 50
#: Where histograms begin: at what is surrounded 20 times less densely than its neighbors.
LOWEST = -3.0
_NUM_BINS = 36


@dataclass(frozen=True)
class Gate:
    """Where the line is drawn; exactly one of the first two is set.

    Attributes:
        share: of the pool, the least typical first.
        minimum: of ``typicality``; what is below is left out.
        kept_groups: numbers of groups that a person has taken back, see ``groups``.
        option: what the user gave, as in "--drop-atypical auto".
    """

    share: float | None = None
    minimum: float | None = None
    kept_groups: tuple[int, ...] = ()
    option: str = ""

    @classmethod
    def of(
        cls,
        drop: str | float | None,
        minimum: float | None,
        *,
        kept_groups: Sequence[int] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Gate | None:
        """What ``drop_atypical`` and ``min_typicality`` ask for; None if neither is given.

        Args:
            drop: a share of the pool, as a percentage or a number below 1, or "auto".
            minimum: of ``typicality``.
            kept_groups: of ``keep_group``.
            metadata: of the scores file; "auto" reads the threshold from it.

        Raises:
            SelectionError: both are given, or one of them cannot be used.
        """
        if drop is None and minimum is None:
            if kept_groups:
                raise SelectionError(
                    f"{named('keep_group')}: there is no gate, so nothing is left out; give "
                    f"{named('drop_atypical')}"
                )
            return None
        if drop is not None and minimum is not None:
            raise SelectionError(
                f"give either {named('drop_atypical')} or {named('min_typicality')}, not both"
            )
        kept = tuple(kept_groups)
        if minimum is not None:
            if not math.isfinite(minimum):
                raise SelectionError(
                    f"{named('min_typicality', minimum)}: expected a finite number"
                )
            return cls(minimum=minimum, kept_groups=kept, option=f"--min-typicality {minimum:g}")
        assert drop is not None
        drop = _percentage(drop)
        option = f"--drop-atypical {drop}"
        if drop == "auto":
            return cls(minimum=_calibrated(metadata), kept_groups=kept, option=option)
        match = _SHARE.fullmatch(drop)
        if match is None or not 0 <= float(match["percent"]) < 100:
            raise SelectionError(
                f"{named('drop_atypical', drop)}: expected a percentage below 100, such as 10%, or "
                "auto"
            )
        return cls(share=float(match["percent"]) / 100, kept_groups=kept, option=option)

    def turned_away(self, candidates: Candidates) -> list[int]:
        """Indices of what is left out before groups are taken back, least typical first.

        Raises:
            SelectionError: a record holds no ``typicality``.
        """
        if all(value is None for value in candidates.values("typicality")):
            raise SelectionError(
                "these scores hold no typicality; score the pool with `egl-fast score --typicality`"
            )
        return self.least_typical(candidates.numbers("typicality"))

    def least_typical(self, values: Sequence[float]) -> list[int]:
        """Indices of the values that are left out, lowest first."""
        order = sorted(range(len(values)), key=values.__getitem__)
        if self.share is not None:
            return order[: math.floor(self.share * len(order) + 0.5)]
        assert self.minimum is not None
        return [index for index in order if values[index] < self.minimum]

    def metadata(self, candidates: Candidates) -> dict[str, Any]:
        """What is recorded of it beside a selection, so that a person can judge it.

        Returns:
            ``option`` and ``kept_groups``, as given; ``num_candidates`` and their ``seconds``;
            ``threshold``, the typicality below which they were left out; and ``quantiles`` and
            ``histogram`` of the typicality of all of them.
        """
        values = candidates.numbers("typicality")
        threshold = self.threshold(values)
        return {
            "option": self.option,
            "kept_groups": list(self.kept_groups),
            "num_candidates": len(values),
            "seconds": round(math.fsum(candidates.numbers("duration")), 3),
            "threshold": threshold,
            "quantiles": quantiles(values),
            "histogram": histogram(values, threshold),
        }

    def threshold(self, values: Sequence[float]) -> float:
        """The typicality below which values are left out."""
        if self.minimum is not None:
            return self.minimum
        return sorted(values)[len(self.least_typical(values))]


def quantiles(values: Sequence[float] | npt.NDArray[np.float64]) -> list[float]:
    """Quantiles of values from 0 to 100 % at equal steps: all of them in order, or 1,001."""
    steps = np.linspace(0, 1, max(2, min(len(values), 1001)))
    found: list[float] = np.quantile(values, steps).round(6).tolist()
    return found


def histogram(
    values: Sequence[float] | npt.NDArray[np.float64], threshold: float | None = None
) -> dict[str, list[float]]:
    """How many values lie between neighboring ``edges``, as ``counts``.

    Args:
        values: of typicality.
        threshold: an edge, so that no bin holds values on both sides of it; None: there is none.

    Returns:
        ``edges`` [B + 1] at equal distances, and ``counts`` [B], of which the first includes what
        is below ``LOWEST``.
    """
    low, high = max(min(values), LOWEST), max(max(values), LOWEST)
    start = low if threshold is None or not low <= threshold <= high else threshold
    width = max((high - low) / _NUM_BINS, 1e-3)
    first, last = math.floor((low - start) / width), math.floor((high - start) / width) + 1
    edges = start + width * np.arange(first, last + 1)
    counts = np.histogram(np.maximum(values, edges[0]), edges)[0]
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def likeness_in(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What the metadata of a scores file say about typicality; nothing where they are damaged."""
    found = (metadata or {}).get("typicality")
    return found if isinstance(found, Mapping) else {}


def enough_trusted(num_trusted: object) -> bool:
    """Whether so many trusted recordings tell where the threshold of ``auto`` is."""
    return isinstance(num_trusted, int) and num_trusted >= ENOUGH_TRUSTED


def default_drop(metadata: Mapping[str, Any] | None) -> str | None:
    """``drop_atypical`` where no gate is given: "auto" if there are enough trusted recordings."""
    likeness = likeness_in(metadata)
    is_calibrated = "thresholds" in likeness and enough_trusted(likeness.get("num_trusted"))
    return "auto" if is_calibrated else None


def how_to_close(
    metadata: Mapping[str, Any] | None,
    *,
    holds_typicality: bool,
    read_from: Literal["file", "pipe", "list"] = "file",
) -> str:
    """What to do so that noise is left out, where there is no gate by default.

    Args:
        metadata: of the scores file; None or empty if there are none.
        holds_typicality: whether the records do.
        read_from: what the records came in; only a file has others beside it.
    """
    said, likeness = metadata or {}, likeness_in(metadata)
    if read_from == "pipe":
        return (
            "score with --typicality and --out, and select from that file: the gate needs what is "
            "kept beside it, which a pipe does not carry"
        )
    if said.get("shard") is not None and said.get("trusted_sha256") is not None:
        return "put the shards together with `egl-fast merge`, which computes typicality"
    if not holds_typicality:
        joined = (
            " (if these are shards that were joined by hand, join them with `egl-fast merge`)"
            if not said
            else ""
        )
        return (
            f"score the pool with `egl-fast score --typicality` and at least {ENOUGH_TRUSTED} "
            f"trusted recordings{joined}"
        )
    if "thresholds" not in likeness:
        percentage = named("drop_atypical", "10%")
        if read_from == "list":
            return f"give what egl_fast.read_scores returns, or {percentage}"
        return (
            "keep the scores' .meta.json, which holds the threshold, beside them (files joined by "
            f"hand have none: `egl-fast merge` joins shards), or give {percentage}"
        )
    return (
        f"give {named('drop_atypical', 'auto')} or a percentage: the gate is not the default with "
        f"fewer than {ENOUGH_TRUSTED} trusted recordings"
    )


def too_few_trusted(num_trusted: object) -> str | None:
    """One line if there are too few trusted recordings for the threshold of ``auto``, or None."""
    if not isinstance(num_trusted, int) or enough_trusted(num_trusted):
        return None
    return (
        f"only {num_trusted} trusted recordings: the threshold of "
        f"{named('drop_atypical', 'auto')} may be off; name {ENOUGH_TRUSTED} or more with "
        "`egl-fast score --typicality`, or choose a percentage by listening to what it leaves out"
    )


def _percentage(drop: str | float) -> str:
    """0.1 as "10%"; a string, or what is no share, as it is."""
    if isinstance(drop, str):
        return drop.strip()
    # By its shortest decimal: in binary, 100 * 0.07 is not 7.
    is_number = isinstance(drop, (int, float)) and not isinstance(drop, bool)
    return f"{Decimal(repr(float(drop))) * 100:f}%" if is_number and 0 <= drop < 1 else repr(drop)


def _calibrated(metadata: Mapping[str, Any] | None) -> float:
    thresholds = likeness_in(metadata).get("thresholds")
    found = thresholds.get(f"{FALSE_ALARMS:g}") if isinstance(thresholds, Mapping) else None
    if not isinstance(found, (int, float)) or not math.isfinite(found):
        raise SelectionError(
            f"{named('drop_atypical', 'auto')}: the scores' .meta.json holds no calibrated "
            "threshold; score the pool with `egl-fast score --typicality`, or give a percentage"
        )
    return float(found)


def groups(embeddings: npt.NDArray[Any] | None, indices: Sequence[int]) -> list[int]:
    """A group number, from 1 by falling size, for each of some recordings: like with like.

    Args:
        embeddings: [n, d] of the pool; without them, all are one group.
        indices: what was turned away.
    """
    if embeddings is None or len(indices) < 2:
        return [1] * len(indices)
    from egl_fast.embeddings.clusters import clusters

    found = clusters(np.asarray(embeddings)[list(indices)])
    return [int(number) + 1 for number in found]
