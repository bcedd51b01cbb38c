"""What a gate leaves out: read from beside a selection, or worked out for a scored pool."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from operator import sub
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.data.audio_folder import read_metadata
from egl_fast.embeddings.file import embeddings_path, load_embeddings
from egl_fast.errors import ManifestError, SelectionError
from egl_fast.evaluation.reporting.made_selection import MadeSelection, atypical_path
from egl_fast.evaluation.reporting.score_records import read_records, records_at
from egl_fast.evaluation.reporting.scores_file import ScoresFile, number_in
from egl_fast.evaluation.statistics.bootstrap import Floats
from egl_fast.selection.gate import (
    Gate,
    groups,
    histogram,
    likeness_in,
    quantiles,
    too_few_trusted,
)

#: What the gate of a pool is taken to be where no selection was made.
DEFAULT = "auto"
#: Of a list in metadata; ours are shorter.
_MOST_NUMBERS = 2000
#: Of a bin; ours are 0.001 wide, but for rounding.
_LEAST_WIDTH = 9e-4


@dataclass(frozen=True)
class LeftOut:
    """M recordings that a gate leaves out, least typical first.

    Attributes:
        option: the gate, as a user gives it; "" where it is unknown.
        kept_groups: numbers of groups that were taken back, and so are not among the M.
        is_made: whether a selection was made; False: this is what one would leave out.
        threshold: the typicality below which recordings are left out; None where it is unknown.
        num_candidates: what the gate was applied to; None where it is unknown.
        candidate_seconds: of audio.
        pool: quantiles of the candidates' typicality, as ``gate.quantiles`` has them; () where they
            are unknown.
        edges: [B + 1] of bins of typicality, one of them the threshold; () where they are unknown.
        counts: [B] of the candidates in each bin; the first includes what is below it.
        trusted: quantiles of the trusted recordings' typicality.
        typicality: [M].
        seconds: [M].
        groups: [M] from 1; recordings of a group are alike.
        records: whole records, given some of the M positions.
        warnings: what a reader must know.
    """

    option: str
    kept_groups: tuple[int, ...]
    is_made: bool
    threshold: float | None
    num_candidates: int | None
    candidate_seconds: float | None
    pool: tuple[float, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    trusted: tuple[float, ...]
    typicality: Floats
    seconds: Floats
    groups: npt.NDArray[np.int64]
    records: Callable[[Collection[int]], list[dict[str, Any]]]
    warnings: tuple[str, ...] = ()


def needs_ids(path: Path) -> bool:
    """Whether ``left_out_of_pool`` compares ids: with those of the embeddings."""
    return embeddings_path(path).is_file()


def left_out_of_selection(made: MadeSelection) -> LeftOut | None:
    """What the gate of a selection left out; None where there was no gate.

    Raises:
        ManifestError: the list of what was left out is damaged; the message names the line.
    """
    metadata, listed = made.metadata, atypical_path(made.pool.path)
    gate = metadata.get("gate")
    if not listed.is_file() and not isinstance(gate, dict):
        return None
    gate = gate if isinstance(gate, dict) else {}
    columns = {name: array("d") for name in ("typicality", "duration", "group")}
    for where, record in read_records(listed) if listed.is_file() else ():
        for name, column in columns.items():
            column.append(number_in(record, name, where))
            if math.isnan(column[-1]):
                raise ManifestError(f"{where}: holds no {name}; was it written by `select`?")
        if not isinstance(record.get("id"), str):
            raise ManifestError(f"{where}: holds no id; was it written by `select`?")
    typicality, seconds, numbers = (np.frombuffer(column) for column in columns.values())
    option, kept = gate.get("option"), gate.get("kept_groups")
    edges, counts = _histogram_in(gate)
    return LeftOut(
        option=option if isinstance(option, str) else "",
        kept_groups=tuple(n for n in kept if isinstance(n, int)) if isinstance(kept, list) else (),
        is_made=True,
        threshold=_finite(gate.get("threshold")),
        num_candidates=None if (n := _finite(gate.get("num_candidates"))) is None else int(n),
        candidate_seconds=_finite(gate.get("seconds")),
        pool=quantiles_in(gate),
        edges=edges,
        counts=counts,
        trusted=quantiles_in(likeness_in(metadata)),
        typicality=typicality,
        seconds=seconds,
        groups=numbers.astype(np.int64),
        records=lambda places: records_at(listed, dict.fromkeys(places), len(typicality)),
        warnings=_few_trusted(option, likeness_in(metadata)),
    )


def left_out_of_pool(pool: ScoresFile) -> LeftOut | None:
    """What a gate would leave out of a scored pool; None without typicality.

    Args:
        pool: the scores; with ids where embeddings are beside them.
    """
    if np.isnan(pool.typicality).any():
        return None
    metadata = read_metadata(str(pool.path))
    likeness, warnings = likeness_in(metadata), []
    values = pool.typicality.tolist()
    option, threshold, indices = "", None, list[int]()
    try:
        gate = Gate.of(DEFAULT, None, metadata=metadata)
        assert gate is not None
        option, threshold, indices = (
            gate.option, gate.threshold(values), gate.least_typical(values)
        )  # fmt: skip
    except SelectionError:
        pass  # No threshold is calibrated: the page shows the pool's typicality, and says so.
    embeddings = None
    try:
        if indices and pool.ids:
            embeddings = load_embeddings(pool.path, pool.ids, likeness)
    except SelectionError as error:
        warnings.append(f"What the gate leaves out is not grouped: {error}.")
    away = np.array(indices, dtype=np.int64)
    drawn = histogram(values, threshold)

    def records(places: Collection[int]) -> list[dict[str, Any]]:
        return pool.records(dict.fromkeys(away[list(places)].tolist()))

    return LeftOut(
        option=option,
        kept_groups=(),
        is_made=False,
        threshold=threshold,
        num_candidates=len(pool),
        candidate_seconds=float(pool.durations.sum()),
        pool=tuple(quantiles(values)),
        edges=tuple(drawn["edges"]),
        counts=tuple(map(int, drawn["counts"])),
        trusted=quantiles_in(likeness),
        typicality=pool.typicality[away],
        seconds=pool.durations[away],
        groups=np.array(groups(embeddings, indices), dtype=np.int64),
        records=records,
        warnings=(*warnings, *_few_trusted(option, likeness)),
    )


def _few_trusted(option: object, likeness: Mapping[str, Any]) -> tuple[str, ...]:
    few = too_few_trusted(likeness.get("num_trusted")) if option == "--drop-atypical auto" else None
    return () if few is None else (f"There are {few}.",)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        return None
    return float(value)


def outlier_threshold(metadata: Mapping[str, Any]) -> float | None:
    """Where `--drop-atypical auto` would cut, if it were asked for."""
    try:
        gate = Gate.of(DEFAULT, None, metadata=metadata)
    except SelectionError:
        return None
    return None if gate is None else gate.minimum


def quantiles_in(said: Mapping[str, Any]) -> tuple[float, ...]:
    """Quantiles that metadata hold, where they are ones."""
    return _ascending(said.get("quantiles"))


def _histogram_in(gate: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Edges and counts that metadata hold, where they are ones."""
    said = gate.get("histogram")
    said = said if isinstance(said, dict) else {}
    edges, counts = _ascending(said.get("edges")), said.get("counts")
    if (
        not isinstance(counts, list)
        or not all(type(count) is int and 0 <= count < 1e15 for count in counts)
        or not any(counts)
        or len(edges) != len(counts) + 1
        or min(map(sub, edges[1:], edges)) < _LEAST_WIDTH
    ):
        return (), ()
    return edges, tuple(counts)


def _ascending(found: object) -> tuple[float, ...]:
    if not isinstance(found, list) or not 2 <= len(found) <= _MOST_NUMBERS:
        return ()
    values = [_finite(value) for value in found]
    known = [value for value in values if value is not None]
    return tuple(known) if len(known) == len(values) and known == sorted(known) else ()
