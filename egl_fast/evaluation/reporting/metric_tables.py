"""What an evaluation measured, as tables and as rows of charts."""

from __future__ import annotations

import math
from typing import Any

from egl_fast.evaluation.reporting import paper
from egl_fast.evaluation.reporting.evaluation import METRICS, Comparison, Evaluation, Metric, Series
from egl_fast.evaluation.reporting.findings import main_query
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.page_model import Cell, Page, Row, Table
from egl_fast.evaluation.reporting.wording import MINUS, percent, percent_range, shown
from egl_fast.evaluation.statistics.bootstrap import Interval


def add_metrics(page: Page, evaluation: Evaluation) -> None:
    """Table 1, the curves of Fig. 1, the comparison with random, what is read off the curves."""
    page.data["metrics"] = [
        {"key": metric.key, "label": metric.label, "title": _titled(metric)} for metric in METRICS
    ]
    page.data["points"] = _points(evaluation)
    page.data["queries"] = [shown(query) for query in evaluation.queries]
    baseline = evaluation.baseline
    page.data["reductions"] = [] if baseline is None else _reductions(evaluation, baseline)
    for metric in METRICS:
        page.metric_tables.append(_table_1(evaluation, metric))
        page.curve_tables.append(_behind_the_curves(evaluation, metric))
        if baseline is not None:
            page.reduction_tables.append(_behind_the_reductions(evaluation, baseline, metric))
            page.efficiency_tables.append(_efficiency(evaluation, baseline, metric))
            page.equal_tables.append(_equal_hours(evaluation, baseline, metric))


def paper_tables(evaluation: Evaluation) -> list[Table]:
    """The paper's Table 1 beside ours: relative reductions, which compare across data sets."""
    tables = []
    for metric in METRICS:
        rows = []
        for query, published in paper.TABLE_1[metric.key].items():
            if query not in {own.name for own in evaluation.queries}:
                continue
            for place, strategy in enumerate(paper.STRATEGIES):
                theirs = published[place]
                ours = evaluation.value(Series(strategy, "single"), query, metric)
                comparison = (
                    evaluation.compare(
                        Series(strategy, "single"), evaluation.baseline, query, metric
                    )
                    if strategy != "random" and evaluation.baseline is not None
                    else None
                )
                rows.append(
                    Row(
                        f"{label(strategy)} at {query[:-1]}%",
                        _place(page_series=evaluation.series, strategy=strategy),
                        (
                            Cell(f"{theirs:.2f}"),
                            Cell(
                                _change(1 - theirs / published[0]) if strategy != "random" else ""
                            ),
                            Cell("" if ours is None else _value(ours.estimate, metric)),
                            _change_cell(comparison),
                        ),
                    )
                )
        if rows:
            tables.append(
                Table(
                    f"{metric.label}: the paper's Table 1 and this run",
                    ("paper", "compared with random", "this run", "against random"),
                    tuple(rows),
                )
            )
    return tables


def _place(page_series: tuple[Series, ...], strategy: str) -> int | None:
    series = Series(strategy, "single")
    return page_series.index(series) if series in page_series else None


