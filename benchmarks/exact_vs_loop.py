"""Exact scoring against the plain loop: one torch.autograd.grad a hypothesis, as users write it.

    python benchmarks/exact_vs_loop.py [--clips 8] [--k 100] [--threads N] [--out FILE]

Both start from the same features, model and labelings (one native search, timed by itself), in
float32, on the same threads. The loop runs the model once with torch's own layers and takes
torch's CTC loss. For every clip the two are timed one after the other, so that a busy machine
slows both; agreement of all squared norms is checked before a time counts. Exit status 1 if the
results disagree or the ratio is below --require.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from egl_fast import Scorer, ops
from egl_fast.allocator import keep_freed_memory
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest
from egl_fast.reference.gradients import looped_sq_norms
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.pipeline import score_tape

ROOT = Path(__file__).parent.parent

#: Both sides are float32, and each is within 1e-4 of float64 (DESIGN.md, section 5).
AGREEMENT = 2e-4


def main() -> int:
    """Measure, print a table, write JSON."""
    arguments = parse_arguments()
    keep_freed_memory()  # as the commands do; the loop is served as well
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    scorer = Scorer.from_checkpoint(arguments.model)
    pool = read_manifest(arguments.pool)
    stride = max(1, len(pool) // arguments.clips)
    utterances = pool[::stride][: arguments.clips]
    options = ScoringOptions(k=arguments.k, per_hypothesis=True)
    measure(scorer, utterances[0], options)  # warm-up: threads, allocator, oneDNN's primitives
    clips = []
    print(f"{'clip':40} {'s':>5} {'K':>4} {'search':>8} {'loop':>8} {'engine':>8} {'ratio':>6}")
    for utterance in utterances:
        clip = measure(scorer, utterance, options)
        clips.append(clip)
        print(
            f"{utterance.id[-40:]:40} {clip['seconds']:5.2f} {clip['hypotheses']:4d} "
            f"{clip['search_s']:7.3f}s {clip['loop_s']:7.2f}s {clip['engine_s']:7.2f}s "
            f"{clip['loop_s'] / clip['engine_s']:6.1f}",
            flush=True,
        )
    median = statistics.median(clip["loop_s"] / clip["engine_s"] for clip in clips)
    total = sum(clip["loop_s"] for clip in clips) / sum(clip["engine_s"] for clip in clips)
    worst = max(clip["largest_error"] for clip in clips)
    print(f"ratio: median {median:.1f}, of the totals {total:.1f}; largest error {worst:.1e}")
    result = {
        "ratio_median": median,
        "ratio_of_totals": total,
        "largest_relative_error": worst,
        "k": arguments.k,
        "threads": torch.get_num_threads(),
        "clips": clips,
        "machine": machine(),
    }
    if arguments.out:
        Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if worst > AGREEMENT:
        print(f"disagreement: {worst:.1e} is more than {AGREEMENT:g}", file=sys.stderr)
        return 1
    return 0 if total >= arguments.require else 1


def measure(scorer: Scorer, utterance: object, options: ScoringOptions) -> dict[str, object]:
    """Times of one clip, and the largest relative error of a squared norm."""
    spectrogram = load_spectrogram(utterance, scorer.features)
    inputs = pad_features([spectrogram.features])
    model = scorer.model.eval()
    engine = scorer._engine
    with torch.no_grad():
        logits, lengths = model(*inputs)
    started = time.perf_counter()
    found = ops.ctc_beam_search(logits.double().log_softmax(2), lengths, num_hypotheses=options.k)
    search_s = time.perf_counter() - started
    labelings = [
        found.labels[0, k, : int(found.label_lengths[0, k])].tolist()
        for k in range(int(found.counts[0]))
    ]

    started = time.perf_counter()
    looped = looped_sq_norms(model, inputs, labelings, parameters=dict(model.named_parameters()))
    loop_s = time.perf_counter() - started

    # The whole product: forward pass, search, occupancy, pull-back, norms, record.
    started = time.perf_counter()
    [record] = score_tape(
        engine,
        engine.run(*inputs),
        ids=[utterance.id],
        durations=[spectrogram.seconds],
        classes=scorer.classes,
        options=options,
    )
    engine_s = time.perf_counter() - started

    truth = {
        tuple(labels): sum(norms.values()) for labels, norms in zip(labelings, looped, strict=True)
    }
    errors = [abs(h.sq_grad_norm - truth[h.labels]) / truth[h.labels] for h in record.hypotheses]
    return {
        "id": utterance.id,
        "seconds": spectrogram.seconds,
        "hypotheses": len(labelings),
        "search_s": search_s,
        "loop_s": loop_s,
        "engine_s": engine_s,
        "largest_error": max(errors),
    }


def machine() -> dict[str, object]:
    """Where and with what the numbers were made."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
    }


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=ROOT / "examples" / "base.pt")
    parser.add_argument("--pool", default=ROOT / "examples" / "pool.jsonl")
    parser.add_argument("--clips", type=int, default=8, help="taken evenly over the pool")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--out", help="JSON with every measurement")
    parser.add_argument("--require", type=float, default=4.0, help="ratio that must be reached")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
