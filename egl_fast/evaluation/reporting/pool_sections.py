"""What the pool's scores say: distributions, rank against rank, and what each strategy picked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.page_model import Cell, Page, Row, Table
from egl_fast.evaluation.reporting.picked import Picked, describe, group_names, overlap
from egl_fast.evaluation.reporting.pool_findings import picked_findings
from egl_fast.evaluation.reporting.ranking import GRID_SIZE, Ranking, estimates
from egl_fast.evaluation.reporting.scores_file import Groups, ScoresFile
from egl_fast.evaluation.reporting.wording import (
    duration,
    percent,
    plain,
    shown_id,
    shown_text,
    signed,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

POOL = "whole pool"
_MAX_GROUP = 40
_NUM_BINS = 28
#: Shares of picks over shares of the pool -> tint of the cell.
_TINTS = ((2.0, 4), (1.25, 3), (0.8, 2), (0.4, 1))


def add_ranking(page: Page, pool: ScoresFile, ranking: Ranking, by_seed: Sequence[Ranking]) -> None:
    """Fig. 2: points or cells of every pair of strategies, and the table of correlations."""
    shown = ranking.shown.tolist()
    utterances = [
        {
            "id": shown_id(record["id"]),
            "d": round(float(pool.durations[index]), 2),
            "t": shown_text(record.get("text")),
            "h": shown_text(record.get("pred_text")),
            "k": shown_text(record.get("kind"), most=_MAX_GROUP),
            "c": shown_text(record.get("corpus"), most=_MAX_GROUP),
        }
        for index, record in zip(shown, pool.records(shown), strict=True)
    ]
    page.data["ranking"] = {
        "strategies": [
            {"key": name, "label": label(name), "place": _place(page, name)}
            for name in ranking.strategies
        ],
        "rho": [
            [
                list(map(_or_none, astuple(ranking.between(one, other))))
                for other in ranking.strategies
            ]
            for one in ranking.strategies
        ],
        # Four digits place a point to a tenth of a pixel.
        "ranks": [np.rint(row[shown] * 9999).astype(int).tolist() for row in ranking.ranks],
        "size": len(pool),
        "sampled": ranking.is_sampled,
        "gridSize": GRID_SIZE,
        "grids": {
            f"{one}/{other}": counts.ravel().tolist() for one, other, counts in ranking.grids()
        }
        if ranking.is_sampled
        else {},
        "utterances": utterances,
        "hasKinds": "kind" in pool.groups,
    }
    page.correlation_table = _correlations(page, ranking, by_seed)


def _correlations(page: Page, ranking: Ranking, by_seed: Sequence[Ranking]) -> Table:
    def cell(name: str, against: str) -> Cell:
        rho = ranking.between(name, against)
        if name == against or math.isnan(rho.estimate):
            return Cell("" if name == against else "–")
        note = f"{signed(rho.low)} to {signed(rho.high)}"
        seeds = estimates(by_seed, name, against)
        if len(seeds) > 1:
            note += f"; seeds {signed(min(seeds))} to {signed(max(seeds))}"
        return Cell(signed(rho.estimate), note)

    names = ranking.strategies
    rows = [page.row(Series(name, "single"), (cell(name, o) for o in names)) for name in names]
    return Table(
        "Spearman's rank correlations between strategies, with 95% intervals",
        tuple(label(name) for name in ranking.strategies),
        tuple(rows),
    )


def add_histograms(page: Page, pool: ScoresFile) -> None:
    """How each score is distributed, on a logarithmic axis where it spans decades."""
    charts_of = []
    for place, (name, scores) in enumerate(pool.strategies.items()):
        spread = bool(scores.min() > 0 and scores.max() / 30 > float(np.median(scores)))
        values = np.log10(scores) if spread else scores
        edges = _edges(values)
        counts, _ = np.histogram(values, bins=edges)
        ends = [plain(10**edge if spread else edge) for edge in edges.tolist()]
        rows = [
            {
                "low": float(f"{low:.9g}"),
                "high": float(f"{high:.9g}"),
                "count": int(count),
                "said": f"{count:,} recordings from {ends[at]} to {ends[at + 1]}",
            }
            for at, (low, high, count) in enumerate(
                zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
            )
        ]
        charts_of.append({"place": place, "label": label(name), "log": spread, "rows": rows})
        # Halves, because the distance of two scores may be beyond a float.
        quantiles = 2 * np.quantile(scores / 2, [0, 0.1, 0.5, 0.9, 1])
        page.histogram_rows.append(
            Row(label(name), place, tuple(Cell(plain(value)) for value in quantiles.tolist()))
        )
    page.data["histograms"] = charts_of


def _edges(values: Floats) -> Floats:
    """Ends of the bins; one bin where the values are equal, or too close to be told apart."""
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, _NUM_BINS + 1)
    if (np.diff(edges) > 1e-9 * max(abs(low), abs(high))).all():
        return edges
    margin = 0.01 * max(abs(low), abs(high)) or 0.5
    return np.array([low - margin, high + margin])


def add_picked(
    page: Page, pool: ScoresFile, picks: Mapping[Series, Mapping[int, Integers]]
) -> None:
    """Durations, groups and overlap of what each series picked at ``page.budget``."""
    if not picks:
        return
    everything = describe(pool, [np.arange(len(pool))])
    of = {series: describe(pool, list(by_seed.values())) for series, by_seed in picks.items()}
    looks = [look(series) for series in picks]
    page.data["durations"] = [
        _duration_row(POOL, None, everything),
        *(
            _duration_row(one.label, page.looks.index(one), picked)
            for one, picked in zip(looks, of.values(), strict=True)
        ),
    ]
    page.duration_table = _durations(page, everything, of)
    for key, groups in pool.groups.items():
        if key != "speaker" and len(groups.names) > 1:
            page.picked_tables.append(_shares(page, key, groups, everything, of))
    if len(picks) > 1:
        page.picked_tables.append(_overlaps(page, picks, len(pool)))
    page.findings += picked_findings(
        everything,
        {series.strategy: picked for series, picked in of.items() if series.mode == "single"},
        group_names(pool.groups["kind"]) if "kind" in pool.groups else (),
        page.budget,
    )


def _duration_row(name: str, place: int | None, picked: Picked) -> dict[str, Any]:
    quantiles = dict(zip(("p10", "p25", "p50", "p75", "p90"), picked.quantiles, strict=True))
    return {
        "series": name,
        "place": place,
        **{key: round(value, 3) for key, value in quantiles.items()},
        "mean": round(picked.mean_seconds, 3),
        "said": f"{name}: median {quantiles['p50']:.1f} s, middle half {quantiles['p25']:.1f} to "
        f"{quantiles['p75']:.1f} s, mean {picked.mean_seconds:.1f} s",
    }


def _durations(page: Page, everything: Picked, of: Mapping[Series, Picked]) -> Table:
    with_speakers = everything.speakers is not None

    def cells(picked: Picked) -> Iterator[Cell]:
        yield Cell(f"{picked.recordings:,.0f}")
        yield Cell(duration(picked.hours))
        yield Cell(f"{picked.mean_seconds:.2f} s")
        yield Cell(f"{picked.quantiles[2]:.2f} s")
        yield Cell(f"{picked.quantiles[0]:.1f} to {picked.quantiles[4]:.1f} s")
        if with_speakers:
            yield Cell(f"{picked.speakers:,.0f}")

    columns = ("recordings", "audio", "mean", "median", "10th to 90th percentile")
    return Table(
        f"What was picked at {page.budget} of the pool",
        (*columns, "speakers") if with_speakers else columns,
        (
            Row(POOL, None, tuple(cells(everything))),
            *(page.row(series, cells(picked)) for series, picked in of.items()),
        ),
    )


def _shares(
    page: Page, key: str, groups: Groups, everything: Picked, of: Mapping[Series, Picked]
) -> Table:
    names = group_names(groups)

    def cells(picked: Picked) -> Iterator[Cell]:
        for share, base in zip(picked.shares[key], everything.shares[key], strict=True):
            ratio = share / base if base > 0 else 1.0
            if picked is everything:
                yield Cell(_share(share))
            else:
                yield Cell(_share(share), f"{ratio:.1f} ×", level=_tint(ratio))

    unnamed = "speech" if key == "kind" else f"no {key}"
    return Table(
        f"Share of the picks by {key}, and the ratio to its share of the pool",
        tuple(name or unnamed for name in names),
        (
            Row(POOL, None, tuple(cells(everything))),
            *(page.row(series, cells(picked)) for series, picked in of.items()),
        ),
    )


def _share(share: float) -> str:
    return f"{plain(100 * share, digits=2)}%" if 0 < share < 0.001 else percent(share, digits=1)


def _overlaps(
    page: Page, picks: Mapping[Series, Mapping[int, Integers]], num_recordings: int
) -> Table:
    rows = []
    size = np.mean([len(pick) for by_seed in picks.values() for pick in by_seed.values()])
    chance = float(size) / num_recordings
    for series, own in picks.items():
        cells = []
        for other, theirs in picks.items():
            share = None if other == series else overlap(dict(own), dict(theirs))
            if share is None:
                cells.append(Cell("" if other == series else "–"))
            else:
                cells.append(Cell(percent(share), level=_tint(share / chance)))
        rows.append(page.row(series, cells))
    return Table(
        "Share of a strategy's picks (row) that another strategy (column) also picks",
        tuple(look(series).label for series in picks),
        tuple(rows),
        more=f"by chance: {percent(chance)}",
    )


def _tint(ratio: float) -> int:
    """How a share stands to the one expected by chance."""
    return next((tint for least, tint in _TINTS if ratio >= least), 0)


def _place(page: Page, strategy: str) -> int:
    return page.looks.index(look(Series(strategy, "single")))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
