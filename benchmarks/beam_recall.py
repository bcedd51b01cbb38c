"""How many of the true K best labelings a beam of each width finds, on recorded speech.

    python benchmarks/beam_recall.py [--model FILE] [--pool FILE] [--k 100]

The truth is what a beam of 4,000 finds. Prints a table in Markdown: width, share of the K best that
is found, share of their probability, median time per search on one thread.
"""

import math
import statistics
from collections.abc import Collection

import torch
from script import options_of, table
from torch import Tensor
from workloads import inputs_of

from egl_fast import Scorer, ops
from egl_fast.benchmarking.interleaved import seconds_of
from egl_fast.data.manifest import read_manifest

TRUTH_WIDTH = 4000

Found = dict[tuple[int, ...], float]


def main() -> None:
    """Print the table."""
    arguments = options_of(__doc__, k=100).parse_args()
    torch.set_num_threads(1)
    scorer = Scorer.from_checkpoint(arguments.model)
    emissions = []
    for utterance in read_manifest(arguments.pool):
        with torch.inference_mode():
            logits, _ = scorer.model.eval()(*inputs_of(scorer, utterance))
        emissions.append(logits.double().log_softmax(dim=2))
    k = arguments.k
    truths = [search(e, k, TRUTH_WIDTH)[0] for e in emissions]
    widths = sorted({k, int(1.5 * k), 2 * k, 3 * k, 5 * k, 10 * k, 20 * k})
    head = ["width", "K best found", "of their probability", f"ms per search (K = {k})"]
    for line in table(head, (row(emissions, truths, k, width) for width in widths)):
        print(line, flush=True)


def row(emissions: list[Tensor], truths: list[Found], k: int, width: int) -> list[str]:
    """What a beam of one width finds."""
    shares, masses, times = [], [], []
    for log_probs, truth in zip(emissions, truths, strict=True):
        found, seconds = search(log_probs, k, width)
        shares.append(len(found.keys() & truth.keys()) / len(truth))
        masses.append(mass(found.values(), truth) / mass(truth.values(), truth))
        times.append(seconds)
    milliseconds = 1000 * statistics.median(times)
    return [
        str(width),
        f"{statistics.mean(shares):.2%}",
        f"{statistics.mean(masses):.3%}",
        f"{milliseconds:.1f}",
    ]


def mass(values: Collection[float], truth: Found) -> float:
    """Probability relative to that of the best, because probabilities themselves may underflow."""
    best = max(truth.values())
    return sum(math.exp(value - best) for value in values)


def search(log_probs: Tensor, k: int, width: int) -> tuple[Found, float]:
    """Labelings with their log-probabilities, and the seconds it took to find them."""
    lengths = torch.tensor([log_probs.shape[1]])
    results: list[ops.Hypotheses] = []
    seconds = seconds_of(
        lambda: results.append(
            ops.ctc_beam_search(log_probs, lengths, num_hypotheses=k, beam_width=width)
        )
    )
    [found] = results
    assert found.log_prob is not None
    return dict(zip(found.labelings(0), found.log_prob[0].tolist(), strict=False)), seconds


if __name__ == "__main__":
    main()
