"""BADGE's points: the gradient of the loss of the best hypothesis with respect to the head.

Of each candidate, the sum over frames of delta_t (h_t, 1)^T, by a random projection that keeps
distances (to 15 %).

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
    points = []
    for index in track(candidates, "badge"):
        x, lengths = cache.batch([index])
        hidden = top.hidden(x, lengths)
        best = labels_of(scores[cache.recordings[index].id]["pred_text"], module.VOCAB)
        _, cotangents = ops.ctc_logits_cotangents(
            top.head(hidden), lengths, ops.Hypotheses.of([[best.tolist()]]), blank=BLANK
        )
        gradient = cotangents[0, 0].T @ F.pad(hidden[0], (0, 1), value=1.0)
        points.append((gradient.flatten() @ projection).numpy())
    np.savez(args.out / "badge.npz", indices=candidates, points=np.stack(points))


if __name__ == "__main__":
    main()
