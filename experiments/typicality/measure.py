"""How well typicality tells junk from speech, and what it does to newcomers.

    python experiments/typicality/measure.py --data ../shared/data --cache runs/typicality \
        --adaptation runs/adaptation --out experiments/results/typicality.json

Needs the embeddings that experiments/adaptation/scoring.py leaves in its cache; without
--adaptation, the pretrained model's pools are left out.
"""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from known_junk import Pool, pretrained_pools, small_model_pools, write_small_model_embeddings
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from egl_fast.embeddings.reduction import Reduction
from egl_fast.embeddings.spectrum import SIZE, without_spectrum
from egl_fast.embeddings.typicality import (
    NUM_COMPONENTS,
    SCALES,
    least_typical,
    typicality,
    weights,
)
from egl_fast.selection.gate import groups

SEEDS = range(5)
FALSE_ALARMS = (0.02, 0.05, 0.1)


def measured(pool: Pool) -> dict[str, Any]:
    """Area under the curve, and what each rate of false alarms turns away, by kind."""
    found = typicality(pool.trusted, pool.pool)
    kept = {}
    for rate in FALSE_ALARMS:
        stays = found.pool >= found.threshold(rate)
        kept[f"{rate:g}"] = {
            kind: float(stays[pool.kinds == kind].mean()) for kind in np.unique(pool.kinds).tolist()
        }
    auc = float(roc_auc_score(pool.is_speech, found.pool))
    return {
        "pool": pool.name,
        "recordings": len(pool.pool),
        "auc": auc,
        "rivals": {
            name: float(roc_auc_score(pool.is_speech, values))
            for name, values in rivals(pool).items()
        },
        "kept": kept,
        "by_hand": taken_back(pool, found.pool < found.threshold(FALSE_ALARMS[0])),
    }


def taken_back(pool: Pool, is_away: np.ndarray) -> dict[str, int] | None:
    """What a person gets who takes back all groups in which most are newcomers; None without such.

    Counts of groups in all, of groups taken back, and of the newcomers, the junk, and the rest of
    the speech in those; and of newcomers that were turned away.
    """
    _, _, newcomers = pool.name.partition("new: ")
    if not newcomers:
        return None
    away = np.flatnonzero(is_away)
    numbers = np.array(groups(without_spectrum(pool.pool), away.tolist()))
    is_new = np.isin(pool.kinds[away], newcomers.split(" and "))
    is_junk = pool.kinds[away] == "outliers"
    taken = [n for n in np.unique(numbers) if is_new[numbers == n].mean() > 0.5]
    inside = np.isin(numbers, taken)
    return {
        "groups": len(np.unique(numbers)),
        "taken": len(taken),
        "newcomers_away": int(is_new.sum()),
        "newcomers": int((inside & is_new).sum()),
        "junk": int((inside & is_junk).sum()),
        "other_speech": int((inside & ~is_new & ~is_junk).sum()),
    }


def rivals(pool: Pool) -> dict[str, np.ndarray]:
    """Each scale alone, no spectrum, and the distance to the ten nearest trusted recordings."""
    together = np.concatenate([pool.trusted, pool.pool])
    num_trusted = len(pool.trusted)
    points = Reduction(
        together, num_components=NUM_COMPONENTS, weights=weights(together.shape[1] - SIZE)
    )(together)
    found = {}
    for scale in SCALES:
        model = LocalOutlierFactor(round(scale * len(points))).fit(points)
        found[f"{scale:.0%}"] = model.negative_outlier_factor_[num_trusted:]
    seen = without_spectrum(together)
    seen_points = Reduction(seen, num_components=NUM_COMPONENTS)(seen)
    found["no spectrum"] = least_typical(seen_points)[0][num_trusted:]
    nearest = NearestNeighbors(n_neighbors=10).fit(points[:num_trusted])
    found["distance"] = -nearest.kneighbors(points[num_trusted:])[0].mean(1)
    return found


def main() -> None:
    """Measure, write, and print means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("examples/base.pt"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--adaptation", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    embeddings = args.cache / "small.npz"
    if not embeddings.exists():
        write_small_model_embeddings(args.model, args.data, embeddings)
    pools = small_model_pools(embeddings, SEEDS)
    if args.adaptation is not None:
        for kind in ("accented", "mixed"):
            pools = chain(pools, pretrained_pools(kind, args.adaptation, SEEDS))
    results = [measured(pool) for pool in pools]
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    for name in dict.fromkeys(result["pool"] for result in results):
        own = [result for result in results if result["pool"] == name]
        areas = [result["auc"] for result in own]
        print(f"{name}: area {np.mean(areas):.3f} ({min(areas):.3f} to {max(areas):.3f})")
        rival = {k: np.mean([result["rivals"][k] for result in own]) for k in own[0]["rivals"]}
        print("  alone:", ", ".join(f"{k} {v:.3f}" for k, v in rival.items()))
        if own[0]["by_hand"]:
            print("  groups:", [list(result["by_hand"].values()) for result in own])
        for rate in FALSE_ALARMS:
            kinds = own[0]["kept"][f"{rate:g}"]
            means = {k: np.mean([result["kept"][f"{rate:g}"][k] for result in own]) for k in kinds}
            print(f"  {rate:g}:", ", ".join(f"{k} {v:.2f}" for k, v in means.items()))


if __name__ == "__main__":
    main()
