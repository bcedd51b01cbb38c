"""The paper's regime: a strong model, weak in its domain, adapted to what a strategy picks.

    python experiments/adaptation/run.py --model-dir ../shared/models/quartznet15x5_en \
        --cache runs/adaptation --out runs/adaptation/units \
        --results experiments/results/adaptation --draws 8

Each training is a unit with a file of its own, named after its draw and strategy; what is there, or
in the packed results (``results.py``) is not done again, and several processes may share a folder.
What a careful annotator would reject (junk, and speech that is hardly intelligible) is paid for,
but not trained on.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from depthwise import use_fourier
from filelock import FileLock, Timeout
from halves import Cache, Top, load_whole
from picks import EVERYTHING, NOTHING, STRATEGIES
from pools import POOLS, Draw
from results import ERRORS, error_rate, packed, scores_of
from rounds import IN_ROUNDS, in_rounds
from training import test, train


def main() -> None:
    """Do units until none is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("experiments/results/adaptation"))
    parser.add_argument("--pool", choices=POOLS, default="accented")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="strategies; all unless this is given")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cache = Cache(args.cache)
    module, whole = load_whole(args.model_dir)
    base = Top(whole).eval()
    use_fourier(base)
    embeddings = np.load(args.cache / "embeddings.npy")
    scores = scores_of(args.results, args.cache)
    done = {(one["draw"], one["strategy"]) for one in packed(args.results, args.pool)}
    units = args.out / args.pool
    units.mkdir(parents=True, exist_ok=True)
    for number in range(args.draws):
        draw = Draw.of(args.pool, number, cache, scores, embeddings)
        for name in args.only or (*STRATEGIES, *IN_ROUNDS, *_bounds(number)):
            if (number, name) in done:
                continue
            path = units / f"{number}-{name.replace(' ', '-')}.json"
            try:
                with FileLock(path.with_suffix(".lock"), timeout=0):
                    if not path.exists():
                        _do(name, draw, copy.deepcopy(base), module.VOCAB, path)
            except Timeout:
                continue


def _bounds(number: int) -> tuple[str, ...]:
    """How much room there is: the start is the same for all draws, and two ends are enough."""
    return (*((NOTHING,) if number == 0 else ()), *((EVERYTHING,) if number < 2 else ()))


def _do(name: str, draw: Draw, top: Top, vocabulary: str, path: Path) -> None:
    started = time.monotonic()
    if name in IN_ROUNDS:
        picks = in_rounds(draw, IN_ROUNDS[name], top, vocabulary)
    elif name == NOTHING:
        picks = []
    elif name == EVERYTHING:
        picks = list(draw.pool)
    else:
        picks = draw.within_budget(STRATEGIES[name](draw))
    kept = [i for i in picks if not draw.is_rejected(i)]
    if kept:
        train(top, draw.cache, kept, vocabulary, seed=draw.number)
    errors = test(top, draw.cache, draw.test, vocabulary)
    result = {
        "draw": draw.number,
        "strategy": name,
        "picks": [draw.cache.recordings[i].id for i in picks],
        "junk": sum(map(draw.is_junk, picks)),
        "rejected": sum(map(draw.is_rejected, picks)),
        "seconds": sum(map(draw.seconds, picks)),
        "wall_seconds": round(time.monotonic() - started, 1),
        "corpora": [draw.cache.recordings[i].corpus for i in draw.test],
        **{key: [getattr(one, key) for one in errors] for key in ERRORS},
    }
    path.write_text(json.dumps(result) + "\n")
    print(
        f"{path.stem}: CER {error_rate(result):.4f}, junk {result['junk']} of {len(picks)}, "
        f"{result['wall_seconds']} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
