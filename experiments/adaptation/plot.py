"""The figure of docs/choosing.md: what each strategy wins over random picks.

pip install 'egl-fast[plots]'
python experiments/adaptation/plot.py [--results experiments/results/adaptation] [--out FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from findings import POOLS, RECOMMENDED, pools
from table import Results, difference, junk_share

ROOT = Path(__file__).resolve().parent.parent.parent
_PLAIN, _STRONG, _CONTROL = "#0072b2", "#d55e00", "#888888"


def _panel(axes: plt.Axes, results: Results) -> None:
    found = []
    most = max(map(len, results.values()))
    for name, by_draw in results.items():
        gap = difference(by_draw, results["random"])
        # Of two draws, an interval is wider than the panel.
        is_shown = name != "random" and not name.startswith("early gate")
        if is_shown and gap is not None and gap.num_draws > 2:
            fewer = "" if gap.num_draws == most else f" ({gap.num_draws} draws)"
            found.append((gap.mean, gap.half, name, junk_share(by_draw), fewer))
    for place, (mean, half, name, junk, _) in enumerate(sorted(found, reverse=True)):
        color = _PLAIN
        if name == RECOMMENDED:
            color = _STRONG
        elif name.startswith("speech") or name == "everything":
            color = _CONTROL
        axes.errorbar(
            100 * mean, place, xerr=100 * half, fmt="o", color=color, markersize=5, linewidth=1.5
        )
        axes.annotate(
            f"{junk:.0%}", (1.01, place), xycoords=("axes fraction", "data"), va="center", size=8
        )
    axes.set_yticks(range(len(found)), [one[2] + one[4] for one in sorted(found, reverse=True)])
    axes.annotate("junk", (1.01, 1.01), xycoords="axes fraction", size=8)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_xlabel("character error rate minus that of random picks, points")
    axes.grid(axis="x", alpha=0.25)


def main() -> None:
    """Draw a panel per pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "experiments" / "results" / "adaptation"
    parser.add_argument("--results", type=Path, default=default)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "strategies.png")
    args = parser.parse_args()
    found = pools(args.results)
    figure, panels = plt.subplots(
        1, len(found), figsize=(1 + 5.5 * len(found), 5), layout="constrained", squeeze=False
    )
    for axes, (name, results) in zip(panels[0], found.items(), strict=True):
        _panel(axes, results)
        draws = max(len(by_draw) for by_draw in results.values())
        axes.set_title(f"{POOLS[name][0].partition(',')[0]}, {draws} draws", size=10)
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
