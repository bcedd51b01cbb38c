"""The page's charts, as Vega-Lite specifications without data.

The page's script puts the rows in (``datasets``), and the colors: a string ``var(--name)`` stands
for the style sheet's, so that a chart follows the page from light to dark. It also replaces the
titles of axes, here ``x_title`` and ``y_title``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from egl_fast.evaluation.reporting.names import Look

Spec = dict[str, Any]

_SAID: Spec = {"description": {"field": "said"}, "tooltip": {"field": "said"}}


def config() -> Spec:
    """What all charts share: type, lines and the page's own colors."""
    return {
        "background": None,
        "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
        "view": {"stroke": None},
        "axis": {
            **dict.fromkeys(("labelColor", "titleColor"), "var(--soft)"),
            **dict.fromkeys(("gridColor", "domainColor", "tickColor"), "var(--line)"),
            **dict.fromkeys(("labelFontSize", "titleFontSize"), 12),
            "titleFontWeight": "normal",
            "labelPadding": 6,
            "titlePadding": 10,
        },
        # "people" is the page's script's: 2,000 rather than 2e+3.
        "axisQuantitative": {"labelExpr": "people(datum.value)"},
    }


def _chart(height: int | None = None, **more: Any) -> Spec:
    size = {} if height is None else {"height": height}
    fit = {"type": "fit-x", "contains": "padding"}
    return {"width": "container", "autosize": fit, **size, **more}


def _layer(data: str | None, mark: str, options: Spec, **encoding: Any) -> Spec:
    own = {} if data is None else {"data": {"name": data}}
    return {**own, "mark": {"type": mark, **options}, "encoding": encoding}


def _number(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", **more}


def _by_series(domain: Sequence[str], values: Sequence[Any]) -> Spec:
    scale = {"domain": list(domain), "range": list(values)}
    return {"field": "series", "type": "nominal", "scale": scale, "legend": None}


def _colors(looks: Sequence[Look]) -> list[str]:
    return [f"var(--c{place})" for place in range(len(looks))]


def _series_scales(looks: Sequence[Look]) -> dict[str, Spec]:
    """Color, marker and dash of every series, by its label."""
    labels = [look.label for look in looks]
    return {
        "color": _by_series(labels, _colors(looks)),
        "shape": _by_series(labels, [look.shape for look in looks]),
        "strokeDash": _by_series(labels, [[6, 4] if look.dashed else [1, 0] for look in looks]),
    }


def _points(size: int | None = None) -> Spec:
    """Filled markers with a rim in the page's color."""
    own = {} if size is None else {"size": size}
    return {"filled": True, "opacity": 1, "stroke": "var(--page)", "strokeWidth": 1, **own}


def curves(looks: Sequence[Look]) -> Spec:
    """Fig. 1: a metric against what was labeled.

    Datasets: ``means`` {series, x, y, said}, ``seeds`` {series, seed, x, y}, ``callouts`` {series,
    x, y, label_x, label_y}: the last query's point, and where its label is.
    """
    scales = _series_scales(looks)
    color = scales["color"]
    place = {
        "x": _number("x", axis={"title": "x_title", "grid": False, "tickCount": 10}),
        "y": _number(
            "y", scale={"zero": False, "nice": True}, axis={"title": "y_title", "tickCount": 6}
        ),
    }
    lead = {"x2": {"field": "label_x"}, "y2": {"field": "label_y"}}
    name = {"align": "left", "dx": 5, "baseline": "middle", "fontSize": 12.5, "fontWeight": 600}
    nearest = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}
    size = {"condition": {"param": "hover", "empty": False, "value": 190}, "value": 75}
    return _chart(
        400,
        layer=[
            _layer(
                "seeds",
                "line",
                {"strokeWidth": 1, "opacity": 0.28},
                **place,
                color=color,
                detail={"field": "seed"},
            ),
            _layer(
                "callouts",
                "rule",
                {"strokeWidth": 0.75, "opacity": 0.7},
                **place,
                **lead,
                color=color,
            ),
            _layer(
                "callouts",
                "text",
                name,
                x=_number("label_x"),
                y=_number("label_y"),
                text={"field": "series"},
                color=color,
            ),
            _layer(
                "means",
                "line",
                {"strokeWidth": 2.25, "strokeJoin": "round"},
                **place,
                color=color,
                strokeDash=scales["strokeDash"],
            ),
            {"params": [{"name": "hover", "select": nearest}]}
            | _layer(
                "means",
                "point",
                _points(),
                **place,
                color=color,
                shape=scales["shape"],
                size=size,
                **_SAID,
            ),
        ],
    )


