"""What the pool's scores say: distributions, rank against rank, and what each strategy picked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.page_model import Cell, Page, Row, Table
from egl_fast.evaluation.reporting.picked import Picked, describe, group_names, overlap
from egl_fast.evaluation.reporting.pool_findings import picked_findings
from egl_fast.evaluation.reporting.ranking import GRID_SIZE, Ranking, estimates
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import (
    duration,
    percent,
    plain,
    shown_id,
    shown_text,
    signed,
)
from egl_fast.evaluation.statistics.bootstrap import Floats

Integers = npt.NDArray[np.int64]

_POOL, _CANDIDATES, _PICKS = "whole pool", "all candidates", "the picks"
_MAX_GROUP = 40
_NUM_BINS = 28
#: Shares of picks over shares of the pool -> tint of the cell.
_TINTS = ((2.0, 4), (1.25, 3), (0.8, 2), (0.4, 1))


def add_ranking(page: Page, pool: ScoresFile, ranking: Ranking, by_seed: Sequence[Ranking]) -> None:
    """Fig. 2: points or cells of every pair of strategies, and the table of correlations."""
    names, shown = ranking.strategies, ranking.shown.tolist()
    utterances = [
        {
            "id": shown_id(record["id"]),
            "d": round(float(pool.durations[index]), 2),
            "t": shown_text(record.get("text")),
            "h": shown_text(record.get("pred_text")),
        }
        | ({"k": kind} if (kind := shown_text(record.get("kind"), most=_MAX_GROUP)) else {})
        for index, record in zip(shown, pool.records(shown), strict=True)
    ]
    grids = {f"{one}/{other}": counts.ravel().tolist() for one, other, counts in ranking.grids()}

    def rho(one: str, other: str) -> list[float | None]:
        ends = astuple(ranking.between(one, other))
        return [None if math.isnan(end) else round(end, 4) for end in ends]

    page.data["ranking"] = {
        "strategies": [
            {"key": name, "label": label(name), "place": page.place(Series(name, "single"))}
            for name in names
        ],
        "rho": [[rho(one, other) for other in names] for one in names],
        # Four digits place a point to a tenth of a pixel.
        "ranks": [np.rint(row[shown] * 9999).astype(int).tolist() for row in ranking.ranks],
        "size": len(pool),
        "sampled": ranking.is_sampled,
        "gridSize": GRID_SIZE,
        "grids": grids,
        "utterances": utterances,
        "hasKinds": "kind" in pool.groups,
    }

    def cell(name: str, other: str) -> Cell:
        between = ranking.between(name, other)
        if name == other or math.isnan(between.estimate):
            return Cell("" if name == other else "–")
        note = f"{signed(between.low)} to {signed(between.high)}"
        seeds = estimates(by_seed, name, other)
        if len(seeds) > 1:
            note += f"; seeds {signed(min(seeds))} to {signed(max(seeds))}"
        return Cell(signed(between.estimate), note)

    page.correlation_table = Table(
        "Spearman's rank correlations between strategies, with 95% intervals",
        tuple(map(label, names)),
        tuple(page.row(Series(one, "single"), (cell(one, o) for o in names)) for one in names),
    )


def add_histograms(page: Page, pool: ScoresFile) -> None:
    """How each score is distributed, on a logarithmic axis where it spans decades."""
    page.data["histograms"], rows = [], []
    for place, (name, scores) in enumerate(pool.strategies.items()):
        spread = bool(scores.min() > 0 and scores.max() / 30 > float(np.median(scores)))
        values = np.log10(scores) if spread else scores
        edges = _edges(values)
        counts = np.histogram(values, bins=edges)[0].tolist()
        bins = [
            {
                "low": float(f"{low:.9g}"),
                "high": float(f"{high:.9g}"),
                "count": count,
                "said": f"{count:,} recordings from {plain(10**low if spread else low)} to "
                f"{plain(10**high if spread else high)}",
            }
            for (low, high), count in zip(pairwise(edges.tolist()), counts, strict=True)
        ]
        drawn = {"place": place, "label": label(name), "log": spread, "rows": bins}
        page.data["histograms"].append(drawn)
        # Of halves, because the difference of two scores may not fit a float.
        quantiles = 2 * np.quantile(scores / 2, [0, 0.1, 0.5, 0.9, 1])
        rows.append(Row(label(name), place, tuple(Cell(plain(q)) for q in quantiles.tolist())))
    columns = ("lowest", "10%", "median", "90%", "highest")
    page.histogram_table = Table("Quantiles of the scores", columns, tuple(rows))


def _edges(values: Floats) -> Floats:
    """Edges of the bins; one bin where the values are equal, or too close to tell apart."""
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high, _NUM_BINS + 1)
    if (np.diff(edges) > 1e-9 * max(abs(low), abs(high))).all():
        return edges
    margin = 0.01 * max(abs(low), abs(high)) or 0.5
    return np.array([low - margin, high + margin])


def add_picked(
    page: Page,
    pool: ScoresFile,
    picks: Mapping[Series, Mapping[int, Integers]],
    *,
    candidates: Integers | None = None,
) -> None:
    """Durations, groups and overlap of what each series picked at ``page.budget``.

    Args:
        page: gets them.
        pool: the scores.
        picks: positions in the pool that each series picked, by seed.
        candidates: positions of what could be picked; None: the whole pool.
    """
    if not picks:
        return
    if candidates is None:
        candidates = np.arange(len(pool))
    name = _POOL if len(candidates) == len(pool) else _CANDIDATES
    everything = describe(pool, [candidates])
    of = {series: describe(pool, list(by_seed.values())) for series, by_seed in picks.items()}
    page.data["durations"] = [_duration_row(name, None, everything)] + [
        _duration_row(look(series).label, page.place(series), picked)
        for series, picked in of.items()
    ]
    rows = [(look(series).label, page.place(series), picked) for series, picked in of.items()]
    caption = f"What was picked at {page.budget} of the pool"
    _add_tables(page, pool, [(name, None, everything), *rows], caption)
    if len(picks) > 1:
        page.picked_tables.append(_overlaps(page, picks, len(candidates)))
    page.findings += picked_findings(
        everything,
        {series.strategy: picked for series, picked in of.items() if series.mode == "single"},
        group_names(pool.groups["kind"]) if "kind" in pool.groups else (),
        page.budget,
        whole="pool" if name == _POOL else "candidates",
        picked_by=page.picked_by,
    )


def add_composition(page: Page, picks: ScoresFile) -> None:
    """Durations and groups of picks, which are compared with nothing."""
    everything = describe(picks, [np.arange(len(picks))])
    _add_tables(page, picks, [(_PICKS, None, everything)], "How long the picks are")


def _add_tables(
    page: Page, pool: ScoresFile, of: Sequence[tuple[str, int | None, Picked]], caption: str
) -> None:
    """Lengths and shares of groups; the first of the rows is what the others are compared with."""
    whole, everything = of[0][0], of[0][2]

    def table(
        caption: str, columns: Sequence[str], cells: Callable[[Picked], Iterable[Cell]]
    ) -> Table:
        rows = tuple(Row(name, place, tuple(cells(picked))) for name, place, picked in of)
        return Table(caption, tuple(columns), rows, corner="Strategy" if rows[1:] else "")

    columns = ["recordings", "audio", "mean", "median", "10th to 90th percentile"]
    columns += [] if everything.speakers is None else ["speakers"]
    page.duration_table = table(caption, columns, _lengths)
    for key, groups in pool.groups.items():
        if key == "speaker" or len(groups.names) < 2:
            continue

        def shares(picked: Picked, key: str = key) -> Iterator[Cell]:
            for share, base in zip(picked.shares[key], everything.shares[key], strict=True):
                ratio = share / base if base > 0 else 1.0
                text = f"{plain(100 * share, digits=2)}%"
                if not 0 < share < 0.001:
                    text = percent(share, digits=1)
                is_whole = picked is everything
                yield Cell(text) if is_whole else Cell(text, f"{ratio:.1f} ×", level=_tint(ratio))

        unnamed = "speech" if key == "kind" else f"no {key}"
        caption = f"Share of the picks by {key}"
        caption += f", and the ratio to its share of the {whole.split()[-1]}" if of[1:] else ""
        names = [name or unnamed for name in group_names(groups)]
        page.picked_tables.append(table(caption, names, shares))


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


def _lengths(picked: Picked) -> list[Cell]:
    texts = [
        f"{picked.recordings:,.0f}",
        duration(picked.hours),
        f"{picked.mean_seconds:.2f} s",
        f"{picked.quantiles[2]:.2f} s",
        f"{picked.quantiles[0]:.1f} to {picked.quantiles[4]:.1f} s",
    ]
    texts += [] if picked.speakers is None else [f"{picked.speakers:,.0f}"]
    return [Cell(text) for text in texts]


def _overlaps(
    page: Page, picks: Mapping[Series, Mapping[int, Integers]], num_candidates: int
) -> Table:
    size = np.mean([len(pick) for by_seed in picks.values() for pick in by_seed.values()])
    chance = float(size) / num_candidates

    def cell(series: Series, other: Series) -> Cell:
        share = overlap(picks[series], picks[other])
        if series == other or share is None:
            return Cell("" if series == other else "–")
        return Cell(percent(share), level=_tint(share / chance))

    return Table(
        "Share of a strategy's picks (row) that another strategy (column) also picks",
        tuple(look(series).label for series in picks),
        tuple(page.row(one, (cell(one, other) for other in picks)) for one in picks),
        more=f"by chance: {percent(chance)}",
    )


def _tint(ratio: float) -> int:
    """How a share compares with the one expected by chance."""
    return next((tint for least, tint in _TINTS if ratio >= least), 0)
