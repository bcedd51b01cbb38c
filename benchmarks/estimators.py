"""Estimated Expected Gradient Lengths against exact ones: error, calibration, speed.

    python benchmarks/estimators.py accuracy --pool MANIFEST [--clips 300] [--out FILE]
    python benchmarks/estimators.py speed [--clips 8]

``accuracy`` scores clips exactly and by each estimator under several seeds, and says for each: the
root-mean-square relative error, the rank correlation with the exact scores, the mean error in its
own standard deviations, and mean squared error over mean reported variance. What has been scored
exactly is kept in OUT and not scored again. ``speed`` times each against the plain loop, one
torch.autograd.grad a hypothesis, clip by clip in one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exact_vs_loop import ROOT, machine

from egl_fast import Scorer, ops
from egl_fast.allocator import keep_freed_memory
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.records import ScoreRecord
from egl_fast.reference.gradients import looped_sq_norms

#: Label -> options, and (root-mean-square relative error, rank correlation, times the plain loop)
#: that must hold.
ESTIMATORS: dict[str, tuple[dict[str, Any], tuple[float, float, float]]] = {
    "lowrank 1 %": ({"method": "lowrank", "tolerance": 0.01}, (0.01, 0.999, 20.0)),
    "lowrank 10 %": ({"method": "lowrank", "tolerance": 0.1}, (0.1, 0.99, 40.0)),
    "probe 4": ({"method": "probe", "probes": 4}, (float("inf"), 0.95, 80.0)),
}


def main() -> int:
    """Run one of the two measurements."""
    arguments = parse_arguments()
    keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    scorer = Scorer.from_checkpoint(arguments.model)
    pool = [utterance for path in arguments.pool for utterance in read_manifest(path)]
    if arguments.max_seconds:
        pool = [u for u in pool if (u.duration_seconds or 0.0) <= arguments.max_seconds]
    stride = max(1, len(pool) // arguments.clips)
    utterances = pool[::stride][: arguments.clips]
    measure = accuracy if arguments.what == "accuracy" else speed
    return measure(scorer, utterances, arguments)


def scored(scorer: Scorer, utterance: Utterance, **options: Any) -> ScoreRecord:
    """The record of one clip."""
    spectrogram = load_spectrogram(utterance, scorer.features)
    [record] = scorer.score_batch(
        *pad_features([spectrogram.features]), ids=[utterance.id], k=100, **options
    )
    return record


def accuracy(scorer: Scorer, utterances: list[Utterance], arguments: argparse.Namespace) -> int:
    """Errors of every estimator over clips and seeds."""
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if out.exists():
        known = {line["id"]: line for line in map(json.loads, out.open(encoding="utf-8"))}
    with out.open("a", encoding="utf-8") as file:
        for number, utterance in enumerate(utterances):
            if utterance.id in known:
                continue
            known[utterance.id] = line = one_clip(scorer, utterance, arguments.seeds)
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(f"\r{number + 1}/{len(utterances)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    lines = [known[utterance.id] for utterance in utterances]
    print(f"{len(lines)} clips, {arguments.seeds} seeds, K = 100")
    print(f"{'':24} {'rms error':>9} {'rank corr.':>10} {'bias/sd':>8} {'mse/variance':>13}")
    failed = False
    for label, (_, (most, least, _)) in ESTIMATORS.items():
        failed |= not report(label, lines, "egl", most=most, least=least)
    for label in ESTIMATORS:
        failed |= not report(label, lines, "egl_full")
    return int(failed)


def one_clip(scorer: Scorer, utterance: Utterance, num_seeds: int) -> dict[str, Any]:
    """Exact and estimated scores of a clip."""
    # Of the sum over all labelings nothing exact can be had: a mean over many draws stands for it.
    exact = scored(scorer, utterance, full=True, full_samples=100, seed=10_000)
    line: dict[str, Any] = {
        "id": utterance.id,
        "seconds": exact.num_frames * 0.02,
        "beam_mass": exact.beam_mass,
        "entropy": exact.entropy,
        "egl": exact.egl,
        "egl_full": exact.egl_full,
        "egl_full_stderr": exact.egl_full_stderr,
    }
    for label, (options, _) in ESTIMATORS.items():
        records = [
            scored(scorer, utterance, full=True, seed=seed, **options) for seed in range(num_seeds)
        ]
        line[label] = {
            name: [getattr(record, name) for record in records]
            for name in ("egl", "egl_stderr", "egl_full", "egl_full_stderr")
        }
    return line


def report(
    label: str, lines: list[dict[str, Any]], field: str, *, most: float = 0.0, least: float = 0.0
) -> bool:
    """Print one row; whether what must hold does."""
    truth = np.array([line[field] for line in lines])[:, None]
    values = np.array([line[label][field] for line in lines])
    variances = np.array([line[label][field + "_stderr"] for line in lines]) ** 2 / truth**2
    errors = values / truth - 1
    squares = errors**2
    if field == "egl_full":  # the stand-in has an error of its own, known and independent
        own = (np.array([line["egl_full_stderr"] for line in lines])[:, None] / truth) ** 2
        squares = squares - own
    rms = float(np.sqrt(np.maximum(squares.mean(), 0.0)))
    correlation = min(
        float(np.corrcoef(ranks(truth[:, 0]), ranks(values[:, s]))[0, 1])
        for s in range(values.shape[1])
    )
    # Errors of one clip under several seeds are independent given the clip, but for the truth's.
    independent = errors.shape[0] if field == "egl_full" else errors.size
    deviations = errors.mean() / (errors.std() / np.sqrt(independent))
    ratio = float(squares.mean() / variances.mean())
    good = abs(deviations) <= 3 and 0.8 <= ratio <= 1.25 and correlation >= least
    good &= not most or rms <= most
    print(
        f"{label:14} {field:>9} {rms:9.2%} {correlation:10.4f} {deviations:8.2f} {ratio:13.2f}"
        f"  {'ok' if good else 'MISSED'}"
    )
    return good


def ranks(values: np.ndarray) -> np.ndarray:
    """Places in ascending order; there are no ties among real numbers worth speaking of."""
    return values.argsort().argsort()


def speed(scorer: Scorer, utterances: list[Utterance], arguments: argparse.Namespace) -> int:
    """Times of every estimator and of the plain loop, clip by clip."""
    model = scorer.model.eval()
    ratios: dict[str, list[float]] = {label: [] for label in ESTIMATORS}
    totals = dict.fromkeys([*ESTIMATORS, "loop"], 0.0)
    for utterance in [utterances[0], *utterances]:  # the first warms up
        inputs = pad_features([load_spectrogram(utterance, scorer.features).features])
        with torch.no_grad():
            logits, lengths = model(*inputs)
        found = ops.ctc_beam_search(logits.double().log_softmax(2), lengths, num_hypotheses=100)
        labelings = [
            found.labels[0, k, : int(found.label_lengths[0, k])].tolist()
            for k in range(int(found.counts[0]))
        ]
        seconds = {}
        for label, (options, _) in ESTIMATORS.items():
            times = []
            for _ in range(3):
                started = time.perf_counter()
                scorer.score_batch(*inputs, ids=[utterance.id], k=100, **options)
                times.append(time.perf_counter() - started)
            seconds[label] = statistics.median(times)
        started = time.perf_counter()
        looped_sq_norms(model, inputs, labelings, parameters=dict(model.named_parameters()))
        seconds["loop"] = time.perf_counter() - started
        for label in ESTIMATORS:
            ratios[label].append(seconds["loop"] / seconds[label])
        for label, value in seconds.items():
            totals[label] += value
        print(
            f"{utterance.id[-30:]:30} {inputs[0].shape[1] / 100:5.2f} s  "
            f"loop {seconds['loop']:6.2f} s"
            + "".join(f"  {label}: {seconds[label] * 1e3:4.0f} ms" for label in ESTIMATORS),
            flush=True,
        )
    failed = False
    for label, (_, (_, _, least)) in ESTIMATORS.items():
        median = statistics.median(ratios[label][1:])
        good = median >= least
        failed |= not good
        print(
            f"{label:14} {median:6.1f} times the plain loop (median; of the totals "
            f"{totals['loop'] / totals[label]:.1f})  {'ok' if good else 'MISSED'}"
        )
    print(json.dumps(machine()))
    return int(failed)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["accuracy", "speed"])
    parser.add_argument("--model", default=ROOT / "examples" / "base.pt")
    parser.add_argument("--pool", nargs="+", default=[ROOT / "examples" / "pool.jsonl"])
    parser.add_argument("--clips", type=int, default=8, help="taken evenly over the pool")
    parser.add_argument("--max-seconds", type=float, help="leave longer clips out")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--out", default=ROOT / "build" / "estimators.jsonl")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
