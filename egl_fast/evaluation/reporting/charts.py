"""The page's charts, as Vega-Lite specifications without data.

The page's script puts the rows in (``datasets``), and the colours: a string ``var(--name)`` stands
for the style sheet's, so that a chart follows the page from light to dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from egl_fast.evaluation.reporting.names import Look
from egl_fast.evaluation.reporting.ranking import GRID_SIZE

Spec = dict[str, Any]

_FIT: Spec = {"type": "fit-x", "contains": "padding"}
_NOTHING: Spec = {"legend": None}


def config() -> Spec:
    """What all charts share: type, lines and the page's own colours."""
    return {
        "background": None,
        "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
        "view": {"stroke": None},
        "axis": {
            "labelColor": "var(--soft)",
            "titleColor": "var(--soft)",
            "gridColor": "var(--line)",
            "domainColor": "var(--line)",
            "tickColor": "var(--line)",
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "labelPadding": 6,
            "titlePadding": 10,
        },
        # "people" is the page's script's: 2,000 rather than 2e+3.
        "axisQuantitative": {"labelExpr": "people(datum.value)"},
    }


def _series_scales(looks: Sequence[Look]) -> dict[str, Spec]:
    """Colour, marker and dash of every series, by its label."""
    labels = [look.label for look in looks]
    return {
        "color": {
            "field": "series",
            "type": "nominal",
            "scale": {
                "domain": labels,
                "range": [f"var(--c{place})" for place in range(len(looks))],
            },
            **_NOTHING,
        },
        "shape": {
            "field": "series",
            "type": "nominal",
            "scale": {"domain": labels, "range": [look.shape for look in looks]},
            **_NOTHING,
        },
        "strokeDash": {
            "field": "series",
            "type": "nominal",
            "scale": {
                "domain": labels,
                "range": [[6, 4] if look.dashed else [1, 0] for look in looks],
            },
            **_NOTHING,
        },
    }


def curves(looks: Sequence[Look]) -> Spec:
    """Fig. 1: a metric against what was labeled.

    Datasets: ``means`` {series, x, y, said}, ``seeds`` {series, seed, x, y}, ``callouts`` {series,
    x, y, label_x, label_y}: the last query's point, and where its label stands. The script puts
    the titles of the axes in the place of ``x_title`` and ``y_title``.
    """
    scales = _series_scales(looks)
    x: Spec = {
        "field": "x",
        "type": "quantitative",
        "axis": {"title": "x_title", "grid": False, "tickCount": 10},
    }
    y: Spec = {
        "field": "y",
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": {"title": "y_title", "tickCount": 6},
    }
    return {
        "width": "container",
        "autosize": _FIT,
        "height": 400,
        "layer": [
            {
                "data": {"name": "seeds"},
                "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.28},
                "encoding": {"x": x, "y": y, "color": scales["color"], "detail": {"field": "seed"}},
            },
            {
                "data": {"name": "callouts"},
                "mark": {"type": "rule", "strokeWidth": 0.75, "opacity": 0.7},
                "encoding": {
                    "x": x,
                    "y": y,
                    "x2": {"field": "label_x"},
                    "y2": {"field": "label_y"},
                    "color": scales["color"],
                },
            },
            {
                "data": {"name": "callouts"},
                "mark": {
                    "type": "text", "align": "left", "dx": 5, "baseline": "middle",
                    "fontSize": 12.5, "fontWeight": 600,
                },
                "encoding": {
                    "x": {"field": "label_x", "type": "quantitative"},
                    "y": {"field": "label_y", "type": "quantitative"},
                    "text": {"field": "series"},
                    "color": scales["color"],
                },
            },
            {
                "data": {"name": "means"},
                "mark": {"type": "line", "strokeWidth": 2.25, "strokeJoin": "round"},
                "encoding": {
                    "x": x, "y": y, "color": scales["color"], "strokeDash": scales["strokeDash"],
                },
            },
            {
                "data": {"name": "means"},
                "params": [
                    {
                        "name": "hover",
                        "select": {
                            "type": "point", "on": "pointerover", "nearest": True,
                            "clear": "pointerout",
                        },
                    }
                ],
                "mark": {
                    "type": "point", "filled": True, "opacity": 1, "stroke": "var(--page)",
                    "strokeWidth": 1,
                },
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": scales["color"],
                    "shape": scales["shape"],
                    "size": {"condition": {"param": "hover", "empty": False, "value": 190},
                             "value": 75},
                    "description": {"field": "said"},
                    "tooltip": {"field": "said"},
                },
            },
        ],
    }  # fmt: skip


