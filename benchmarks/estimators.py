"""Estimates of Expected Gradient Length against exact values: error and calibration.

    python benchmarks/estimators.py accuracy --pool MANIFEST [--recordings 300] [--out FILE]
    python benchmarks/estimators.py draws --pool MANIFEST [--recordings 24] [--seeds 3]
    python benchmarks/estimators.py passes --recordings 5
    python benchmarks/estimators.py all-labelings [--recordings 2] [--max-seconds 1]

``accuracy`` scores recordings exactly and by each estimator under several seeds, and prints for
each: the root-mean-square relative error, the rank correlation with the exact scores, the mean
error in its own standard deviations, and mean squared error over mean reported variance; with
--full also for the sum over all labelings. Exact scores are kept in OUT and not computed again.
``draws`` prints the same of ``egl_full``, by the number of rows that draws are compressed into.
``passes`` times backward passes by their number of rows, which is what sharing one can save.
``all-labelings`` compares the mean of ``egl_full`` over seeds with the mean squared norm of 10,000
labelings drawn by torch.multinomial.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from script import ROOT, options_of
from workloads import evenly, inputs_of

from egl_fast import Scorer, ops
from egl_fast.benchmarking.interleaved import time_interleaved
from egl_fast.compute.memory import keep_freed_memory
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.output_layer import output_layer_of
from egl_fast.methods.directions_and_probes import DirectionsAndProbes
from egl_fast.methods.keys import sign_key
from egl_fast.records import ScoreRecord
from egl_fast.reference.enumerate import collapse

#: Label -> options, and (root-mean-square relative error, rank correlation) that must hold.
ESTIMATORS: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "lowrank 1%": ({"method": "lowrank", "tolerance": 0.01}, (0.01, 0.999)),
    "lowrank 10%": ({"method": "lowrank", "tolerance": 0.1}, (0.1, 0.99)),
    "probe 4": ({"method": "probe", "probes": 4}, (float("inf"), 0.95)),
}

#: Of ``draws``: the rows are those of the draws; the hypotheses have others. Two are draws as such.
DRAWS: dict[str, dict[str, Any]] = {
    "lowrank 10%": {"method": "lowrank", "tolerance": 0.1},
    **{f"{rows} rows": {"method": "probe", "probes": rows - 2} for rows in (8, 16, 32)},
}

#: What stands for the exact sum over all labelings: ten times the draws, in 130 rows, and a row for
#: each of 100 hypotheses. Its error bar says how far it may be off.
CONVERGED = {"method": "probe", "probes": 128, "full": True, "full_samples": 2000, "seed": 10_000}


def main() -> int:
    """Run one of the measurements."""
    arguments = parse_arguments()
    keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    scorer = Scorer.from_checkpoint(arguments.model)
    pool = [utterance for path in arguments.pool for utterance in read_manifest(path)]
    if arguments.max_seconds:
        pool = [u for u in pool if (u.duration_seconds or 0.0) <= arguments.max_seconds]
    return MEASUREMENTS[arguments.what](scorer, evenly(pool, arguments.recordings), arguments)


def scored(scorer: Scorer, utterance: Utterance, **options: Any) -> ScoreRecord:
    """The record of one utterance."""
    [record] = scorer.score_batch(
        *inputs_of(scorer, utterance), ids=[utterance.id], k=100, **options
    )
    return record


def accuracy(scorer: Scorer, utterances: list[Utterance], arguments: argparse.Namespace) -> int:
    """Errors of every estimator over recordings and seeds."""
    options = {label: options for label, (options, _) in ESTIMATORS.items()}
    lines = compared(scorer, utterances, arguments, options)
    failed = False
    for label, (_, (most, least)) in ESTIMATORS.items():
        failed |= not report(label, lines, "egl", most=most, least=least)
    if arguments.full:
        for label in ESTIMATORS:
            failed |= not report(label, lines, "egl_full")
    return int(failed)


def draws(scorer: Scorer, utterances: list[Utterance], arguments: argparse.Namespace) -> int:
    """Errors of the sum over all labelings by the rows that its draws are compressed into."""
    arguments.full = True
    options = {label: {**own, "full_samples": arguments.draws} for label, own in DRAWS.items()}
    lines = compared(scorer, utterances, arguments, options)
    failed = False
    for label in DRAWS:
        failed |= not report(label, lines, "egl_full")
    return int(failed)


def compared(
    scorer: Scorer,
    utterances: list[Utterance],
    arguments: argparse.Namespace,
    options: dict[str, dict[str, Any]],
) -> list[dict[str, Any]]:
    """For each recording, exact scores and the estimates by every label's options."""
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, Any]] = {}
    if out.exists():
        known = {line["id"]: line for line in map(json.loads, out.read_text("utf-8").splitlines())}
    lines = []
    with out.open("a", encoding="utf-8") as file:
        for number, utterance in enumerate(utterances):
            if known.get(utterance.id, {}).get("egl_full" if arguments.full else "egl") is None:
                known[utterance.id] = exact_scores(scorer, utterance, full=arguments.full)
                file.write(json.dumps(known[utterance.id]) + "\n")
                file.flush()
            estimated = {
                label: estimates(scorer, utterance, arguments, own)
                for label, own in options.items()
            }
            lines.append({**known[utterance.id], **estimated})
            print(f"\r{number + 1}/{len(utterances)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if arguments.estimates:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        Path(arguments.estimates).write_text(text, encoding="utf-8")
    print(f"{len(lines)} recordings, {arguments.seeds} seeds, K = 100")
    columns = ("rms error", "median", "rank corr.", "its worst", "bias/sd", "mse/variance")
    print(" " * 24 + " ".join(f"{column:>10}" for column in columns))
    return lines


def exact_scores(scorer: Scorer, utterance: Utterance, *, full: bool) -> dict[str, Any]:
    """What the estimates of a recording are compared with."""
    exact = scored(scorer, utterance, **(CONVERGED if full else {}))
    fields = ("id", "num_frames", "beam_mass", "entropy", "egl", "egl_full", "egl_full_stderr")
    return {field: getattr(exact, field) for field in fields}


def estimates(
    scorer: Scorer, utterance: Utterance, arguments: argparse.Namespace, options: dict[str, Any]
) -> dict[str, list[float | None]]:
    """Estimated scores of an utterance under every seed."""
    if arguments.full:
        records = [
            scored(scorer, utterance, full=True, seed=seed, **options)
            for seed in range(arguments.seeds)
        ]
        fields = ("egl", "egl_stderr", "egl_full", "egl_full_stderr")
        return {field: [getattr(record, field) for record in records] for field in fields}
    # Seeds share everything but their probes, so one pass for all makes many seeds affordable.
    engine = GradientEngine(scorer.model)
    tape = engine.run(*inputs_of(scorer, utterance))
    logits, lengths = tape.outputs
    layer = output_layer_of(tape)
    assert layer is not None
    found = [
        ops.ctc_nbest_cotangents(
            logits,
            lengths,
            num_hypotheses=100,
            keys=torch.tensor([sign_key(seed, utterance.id)]),
            tolerance=options.get("tolerance"),
            probes=options.get("probes"),
            frame_gram=layer.frame_gram(lengths),
        )
        for seed in range(arguments.seeds)
    ]
    rows = [DirectionsAndProbes.of(some, 0) for some in found]
    assert all(isinstance(own, DirectionsAndProbes) for own in rows)
    split = rows[0].num_directions
    probes = [some.cotangents[:, split : len(own)] for some, own in zip(found, rows, strict=True)]
    by_parameter = engine.sq_norms(
        tape, torch.cat([found[0].cotangents[:, :split], *probes], dim=1)
    )
    total = torch.stack(list(by_parameter.values())).sum(0)[0]
    of_output = torch.stack([by_parameter[name] for name in layer.names]).sum(0)[0]
    values: dict[str, list[float | None]] = {"egl": [], "egl_stderr": []}
    start = split
    for some, own in zip(found, rows, strict=True):
        end = start + len(own) - split
        both = [torch.cat([norms[:split], norms[start:end]]) for norms in (total, of_output)]
        estimate = own.estimate(*both)
        mass = float(some.hypotheses.log_prob[0].exp().sum())
        values["egl"].append(mass * estimate.value)
        values["egl_stderr"].append(mass * math.sqrt(estimate.variance))
        start = end
    return {**values, "passes": [len(rows[0])]}


def report(
    label: str, lines: list[dict[str, Any]], field: str, *, most: float = 0.0, least: float = 0.0
) -> bool:
    """Print one row, and return whether what must hold does."""
    truth = np.array([line[field] for line in lines])[:, None]
    values = np.array([line[label][field] for line in lines])
    variances = np.array([line[label][field + "_stderr"] for line in lines]) ** 2 / truth**2
    errors = values / truth - 1
    squares = errors**2
    if field == "egl_full":  # the stand-in has its own error, known and independent
        own = (np.array([line["egl_full_stderr"] for line in lines])[:, None] / truth) ** 2
        squares = squares - own
    rms = float(np.sqrt(np.maximum(squares.mean(), 0.0)))
    correlations = [
        float(np.corrcoef(ranks(truth[:, 0]), ranks(values[:, s]))[0, 1])
        for s in range(values.shape[1])
    ]
    correlation = statistics.mean(correlations)
    # Given the utterance, errors under several seeds are independent, except for the truth's.
    independent = errors.shape[0] if field == "egl_full" else errors.size
    deviations = errors.mean() / (errors.std() / np.sqrt(independent))
    ratio = float(squares.mean() / variances.mean())
    good = abs(deviations) <= 3 and 0.8 <= ratio <= 1.25 and correlation >= least
    good &= not most or rms <= most
    print(
        f"{label:14} {field:>9} {rms:10.2%} {np.median(np.abs(errors)):10.2%} {correlation:10.4f} "
        f"{min(correlations):10.4f} {deviations:10.2f} {ratio:12.2f}"
        f"  {'ok' if good else 'MISSED'}"
    )
    return good


def ranks(values: np.ndarray) -> np.ndarray:
    """Places in ascending order; ties among real numbers are too rare to matter."""
    return values.argsort().argsort()


def passes(scorer: Scorer, utterances: list[Utterance], arguments: argparse.Namespace) -> int:
    """Time of one backward pass by its rows, and its constant part in rows."""
    engine = GradientEngine(scorer.model)
    sizes = [1, 2, 4, 8, 16, 32, 50]
    constants = []
    for utterance in utterances:
        tape = engine.run(*inputs_of(scorer, utterance))
        shape = tape.outputs[0].shape[1:]
        works = {
            str(size): partial(engine.sq_norms, tape, torch.randn(1, size, *shape))
            for size in sizes
        }
        timings = time_interleaved(works, rounds=5).summary()
        medians = [timing["median_s"] for timing in timings.values()]
        slope, constant = np.polyfit(sizes, medians, 1, w=1 / np.array(medians))
        constants.append(float(constant / slope))
        numbers = ", ".join(
            f"{size}: {median * 1e3:.0f}" for size, median in zip(sizes, medians, strict=True)
        )
        print(f"{shape[0]} frames; ms by rows {numbers}; constant {constants[-1]:.1f} rows")
    print(f"median constant: {statistics.median(constants):.1f} rows")
    print(json.dumps(machine()))
    return 0


def all_labelings(
    scorer: Scorer, utterances: list[Utterance], arguments: argparse.Namespace
) -> int:
    """``egl_full`` against plain sampling: no search, and every draw pulled back."""
    num_draws, num_seeds, failed = 10_000, 40, False
    engine = GradientEngine(scorer.model)
    for utterance in utterances:
        tape = engine.run(*inputs_of(scorer, utterance))
        logits, lengths = tape.outputs
        generator = torch.Generator().manual_seed(1)
        probs = logits.detach()[0].double().softmax(1)
        paths = torch.multinomial(probs, num_draws, replacement=True, generator=generator).t()
        counts = Counter(collapse(path) for path in paths.tolist())
        drawn = list(counts)
        sq_norms = []
        for start in range(0, len(drawn), 100):
            some = ops.Hypotheses.of([drawn[start : start + 100]])
            _, cotangents = ops.ctc_logits_cotangents(logits.detach(), lengths, some)
            by_parameter = engine.sq_norms(tape, cotangents)
            sq_norms.append(torch.stack(list(by_parameter.values())).sum(0)[0])
        norms = torch.cat(sq_norms).numpy()
        weights = np.array(list(counts.values())) / num_draws
        truth = float(weights @ norms)
        own = float(np.sqrt(weights @ (norms - truth) ** 2 / num_draws))
        print(f"{utterance.id}: {truth:.1f} +- {own:.1f} over {len(drawn)} distinct labelings")
        for label, (options, _) in ESTIMATORS.items():
            values = np.array(
                [
                    scored(scorer, utterance, full=True, seed=seed, **options).egl_full
                    for seed in range(num_seeds)
                ]
            )
            error = float(np.hypot(values.std(ddof=1) / np.sqrt(num_seeds), own))
            deviations = (values.mean() - truth) / error
            failed |= abs(deviations) > 3
            print(f"  {label:14} {values.mean():.1f}, {deviations:+.2f} standard errors off")
    return int(failed)


MEASUREMENTS: dict[str, Callable[[Scorer, list[Utterance], argparse.Namespace], int]] = {
    "accuracy": accuracy,
    "draws": draws,
    "passes": passes,
    "all-labelings": all_labelings,
}


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = options_of(__doc__, pools=True, recordings=8, seeds=12)
    parser.add_argument("what", choices=list(MEASUREMENTS))
    parser.add_argument("--max-seconds", type=float, help="leave out longer recordings")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--draws", type=int, default=200, help="labelings drawn, of draws")
    parser.add_argument("--full", action="store_true", help="the sum over all labelings too")
    parser.add_argument("--out", default=ROOT / "build" / "exact.jsonl", help="exact scores")
    parser.add_argument("--estimates", help="JSON Lines with every estimate, for the figure")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
