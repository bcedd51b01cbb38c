"""Errors on each kind of test speech, where a simulation tells kinds apart by a manifest key."""

from __future__ import annotations

from collections import defaultdict
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING

from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.measures import METRICS, Series
from egl_fast.evaluation.reporting.names import look
from egl_fast.evaluation.reporting.page_model import Cell, Row, Table
from egl_fast.evaluation.reporting.wording import shown, shown_text
from egl_fast.evaluation.table_columns import MEAN

if TYPE_CHECKING:
    import polars as pl


def value_tables(errors: pl.DataFrame, evaluation: Evaluation) -> list[Table]:
    """For each metric a row per budget and series, a column per value and one for their mean.

    Args:
        errors: ``results_by`` of the run.
        evaluation: of the same run.
    """
    values = list(dict.fromkeys(errors["value"].to_list()))
    values.sort(key=lambda value: value == MEAN)
    columns = tuple("mean of these" if v == MEAN else shown_text(v, most=40) for v in values)
    tables = []
    for metric in METRICS:
        # Of several rounds that lead to the same budget, the last one counts.
        found: dict[tuple[Series, str], dict[str, dict[int, float]]] = {}
        for row in errors.sort("round").iter_rows(named=True):
            key = Series(row["strategy"], row["mode"]), row["query"]
            of_value = found.setdefault(key, defaultdict(dict))
            of_value[row["value"]][row["seed"]] = row[metric.key]
        rows = []
        for query in evaluation.queries:
            means = {
                series: [fmean(of[value].values()) if of[value] else inf for value in values]
                for series in evaluation.series
                if (of := found.get((series, query.name))) is not None
            }
            lowest = [min(column) for column in zip(*means.values(), strict=True)]
            rows += [
                Row(
                    f"{look(series).label}, {shown(query)}",
                    evaluation.series.index(series),
                    tuple(
                        Cell("–")
                        if mean == inf
                        else Cell(f"{mean * metric.scale:.2f}", best=mean == least)
                        for mean, least in zip(own, lowest, strict=True)
                    ),
                )
                for series, own in means.items()
            ]
        unit = f", {metric.unit.strip()}" if metric.unit else ""
        caption = f"{metric.label}{unit} on each kind of test speech"
        tables.append(Table(caption, columns, tuple(rows), corner="Strategy, budget"))
    return tables