def reductions(looks: Sequence[Look]) -> Spec:
    """How much lower than at random, with intervals.

    Datasets: ``means`` {series, query, y, low, high, said}, ``seeds`` {series, query, y}.
    """
    scales = _series_scales(looks)
    order = [look.label for look in looks]
    place: Spec = {
        "x": {
            "field": "query",
            "type": "ordinal",
            "sort": None,
            "scale": {"paddingInner": 0.28, "paddingOuter": 0.14},
            "axis": {"title": "x_title", "labelAngle": 0, "grid": False, "ticks": False},
        },
        "xOffset": {"field": "series", "sort": order},
    }
    y: Spec = {"type": "quantitative", "axis": {"title": "y_title", "tickCount": 6, "grid": True}}
    return {
        "width": "container",
        "autosize": _FIT,
        "height": 300,
        "layer": [
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "strokeWidth": 1.25, "color": "var(--soft)"},
                "encoding": {"y": {"datum": 0, **y}},
            },
            {
                "data": {"name": "means"},
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {
                    **place, "y": {"field": "low", **y}, "y2": {"field": "high"},
                    "color": scales["color"],
                },
            },
            {
                "data": {"name": "seeds"},
                "mark": {"type": "tick", "orient": "horizontal", "opacity": 0.55, "thickness": 1.5,
                         "width": 7},
                "encoding": {**place, "y": {"field": "y", **y}, "color": scales["color"]},
            },
            {
                "data": {"name": "means"},
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 85,
                         "stroke": "var(--page)", "strokeWidth": 1},
                "encoding": {
                    **place,
                    "y": {"field": "y", **y},
                    "color": scales["color"],
                    "shape": scales["shape"],
                    "description": {"field": "said"},
                    "tooltip": {"field": "said"},
                },
            },
        ],
    }  # fmt: skip


def ranks(*, sampled: bool) -> Spec:
    """Fig. 2: rank against rank, with a brush.

    Datasets: ``points`` {x, y, marked, said}; with ``sampled`` also ``cells`` {x, x2, y, y2,
    count, said}.
    """
    unit: Spec = {"type": "quantitative", "scale": {"domain": [0, 1], "nice": False}}
    x: Spec = {"field": "x", **unit, "axis": {"title": "x_title", "tickCount": 5}}
    y: Spec = {"field": "y", **unit, "axis": {"title": "y_title", "tickCount": 5}}
    points: Spec = {
        "data": {"name": "points"},
        "params": [
            {
                "name": "brush",
                "select": {
                    "type": "interval",
                    "encodings": ["x", "y"],
                    "mark": {"fill": "var(--accent)", "fillOpacity": 0.12,
                             "stroke": "var(--accent)"},
                },
            }
        ],
        "mark": {"type": "circle", "size": 22 if sampled else 46, "stroke": "var(--page)",
                 "strokeWidth": 0.5},
        "encoding": {
            "x": x,
            "y": y,
            "color": {
                "condition": {"test": "datum.marked", "value": "var(--marked)"},
                "value": "var(--dot)",
            },
            "opacity": {
                "condition": {"param": "brush", "value": 0.55 if sampled else 0.85},
                "value": 0.18,
            },
            "description": {"field": "said"},
            "tooltip": {"field": "said"},
        },
    }  # fmt: skip
    cells: Spec = {
        "data": {"name": "cells"},
        "mark": {"type": "rect", "stroke": None},
        "encoding": {
            "x": x, "x2": {"field": "x2"}, "y": y, "y2": {"field": "y2"},
            "color": {
                "field": "count",
                "type": "quantitative",
                "scale": {"type": "sqrt", "range": ["var(--cell-low)", "var(--cell-high)"]},
                **_NOTHING,
            },
            "tooltip": {"field": "said"},
        },
    }  # fmt: skip
    return {
        "width": "container",
        "autosize": _FIT,
        "height": 440,
        "layer": [cells, points] if sampled else [points],
    }


