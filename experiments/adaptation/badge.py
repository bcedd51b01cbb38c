"""BADGE's points: the gradient of the loss of the best hypothesis with respect to the head.

Of each candidate, the sum over frames of delta_t (h_t, 1)^T, by a random projection that keeps
distances (to 15%).

    python experiments/adaptation/badge.py --model-dir ../shared/models/quartznet15x5_en \
        --cache runs/adaptation --out runs/aimed
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from depthwise import use_fourier
from halves import BLANK, Cache, Top, load_whole
from results import scores_of
from rich.progress import track
from scoring import is_candidate
from torch.nn import functional as F
from training import labels_of

from egl_fast import ops

NUM_DIMENSIONS = 96
_TOGETHER = 8


@torch.inference_mode()
def main() -> None:
    """Compute the points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("experiments/results/adaptation"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    cache = Cache(args.cache)
    module, whole = load_whole(args.model_dir)
    top = Top(whole).eval()
    use_fourier(top)
    scores = scores_of(args.results, args.cache)
    length = top.head.out_features * (top.head.in_features + 1)
    chance = torch.Generator().manual_seed(0)
    projection = torch.randn(length, NUM_DIMENSIONS, generator=chance) / NUM_DIMENSIONS**0.5
    candidates = [index for index, one in enumerate(cache.recordings) if is_candidate(one)]
    by_length = sorted(candidates, key=lambda i: cache.bounds[i + 1] - cache.bounds[i])
    batches = [by_length[at : at + _TOGETHER] for at in range(0, len(by_length), _TOGETHER)]
    points = []
    for batch in track(batches, "badge"):
        x, lengths = cache.batch(batch)
        hidden = top.hidden(x, lengths)
        best = [
            [labels_of(scores[cache.recordings[i].id]["pred_text"], module.VOCAB).tolist()]
            for i in batch
        ]
        _, cotangents = ops.ctc_logits_cotangents(
            top.head(hidden), lengths, ops.Hypotheses.of(best), blank=BLANK
        )
        # Cotangents of padding are zero.
        gradients = cotangents[:, 0].transpose(1, 2) @ F.pad(hidden, (0, 1), value=1.0)
        points.append((gradients.flatten(1) @ projection).numpy())
    np.savez(args.out / "badge.npz", indices=by_length, points=np.concatenate(points))


if __name__ == "__main__":
    main()
