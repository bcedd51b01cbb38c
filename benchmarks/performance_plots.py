"""The plots of docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

MODELS = {"small": "shipped model", "deep": "seven layers of 512"}
COLORS = {"small": "C0", "deep": "C1"}

#: Methods and baselines of the pipeline, slowest first.
SCORING = (
    "plain loop",
    "exact",
    "lowrank --tolerance 0.01",
    "lowrank --tolerance 0.1",
    "probe --probes 4",
    "one inference pass",
)

#: Shares of the machine's rate that must be reached, by R.
FLOORS = ((4, 0.25), (16, 0.35), (100, 0.45))


def draw(run: dict[str, Any], folder: Path) -> None:
    """All plots of a run, as PNG files."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in run["benchmarks"]:
        groups.setdefault(entry["group"], []).append(entry)
    draw_engine(groups, folder / "performance-engine.png")
    draw_pipeline(groups.get("pipeline", []), folder / "performance-pipeline.png")
    draw_libraries(groups.get("libraries", []), folder / "performance-libraries.png")


def draw_engine(groups: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Share of the rate against R, and time per cotangent against the length of audio."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    by_rows = groups.get("engine by rows", [])
    for model, count in sorted({(entry["model"], entry["threads"]) for entry in by_rows}):
        own = [e for e in by_rows if (e["model"], e["threads"]) == (model, count)]
        left.plot(
            [entry["rows"] for entry in own],
            [100 * entry["share"] for entry in own],
            "o-" if count > 1 else "o--",
            color=COLORS[model],
            label=f"{MODELS[model]}, {count} thread{'s' if count > 1 else ''}",
        )
    left.plot(
        [rows for rows, _ in FLOORS], [100 * floor for _, floor in FLOORS],
        "_", color="0.3", markersize=16, label="must hold",
    )  # fmt: skip
    left.set(
        xscale="log", ylim=(0, None), xlabel="cotangents R, 2 s of audio",
        ylabel="% of a large product's rate", title="squared norms: share of the machine's rate",
    )  # fmt: skip
    plain_ticks(left, {entry["rows"] for entry in by_rows})
    left.legend(fontsize=8)
    for model in MODELS:
        own = [e for e in groups.get("engine by length", []) if e["model"] == model]
        seconds = [entry["seconds"] for entry in own]
        spent = [entry["timings"]["egl-fast"]["median_s"] / entry["rows"] for entry in own]
        right.plot(
            seconds, [1e3 * s for s in spent], "o-", color=COLORS[model], label=MODELS[model]
        )
    right.set(
        xscale="log", yscale="log", xlabel="seconds of audio", ylabel="ms per cotangent",
        title="squared norms: time against length",
    )  # fmt: skip
    plain_ticks(right, set(seconds))
    plain_numbers(right.yaxis)
    right.legend(fontsize=8)
    save(figure, path)


def draw_pipeline(entries: list[dict[str, Any]], path: Path) -> None:
    """Seconds per recording, one bar for each method and baseline."""
    figure, panels = plt.subplots(
        1, max(1, len(entries)), figsize=(10, 2.8), layout="constrained", squeeze=False
    )
    for axes, entry in zip(panels[0], entries, strict=False):
        bars(axes, {name: medians(entry)[name] for name in SCORING}, highlighted="exact")
        axes.set(xlabel="seconds per recording", title=MODELS[entry["model"]])
    save(figure, path)


def draw_libraries(entries: list[dict[str, Any]], path: Path) -> None:
    """Seconds for all norms, one bar for each library."""
    heights = [1.5 + len(entry["timings"]) for entry in entries] or [1]
    figure, panels = plt.subplots(
        len(heights), 1, figsize=(8, 0.32 * sum(heights)), height_ratios=heights,
        layout="constrained", squeeze=False, sharex=True,
    )  # fmt: skip
    for axes, entry in zip(panels[:, 0], entries, strict=False):
        spent = medians(entry)
        own = {"egl-fast": spent.pop("egl-fast")}
        slowest_first = sorted(spent, key=spent.__getitem__, reverse=True)
        bars(axes, {name: spent[name] for name in slowest_first} | own, highlighted="egl-fast")
        axes.set(title=entry["title"])
    panels[-1, 0].set(xlabel="seconds")
    save(figure, path)


def medians(entry: dict[str, Any]) -> dict[str, float]:
    """Seconds of everything that was timed, by name."""
    return {name: timing["median_s"] for name, timing in entry["timings"].items()}


def bars(axes: Any, spent: dict[str, float], *, highlighted: str) -> None:
    """Horizontal bars on a logarithmic axis, with their values."""
    names = list(spent)[::-1]
    colors = ["C0" if name == highlighted else "0.7" for name in names]
    drawn = axes.barh(names, [spent[name] for name in names], color=colors)
    two_digits = [float(f"{spent[name]:.2g}") for name in names]
    axes.bar_label(drawn, [f"{seconds:g} s" for seconds in two_digits], padding=3, fontsize=8)
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.margins(x=0.15)
    axes.tick_params(axis="y", labelsize=8)
    axes.title.set_fontsize(10)


def plain_numbers(axis: Any) -> None:
    """1, 2, 5, 10 on a logarithmic axis, and not as powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def plain_ticks(axes: Any, values: set[float]) -> None:
    """Ticks of a logarithmic axis at the values measured, and nowhere else."""
    axes.set_xticks(sorted(values), labels=[f"{value:g}" for value in sorted(values)])
    axes.set_xticks([], minor=True)


def save(figure: Any, path: Path) -> None:
    """Small enough for a repository, large enough to read."""
    figure.savefig(path, dpi=100)
    plt.close(figure)