def durations(looks: Sequence[Look], pool: str) -> Spec:
    """How long the picked recordings are: middle half, median, mean, 10th to 90th percentile.

    Dataset: ``rows`` {series, p10, p25, p50, p75, p90, mean, said}; ``pool`` is its first series.
    The script sets the height by the number of rows.
    """
    labels = [pool, *(look.label for look in looks)]
    y: Spec = {
        "field": "series",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "grid": False, "ticks": False, "domain": False, "labelLimit": 170},
    }
    color: Spec = {
        "field": "series",
        "type": "nominal",
        "scale": {
            "domain": labels,
            "range": ["var(--soft)", *(f"var(--c{place})" for place in range(len(looks)))],
        },
        **_NOTHING,
    }

    def x(field: str) -> Spec:
        return {
            "field": field,
            "type": "quantitative",
            "scale": {"zero": False},
            "axis": {"title": "x_title", "tickCount": 8},
        }

    said: Spec = {"description": {"field": "said"}, "tooltip": {"field": "said"}}
    return {
        "width": "container",
        "autosize": _FIT,
        "data": {"name": "rows"},
        "encoding": {"y": y, "color": color},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {"x": x("p10"), "x2": {"field": "p90"}},
            },
            {
                "mark": {"type": "bar", "height": 13, "cornerRadius": 3, "opacity": 0.85},
                "encoding": {"x": x("p25"), "x2": {"field": "p75"}, **said},
            },
            {
                "mark": {"type": "tick", "height": 13, "thickness": 2.5, "color": "var(--page)"},
                "encoding": {"x": x("p50"), "color": {"value": "var(--page)"}},
            },
        ],
    }


def histogram(place: int, *, log: bool) -> Spec:
    """How one score is distributed over the pool; dataset ``rows`` {low, high, count, said}.

    Args:
        place: of the strategy, for its color.
        log: the rows hold decimal logarithms of the score.
    """
    x_axis: Spec = {"title": None, "grid": False, "tickCount": 4, "labelFlush": False}
    if log:
        x_axis |= {"tickMinStep": 1, "labelExpr": "people(pow(10, datum.value))"}
    return {
        "width": "container",
        "autosize": _FIT,
        "height": 120,
        "data": {"name": "rows"},
        "mark": {"type": "bar", "color": f"var(--c{place})", "binSpacing": 1},
        "encoding": {
            "x": {
                "field": "low",
                "type": "quantitative",
                "bin": {"binned": True},
                "scale": {"zero": False},
                "axis": x_axis,
            },
            "x2": {"field": "high"},
            "y": {
                "field": "count",
                "type": "quantitative",
                "axis": {"title": None, "tickCount": 3, "tickMinStep": 1},
            },
            "description": {"field": "said"},
            "tooltip": {"field": "said"},
        },
    }


def grid_cells(counts: Sequence[Sequence[int]]) -> list[int]:
    """A pair's grid, row by row, as the page's script unpacks it."""
    assert len(counts) == GRID_SIZE
    return [int(count) for row in counts for count in row]


def all_specs(
    looks: Sequence[Look], *, sampled: bool, pool: str, histograms: Mapping[int, bool]
) -> Mapping[str, Spec]:
    """Every chart of the page by name.

    Args:
        looks: the page's series.
        sampled: the pool is drawn as cells and a sample of dots.
        pool: what the whole pool is called.
        histograms: place of each strategy that has one -> whether its axis is logarithmic.
    """
    return {
        "config": config(),
        "curves": curves(looks),
        "reductions": reductions(looks),
        "ranks": ranks(sampled=sampled),
        "durations": durations(looks, pool),
        **{f"histogram{place}": histogram(place, log=log) for place, log in histograms.items()},
    }
