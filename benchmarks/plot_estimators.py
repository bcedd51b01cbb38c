"""The figure of docs/estimators.md, from real speech.

    pip install 'egl-fast[plots]'
    python benchmarks/estimators.py accuracy --pool MANIFEST ... --estimates build/estimates.jsonl
    python benchmarks/plot_estimators.py [--estimates build/estimates.jsonl] [--out FILE]

Left: how much of the cotangents' energy R directions leave out. Middle: root-mean-square error
against backward passes. Right: reported standard error against actual error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from estimators import ESTIMATORS, scored
from script import ROOT, options_of
from workloads import evenly, inputs_of

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from egl_fast import Scorer, ops
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.reference.compression import budget_for_tolerance, eigen, weighted_gram

TOLERANCES = (0.3, 0.1, 0.03, 0.01, 0.003)
PROBES = (2, 4, 8, 16, 32)


def main() -> int:
    """Draw three panels into one file."""
    parser = options_of(__doc__, recordings=16, threads=1)
    parser.add_argument("--estimates", default=ROOT / "build" / "estimates.jsonl")
    parser.add_argument("--out", default=ROOT / "docs" / "figures" / "estimators.png")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scorer = Scorer.from_checkpoint(arguments.model)
    recordings = evenly(read_manifest(arguments.pool), arguments.recordings)
    spectra = [spectrum(scorer, recording) for recording in recordings]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    draw_spectra(left, spectra)
    draw_errors(middle, scorer, recordings, spectra)
    lines = list(map(json.loads, Path(arguments.estimates).read_text("utf-8").splitlines()))
    draw_calibration(right, lines)
    figure.savefig(arguments.out, dpi=110)
    return 0


def spectrum(scorer: Scorer, utterance: Utterance) -> np.ndarray:
    """[K] eigenvalues of the Gram matrix of the weighted cotangents, K = 100."""
    with torch.no_grad():
        logits, lengths = scorer.model.eval()(*inputs_of(scorer, utterance))
    log_probs = logits.double().log_softmax(2)
    found = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=100)
    log_prob, cotangents = ops.ctc_logits_cotangents(log_probs, lengths, found)
    gram = weighted_gram(log_prob[0].softmax(0), cotangents[0])
    return eigen(gram, torch.zeros(100, dtype=torch.float64))[0].numpy()


def draw_spectra(axes: Any, spectra: list[np.ndarray]) -> None:
    """Energy beyond R directions."""
    tails = np.array([1 - s.cumsum() / s.sum() for s in spectra])
    ranks = np.arange(1, tails.shape[1] + 1)
    axes.plot(ranks, np.maximum(tails, 1e-6).T, color="0.75", linewidth=0.8)
    axes.plot(ranks, np.maximum(np.median(tails, axis=0), 1e-6), color="C0", label="median")
    axes.set(
        yscale="log", xlim=(0, 50), ylim=(1e-5, 1), xlabel="directions R",
        ylabel="share of the energy left out",
        title=f"cotangents of {len(spectra)} recordings, K = 100",
    )  # fmt: skip
    axes.legend()


def draw_errors(
    axes: Any, scorer: Scorer, recordings: list[Utterance], spectra: list[np.ndarray]
) -> None:
    """Error against passes, for both methods."""
    truth = np.array([scored(scorer, one).egl for one in recordings])

    def rms(**options: Any) -> float:
        values = [[scored(scorer, r, seed=s, **options).egl for r in recordings] for s in range(3)]
        return float(np.sqrt(np.mean((np.array(values) / truth - 1) ** 2)))

    passes = [
        np.mean([sum(budget_for_tolerance(s.tolist(), t)) for s in spectra]) for t in TOLERANCES
    ]
    errors = [rms(method="lowrank", tolerance=tolerance) for tolerance in TOLERANCES]
    axes.plot(passes, errors, "o-", label="lowrank")
    for x, y, tolerance in zip(passes, errors, TOLERANCES, strict=True):
        axes.annotate(f"{tolerance:.1%}", (x, y), textcoords="offset points", xytext=(5, 5))
    axes.plot(PROBES, [rms(method="probe", probes=m) for m in PROBES], "s--", label="probe")
    axes.set(
        yscale="log", xscale="log", xlabel="backward passes per recording (exact: 100)",
        ylabel="rms relative error of egl", title="error against work",
    )  # fmt: skip
    axes.set_xticks(PROBES, labels=map(str, PROBES), minor=False)
    axes.set_xticks([], minor=True)
    axes.legend()


def draw_calibration(axes: Any, lines: list[dict[str, Any]]) -> None:
    """Reported against actual error, in tenths of the estimates by reported error."""
    for label in ESTIMATORS:
        truth = np.array([line["egl"] for line in lines])[:, None]
        errors = (np.array([line[label]["egl"] for line in lines]) / truth - 1).ravel()
        reported = (np.array([line[label]["egl_stderr"] for line in lines]) / truth).ravel()
        tenths = np.array_split(reported.argsort(), 10)
        axes.plot(
            [np.sqrt(np.mean(reported[i] ** 2)) for i in tenths],
            [np.sqrt(np.mean(errors[i] ** 2)) for i in tenths],
            "o-",
            label=label,
        )
    ends = np.array(axes.get_xlim()).clip(1e-4)
    axes.plot(ends, ends, color="0.6", linewidth=0.8, label="reported = actual")
    axes.set(
        xscale="log", yscale="log", xlabel="reported relative standard error",
        ylabel="actual rms error", title=f"error bars, {len(lines)} recordings",
    )  # fmt: skip
    axes.legend()


if __name__ == "__main__":
    sys.exit(main())
