"""How many of the true K best labelings a beam of each width finds, on recorded speech.

    python benchmarks/beam_recall.py [--model FILE] [--pool FILE] [--k 100]

The truth is what a beam of 4,000 finds. Prints a table in Markdown: width, share of the K best that
is found, share of their probability, median time of a search on one thread.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from egl_fast import ops
from egl_fast.checkpoint import Checkpoint, load_checkpoint
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest

ROOT = Path(__file__).parent.parent
TRUTH_WIDTH = 4000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=ROOT / "examples" / "base.pt")
    parser.add_argument("--pool", default=ROOT / "examples" / "pool.jsonl")
    parser.add_argument("--k", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    emissions = recorded_emissions(load_checkpoint(arguments.model), arguments.pool)
    k = arguments.k
    truths = [search(e, k, TRUTH_WIDTH)[0] for e in emissions]
    print(f"| width | K best found | of their probability | ms a search (K = {k}) |")
    print("| --- | --- | --- | --- |")
    for width in sorted({k, int(1.5 * k), 2 * k, 3 * k, 5 * k, 10 * k, 20 * k}):
        found, mass, times = [], [], []
        for log_probs, truth in zip(emissions, truths, strict=True):
            got, seconds = search(log_probs, k, width)
            found.append(len(got.keys() & truth.keys()) / len(truth))
            # Of the probability, relative to the best: p itself may underflow.
            best = max(truth.values())
            held = [
                sum(math.exp(v - best) for v in values) for values in (got.values(), truth.values())
            ]
            mass.append(held[0] / held[1])
            times.append(seconds)
        print(
            f"| {width} | {statistics.mean(found):.2%} | {statistics.mean(mass):.3%} "
            f"| {1000 * statistics.median(times):.1f} |",
            flush=True,
        )


def recorded_emissions(checkpoint: Checkpoint, pool: Path) -> list[Tensor]:
    """[1, T, C] log-probabilities of every recording."""
    emissions = []
    for utterance in read_manifest(pool):
        features = load_spectrogram(utterance, checkpoint.features).features
        with torch.inference_mode():
            logits, _ = checkpoint.model(*pad_features([features]))
        emissions.append(logits.double().log_softmax(dim=2))
    return emissions


def search(log_probs: Tensor, k: int, width: int) -> tuple[dict[tuple[int, ...], float], float]:
    """Labelings with their log-probabilities, and the seconds it took to find them."""
    lengths = torch.tensor([log_probs.shape[1]])
    started = time.perf_counter()
    found = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=k, beam_width=width)
    seconds = time.perf_counter() - started
    return {
        tuple(found.labels[0, i, : int(found.label_lengths[0, i])].tolist()): float(
            found.log_prob[0, i]
        )
        for i in range(int(found.counts[0]))
    }, seconds


if __name__ == "__main__":
    main()