def reductions(looks: Sequence[Look]) -> Spec:
    """How much lower than at random, with intervals.

    Datasets: ``means`` {series, query, y, low, high, said}, ``seeds`` {series, query, y}.
    """
    scales = _series_scales(looks)
    color = scales["color"]
    place: Spec = {
        "x": {
            "field": "query",
            "type": "ordinal",
            "sort": None,
            "scale": {"paddingInner": 0.28, "paddingOuter": 0.14},
            "axis": {"title": "x_title", "labelAngle": 0, "grid": False, "ticks": False},
        },
        "xOffset": {"field": "series", "sort": [look.label for look in looks]},
    }
    axis = {"title": "y_title", "tickCount": 6, "grid": True}
    y = _number("y", axis=axis)
    low = {"y": _number("low", axis=axis), "y2": {"field": "high"}}
    tick = {"orient": "horizontal", "opacity": 0.55, "thickness": 1.5, "width": 7}
    zero = {"datum": 0, "type": "quantitative", "axis": axis}
    return _chart(
        300,
        layer=[
            {"data": {"values": [{}]}}
            | _layer(None, "rule", {"strokeWidth": 1.25, "color": "var(--soft)"}, y=zero),
            _layer("means", "rule", {"strokeWidth": 2}, **place, **low, color=color),
            _layer("seeds", "tick", tick, **place, y=y, color=color),
            _layer(
                "means",
                "point",
                _points(85),
                **place,
                y=y,
                color=color,
                shape=scales["shape"],
                **_SAID,
            ),
        ],
    )


def ranks(*, sampled: bool) -> Spec:
    """Fig. 2: rank against rank, with a brush.

    Datasets: ``points`` {x, y, marked, said}; with ``sampled`` also ``cells`` {x, x2, y, y2,
    count, said}.
    """
    place = {
        name: _number(
            name,
            scale={"domain": [0, 1], "nice": False},
            axis={"title": f"{name}_title", "tickCount": 5},
        )
        for name in ("x", "y")
    }
    box = {"fill": "var(--accent)", "fillOpacity": 0.12, "stroke": "var(--accent)"}
    brush = {"type": "interval", "encodings": ["x", "y"], "mark": box}
    marked = {"test": "datum.marked", "value": "var(--marked)"}
    brushed = {"param": "brush", "value": 0.55 if sampled else 0.85}
    points = {"params": [{"name": "brush", "select": brush}]} | _layer(
        "points",
        "circle",
        {"size": 22 if sampled else 46, "stroke": "var(--page)", "strokeWidth": 0.5},
        **place,
        color={"condition": marked, "value": "var(--dot)"},
        opacity={"condition": brushed, "value": 0.18},
        **_SAID,
    )
    count = _number(
        "count",
        scale={"type": "sqrt", "range": ["var(--cell-low)", "var(--cell-high)"]},
        legend=None,
    )
    ends = {"x2": {"field": "x2"}, "y2": {"field": "y2"}}
    tooltip = {"field": "said"}
    cells = _layer("cells", "rect", {"stroke": None}, **place, **ends, color=count, tooltip=tooltip)
    return _chart(440, layer=[cells, points] if sampled else [points])


def durations(looks: Sequence[Look], pool: str) -> Spec:
    """How long the picked recordings are: middle half, median, mean, 10th to 90th percentile.

    Dataset: ``rows`` {series, p10, p25, p50, p75, p90, mean, said}; ``pool`` is its first series.
    The script sets the height by the number of rows.
    """
    labels = [pool, *(look.label for look in looks)]
    axis = {"title": None, "grid": False, "ticks": False, "domain": False, "labelLimit": 170}

    def x(field: str) -> Spec:
        return _number(field, scale={"zero": False}, axis={"title": "x_title", "tickCount": 8})

    bar = {"height": 13, "cornerRadius": 3, "opacity": 0.85}
    median = {"height": 13, "thickness": 2.5, "color": "var(--page)"}
    return _chart(
        data={"name": "rows"},
        encoding={
            "y": {"field": "series", "type": "nominal", "sort": None, "axis": axis},
            "color": _by_series(labels, ["var(--soft)", *_colors(looks)]),
        },
        layer=[
            _layer(None, "rule", {"strokeWidth": 1.5}, x=x("p10"), x2={"field": "p90"}),
            _layer(None, "bar", bar, x=x("p25"), x2={"field": "p75"}, **_SAID),
            _layer(None, "tick", median, x=x("p50"), color={"value": "var(--page)"}),
        ],
    )


def histogram(place: int, *, log: bool) -> Spec:
    """How one score is distributed over the pool; dataset ``rows`` {low, high, count, said}.

    Args:
        place: of the strategy, for its color.
        log: the rows hold decimal logarithms of the score.
    """
    axis: Spec = {"title": None, "grid": False, "tickCount": 4, "labelFlush": False}
    if log:
        axis |= {"tickMinStep": 1, "labelExpr": "people(pow(10, datum.value))"}
    return _chart(
        120,
        **_layer(
            "rows",
            "bar",
            {"color": f"var(--c{place})", "binSpacing": 1},
            x=_number("low", bin={"binned": True}, scale={"zero": False}, axis=axis),
            x2={"field": "high"},
            y=_number("count", axis={"title": None, "tickCount": 3, "tickMinStep": 1}),
            **_SAID,
        ),
    )


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
