"""The figure of docs/findings.md: rankings from a weak base model to a strong one.

pip install 'egl-fast[plots]'
python experiments/plot_strength.py [--rows experiments/results/grid/strength.json] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from egl_fast.evaluation.reporting.names import label

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = ("egl", "egl_normalized", "egl_full", "pctc")
COLORS = ("#0072b2", "#009e73", "#5d3a9b", "#d55e00")


def main() -> int:
    """Draw two panels into one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "experiments" / "results" / "grid" / "strength.json"
    parser.add_argument("--rows", type=Path, default=default)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "strength.png")
    arguments = parser.parse_args()
    rows = sorted(json.loads(arguments.rows.read_text("utf-8")), key=lambda row: -row["cer"])
    rates = [100 * row["cer"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for place, (subject, color) in enumerate(zip(SUBJECTS, COLORS, strict=True)):
        found = [row["correlations"][f"{subject} entropy"] for row in rows]
        spans = [[rho - low for rho, low, _ in found], [high - rho for rho, _, high in found]]
        # A little apart, or the intervals would hide each other.
        at = [rate * 1.02 ** (place - 1.5) for rate in rates]
        style = {"marker": "o", "markersize": 4, "linewidth": 1}
        left.errorbar(
            at, [rho for rho, _, _ in found], spans, color=color, label=label(subject), **style
        )
    left.legend(loc="center left", frameon=False)
    left.axhline(0, color="#888888", linewidth=0.8)
    left.set(ylabel="rank correlation with entropy", ylim=(-1, 1))
    right.plot(
        rates, [row["median_beam_mass"] for row in rows], "o-", color="#444444", markersize=4
    )
    right.set(ylabel="probability that the 100 best hold, median utterance", ylim=(0, 1))
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlim(50, 1.2)
        axes.set_xticks([50, 20, 10, 5, 2], labels=["50", "20", "10", "5", "2"])
        axes.minorticks_off()
        axes.set_xlabel("character error rate of the base model, %")
        axes.grid(alpha=0.25)
    figure.savefig(arguments.out, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
