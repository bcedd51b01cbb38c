"""How well the gate tells junk from speech in the pools of these experiments.

    python experiments/adaptation/gate.py --cache runs/mixed --pool mixed --draws 0 1 2

Prints the area under the curve of speech over junk, and what stays at rates of false alarms.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from halves import Cache
from pools import POOLS, Draw
from sklearn.metrics import roc_auc_score

from egl_fast.embeddings.typicality import typicality

FALSE_ALARMS = (0.02, 0.05, 0.1)


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--pool", choices=POOLS, required=True)
    parser.add_argument("--draws", type=int, nargs="+", required=True)
    args = parser.parse_args()
    cache, embeddings = Cache(args.cache), np.load(args.cache / "embeddings.npy")
    for number in args.draws:
        draw = Draw.of(args.pool, number, cache, {}, embeddings)
        found = typicality(embeddings[list(draw.trusted)], embeddings[list(draw.pool)])
        corpora = np.array([cache.recordings[index].corpus for index in draw.pool])
        area = roc_auc_score(corpora != "outliers", found.pool)
        print(f"draw {number}: area {area:.3f}")
        for rate in FALSE_ALARMS:
            stays = found.pool >= found.threshold(rate)
            shares = [f"{name} {stays[corpora == name].mean():.2f}" for name in np.unique(corpora)]
            print(f"  {rate:g}:", ", ".join(shares))


if __name__ == "__main__":
    main()
