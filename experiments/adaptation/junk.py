"""How much junk strategies pick, in multiples of its share of the pool; nothing is trained.

    python experiments/adaptation/junk.py --cache runs/adaptation --pool mixed --draws 0 1 2 3 4 5

Shares are of recordings, for 10, 20, and 40% of the pool's audio: the mean over draws, and the
worst draw in parentheses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from halves import Cache
from picks import STRATEGIES
from pools import BUDGET, POOLS, Draw
from results import scores_of

BUDGETS = (0.1, 0.2, 0.4)
SHOWN = (
    "random",
    "pctc",
    "entropy",
    "gate random",
    "gate pctc",
    "gate entropy",
    "gate egl_full",
    "gate clusters random",
    "gate clusters pctc",
)


def share_of_junk(draw: Draw, indices: Sequence[int]) -> float:
    """Of some recordings."""
    return float(np.mean([draw.is_junk(index) for index in indices]))


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("experiments/results/adaptation"))
    parser.add_argument("--pool", choices=POOLS, required=True)
    parser.add_argument("--draws", type=int, nargs="+", required=True)
    args = parser.parse_args()
    cache, embeddings = Cache(args.cache), np.load(args.cache / "embeddings.npy")
    scores = scores_of(args.results, args.cache)
    draws = [Draw.of(args.pool, number, cache, scores, embeddings) for number in args.draws]
    in_pool = [share_of_junk(draw, draw.pool) for draw in draws]
    print(f"{args.pool}: {np.mean(in_pool):.1%} of the pool's recordings are junk")
    print(f"  {'':22}", *(f"{budget:15.0%}" for budget in BUDGETS))
    for name in SHOWN:
        orders = [STRATEGIES[name](draw) for draw in draws]
        cells = []
        for budget in BUDGETS:
            multiples = [
                share_of_junk(draw, draw.within_budget(order, share=budget / BUDGET)) / expected
                for draw, order, expected in zip(draws, orders, in_pool, strict=True)
            ]
            cells.append(f"{np.mean(multiples):6.2f} ({max(multiples):4.2f})")
        print(f"  {name:22}", *(f"{cell:>15}" for cell in cells))


if __name__ == "__main__":
    main()