def _points(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each point of each curve, end points included; metrics in their order."""
    rows = []
    for place, series in enumerate(evaluation.series):
        curves = [evaluation.curve(series, metric) for metric in METRICS]
        first = curves[0]
        if first is None:
            continue
        for at, query in enumerate(first.queries):
            values = [evaluation.value(series, query, metric) for metric in METRICS]
            rows.append(
                {
                    "s": place,
                    "q": query,
                    "end": query not in {q.name for q in evaluation.queries},
                    "clips": round(float(first.fractions[at]) * 100, 3),
                    "hours": round(float(first.hours[at]), 5),
                    "y": [
                        _rounded(float(curve.values[0, at]) * metric.scale)
                        for curve, metric in zip(curves, METRICS, strict=True)
                        if curve is not None
                    ],
                    "said": [
                        "" if value is None else _said(value, metric)
                        for value, metric in zip(values, METRICS, strict=True)
                    ],
                    "seeds": [
                        [_rounded(float(y) * metric.scale) for y in curve.by_seed[:, at]]
                        for curve, metric in zip(curves, METRICS, strict=True)
                        if curve is not None
                    ],
                }
            )
    return rows


def _reductions(evaluation: Evaluation, baseline: Series) -> list[dict[str, Any]]:
    rows = []
    for place, series in enumerate(evaluation.series):
        for query in evaluation.queries:
            for at, metric in enumerate(METRICS):
                comparison = evaluation.compare(series, baseline, query.name, metric)
                if series == baseline or comparison is None:
                    continue
                span = comparison.reduction
                rows.append(
                    {
                        "s": place,
                        "q": shown(query),
                        "m": at,
                        "y": _rounded(span.estimate * 100),
                        "low": _rounded(span.low * 100),
                        "high": _rounded(span.high * 100),
                        "seeds": [_rounded(value * 100) for value in comparison.reduction_by_seed],
                    }
                )
    return rows


def _table_1(evaluation: Evaluation, metric: Metric) -> Table:
    """One metric's part of Table 1: a row a budget, a column a strategy."""
    rows = []
    for query in evaluation.queries:
        values = [evaluation.value(series, query.name, metric) for series in evaluation.series]
        measured = [value.estimate for value in values if value is not None]
        cells = []
        for series, value in zip(evaluation.series, values, strict=True):
            if value is None:
                cells.append(Cell("–"))
                continue
            comparison = (
                evaluation.compare(series, evaluation.baseline, query.name, metric)
                if evaluation.baseline is not None and series != evaluation.baseline
                else None
            )
            cells.append(
                Cell(
                    _value(value.estimate, metric),
                    _ends(value, metric),
                    best=value.estimate == min(measured),
                    verdict="" if comparison is None else comparison.verdict,
                )
            )
        rows.append(Row(shown(query), None, tuple(cells)))
    return Table(
        _titled(metric),
        tuple(look(series).label for series in evaluation.series),
        tuple(rows),
        more=_end_points(evaluation, metric),
    )


def _end_points(evaluation: Evaluation, metric: Metric) -> str:
    """What is the same for every strategy, as far as it was measured."""
    series = evaluation.series[0]
    parts = []
    for query in evaluation.end_points(series.mode):
        value = evaluation.value(series, query, metric)
        curve = evaluation.curve(series, metric)
        if value is None or curve is None or query not in curve.queries:
            continue
        fraction = curve.fractions[curve.queries.index(query)]
        what = "nothing labeled" if fraction == 0 else "all of the pool labeled"
        parts.append(f"{what}: {_value(value.estimate, metric)} ({_ends(value, metric)})")
    return "; ".join(parts)


def _behind_the_curves(evaluation: Evaluation, metric: Metric) -> Table:
    rows = []
    for place, series in enumerate(evaluation.series):
        for query in (q.name for q in evaluation.queries):
            value = evaluation.value(series, query, metric)
            hours = evaluation.mean_hours(series, query)
            if value is None or hours is None:
                continue
            seeds = evaluation.by_seed(series, query, metric)
            rows.append(
                Row(
                    f"{look(series).label}, {query}",
                    place,
                    (
                        Cell(_value(value.estimate, metric)),
                        Cell(_ends(value, metric)),
                        Cell(f"{hours:.3f}"),
                        Cell(", ".join(_value(seed, metric) for seed in seeds)),
                    ),
                )
            )
    return Table(
        f"{_titled(metric)}: the points of the curves",
        ("mean", "95% interval", "hours labeled", "each seed"),
        tuple(rows),
        corner="Strategy, budget",
    )


def _behind_the_reductions(evaluation: Evaluation, baseline: Series, metric: Metric) -> Table:
    rows = []
    for place, series in enumerate(evaluation.series):
        if series == baseline:
            continue
        cells = tuple(
            _change_cell(evaluation.compare(series, baseline, query.name, metric))
            for query in evaluation.queries
        )
        rows.append(Row(look(series).label, place, cells))
    return Table(
        f"{metric.label}: change against random selection, with 95% intervals",
        tuple(shown(query) for query in evaluation.queries),
        tuple(rows),
    )


def _efficiency(evaluation: Evaluation, baseline: Series, metric: Metric) -> Table:
    rows = []
    for place, series in enumerate(evaluation.series):
        if series == baseline:
            continue
        cells = []
        for query in evaluation.queries:
            span = evaluation.label_efficiency(series, baseline, query.name, metric)
            cells.append(
                Cell("–") if span is None else Cell(_budget(span.estimate), percent_range(span))
            )
        rows.append(Row(look(series).label, place, tuple(cells)))
    return Table(
        f"{metric.label}: how much of the pool random selection needs to do as well",
        tuple(f"as at {shown(query)}" for query in evaluation.queries),
        tuple(rows),
    )


def _budget(share: float) -> str:
    return percent(share) if math.isfinite(share) else ("> 100%" if share > 0 else "< 0%")


def _equal_hours(evaluation: Evaluation, baseline: Series, metric: Metric) -> Table:
    query = main_query(evaluation)
    hours = evaluation.mean_hours(baseline, query.name) if query is not None else None
    rows = []
    for place, series in enumerate(evaluation.series):
        height = evaluation.mean_height(series, metric)
        against = evaluation.compare_mean_height(series, baseline, metric)
        own = evaluation.mean_hours(series, query.name) if query is not None else None
        value = None if hours is None else evaluation.at_hours(series, hours, metric)
        comparison = (
            None
            if hours is None or series == baseline
            else evaluation.compare_at_hours(series, baseline, hours, metric)
        )
        rows.append(
            Row(
                look(series).label,
                place,
                (
                    Cell("–") if own is None else Cell(_duration(own)),
                    Cell("–")
                    if value is None
                    else Cell(_value(value.estimate, metric), _ends(value, metric)),
                    _change_cell(comparison),
                    Cell("–")
                    if height is None
                    else Cell(_value(height.estimate, metric), _ends(height, metric)),
                    Cell("")
                    if against is None or series == baseline
                    else Cell(
                        _signed(against.estimate * metric.scale, 2),
                        f"{_signed(against.low * metric.scale, 2)} to "
                        f"{_signed(against.high * metric.scale, 2)}",
                    ),
                ),
            )
        )
    at = "–" if hours is None else _duration(hours)
    budget = "–" if query is None else shown(query)
    return Table(
        f"{_titled(metric)}: at equal hours, and over the whole curve",
        (
            f"audio in {budget} of the recordings",
            f"{metric.label} at {at} labeled",
            "compared with random",
            "mean over budgets",
            "difference from random",
        ),
        tuple(rows),
    )


def _duration(hours: float) -> str:
    return f"{hours:.2f} h" if hours >= 2 else f"{hours * 60:.1f} min"


def _titled(metric: Metric) -> str:
    unit = metric.unit.strip()
    long = metric.long_label[0].upper() + metric.long_label[1:]
    return f"{long} ({metric.label}), {unit}" if unit else long


def _value(value: float, metric: Metric) -> str:
    return f"{value * metric.scale:.2f}"


def _ends(value: Interval, metric: Metric) -> str:
    return f"{value.low * metric.scale:.1f} to {value.high * metric.scale:.1f}"


def _said(value: Interval, metric: Metric) -> str:
    return f"{metric.label} {_value(value.estimate, metric)}{metric.unit} ({_ends(value, metric)})"


def _change(reduction: float) -> str:
    """A relative reduction as a change: 0.05 is "−5.0%"."""
    return f"{_signed(-reduction * 100, 1)}%"


def _change_cell(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell("")
    span = comparison.reduction
    return Cell(
        _change(span.estimate),
        f"{_signed(-span.high * 100, 1)} to {_signed(-span.low * 100, 1)}%",
        verdict=comparison.verdict,
    )


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}".replace("-", MINUS)
    return text.lstrip("+" + MINUS) if float(f"{value:.{digits}f}") == 0 else text


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
