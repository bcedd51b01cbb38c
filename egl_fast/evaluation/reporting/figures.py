"""Figures for a paper: PNG to look at, PDF to print, in the page's colors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from egl_fast.errors import OutputError, one_line
from egl_fast.evaluation.reporting.evaluation import Curve, Evaluation
from egl_fast.evaluation.reporting.measures import METRICS
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.ranking import GRID_SIZE, Ranking
from egl_fast.evaluation.statistics.bootstrap import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Vega's marker -> matplotlib's.
_MARKERS = {
    "circle": "o", "square": "s", "triangle-up": "^", "triangle-down": "v", "diamond": "D",
    "cross": "P", "triangle-right": ">",
}  # fmt: skip
#: Any, because releases of matplotlib type the names of settings differently.
_STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.grid": True,
    "grid.color": "#e3e6e9",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "text.parse_math": False,  # A dollar sign in a name is a dollar sign.
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}
#: Pairs that the paper's Fig. 2 shows: across, upwards.
_PAIRS = (("entropy", "pctc"), ("entropy", "egl"))


def draw_curves(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Fig. 1: the metrics against the share of the pool that was labeled, and against its hours.

    Thick lines are means over seeds, thin lines single seeds.

    Args:
        evaluation: the results.
        folder: made if need be; gets figure1 and figure1_hours, each as .png and .pdf.

    Returns:
        The files.

    Raises:
        OutputError: they cannot be written.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):  # saving has a style, too
        by_share = _draw_curves(
            evaluation, "labeled, % of the pool", lambda curve: curve.fractions * 100
        )
        by_hours = _draw_curves(evaluation, "labeled, hours of audio", lambda curve: curve.hours)
        return [*_save(by_share, folder, "figure1"), *_save(by_hours, folder, "figure1_hours")]


def _draw_curves(
    evaluation: Evaluation, labeled: str, amounts: Callable[[Curve], Floats]
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    panels = figure.subplots(1, len(METRICS))
    for axes, metric in zip(panels, METRICS, strict=True):
        for series in evaluation.series:
            curve, how = evaluation.curve(series, metric), look(series)
            if curve is None:
                continue
            x = amounts(curve)
            axes.plot(
                x, curve.by_seed.T * metric.scale, color=how.light, lw=0.5, alpha=0.3, zorder=1
            )
            axes.plot(
                x, curve.values[0] * metric.scale, color=how.light, lw=1.4, label=how.label,
                ls="--" if how.dashed else "-", marker=_MARKERS[how.shape], ms=3.5,
                mec="white", mew=0.4, zorder=2,
            )  # fmt: skip
        axes.set_xlabel(labeled)
        axes.set_title(metric.label + (f", {metric.unit.strip()}" if metric.unit else ""))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure


def draw_ranks(ranking: Ranking, folder: Path) -> list[Path]:
    """Fig. 2: rank against rank, for those of the paper's pairs that the pool was ranked by.

    Args:
        ranking: of the pool; a large one is drawn as counts over a grid.
        folder: made if need be; gets figure2.png and figure2.pdf.

    Returns:
        The files; none where fewer than two strategies rank the pool.

    Raises:
        OutputError: they cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    pairs = [pair for pair in _PAIRS if set(pair) <= set(ranking.strategies)]
    if not pairs and len(ranking.strategies) > 1:
        pairs = [(ranking.strategies[0], ranking.strategies[1])]
    if not pairs:
        return []
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.3 * len(pairs), 3.3), layout="constrained")
        for axes, (across, upwards) in zip(
            np.ravel(figure.subplots(1, len(pairs))), pairs, strict=True
        ):
            _draw_pair(axes, ranking, across, upwards)
        return _save(figure, folder, "figure2")


def _draw_pair(axes: Axes, ranking: Ranking, across: str, upwards: str) -> None:
    one, other = ranking.strategies.index(across), ranking.strategies.index(upwards)
    x, y = ranking.ranks[one], ranking.ranks[other]
    if ranking.is_sampled:
        axes.hist2d(x, y, bins=GRID_SIZE, range=((0, 1), (0, 1)), cmap="Blues", rasterized=True)
    else:
        axes.plot(x, y, "o", ms=2.2, mew=0, color="#3d4a57", alpha=0.7)
    rho = ranking.correlations.estimate[one, other]
    axes.set_title(f"Spearman's ρ = {rho:.2f}".replace("-", "−"))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel(f"rank by {label(across)}")
    axes.set_ylabel(f"rank by {label(upwards)}")


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}.png", folder / f"{name}.pdf"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            partial = path.with_name(path.name + ".partial")
            # Without a date or a program's name, the same figure is the same file.
            clean = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            figure.savefig(partial, format=path.suffix[1:], metadata=clean)
            partial.replace(path)
    except OSError as error:
        raise OutputError(f"figures {folder}: cannot be written ({one_line(error)})") from None
    return paths
