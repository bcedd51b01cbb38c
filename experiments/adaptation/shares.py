"""What strategies pick, before anything is trained: junk, children, overlap, rank correlations.

    python experiments/adaptation/shares.py --cache runs/adaptation --draws 0 1 2 3

Numbers are of 20% of the audio. Children are those whose age is given and below 13.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from halves import Cache
from picks import STRATEGIES, Draw, aimed_scores, by_bait, by_log_det, top_aimed
from results import scores_of
from scipy.stats import spearmanr

ADULT = 13
SHOWN = (
    "random",
    "entropy",
    "egl_full",
    "gate random",
    "gate entropy",
    "gate egl_full",
    "gate egl_full per second",
    "gate egl_target",
    "gate egl_target per second",
    "gate logdet",
    "gate bait",
    "gate badge",
)
#: Those that are trained behind the gate alone.
UNGATED = {
    "egl_target": lambda d: top_aimed(d, d.pool),
    "egl_target per second": lambda d: top_aimed(d, d.pool, per_second=True),
    "logdet": lambda d: by_log_det(d, d.pool),
    "bait": lambda d: by_bait(d, d.pool),
}


def is_child(draw: Draw, index: int) -> bool:
    """Whether the collection says so."""
    age = draw.cache.recordings[index].record.get("age")
    return age is not None and age < ADULT


def correlations(draw: Draw) -> dict[str, float]:
    """Rank correlations of ``egl_target`` with other scores among the pool's speech."""
    own = aimed_scores(draw, draw.speech)
    seconds = np.array([draw.seconds(i) for i in draw.speech])
    other = {
        name: np.array([draw.score(i, name) for i in draw.speech])
        for name in ("egl_full", "egl", "entropy", "pctc")
    }
    found = {
        name: spearmanr(own, values)[0] for name, values in (other | {"duration": seconds}).items()
    }
    found["egl_full, both per second"] = spearmanr(own / seconds, other["egl_full"] / seconds)[0]
    return found


def _show(title: str, rows: dict[str, Sequence[float]], form: Callable[[float], str]) -> None:
    print(f"\n{title}")
    for name, values in rows.items():
        print(f"  {name:28}", *(form(value) for value in values))


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("experiments/results/adaptation"))
    parser.add_argument("--draws", type=int, nargs="+", required=True)
    args = parser.parse_args()
    cache = Cache(args.cache)
    embeddings = np.load(args.cache / "embeddings.npy")
    scores = scores_of(args.results, args.cache)
    draws = [Draw.of("accented", number, cache, scores, embeddings) for number in args.draws]
    strategies = UNGATED | {name: STRATEGIES[name] for name in SHOWN}
    picks = {
        name: [draw.within_budget(order(draw)) for draw in draws]
        for name, order in strategies.items()
    }

    def percent(value: float) -> str:
        return f"{value:5.0%}"

    def share(of: Callable[[Draw, int], bool], sets: Sequence[Sequence[int]]) -> list[float]:
        return [
            float(np.mean([of(d, i) for i in some])) for d, some in zip(draws, sets, strict=True)
        ]

    sets: dict[str, Sequence[Sequence[int]]] = {
        "(pool)": [d.pool for d in draws],
        "(behind the gate)": [d.gated for d in draws],
        **picks,
    }
    found = [correlations(draw) for draw in draws]
    by_name = {name: [one[name] for one in found] for name in found[0]}
    _show("rank correlation of egl_target among speech", by_name, "{:.2f}".format)
    _show("recordings", {k: [len(s) for s in v] for k, v in sets.items()}, "{:5.0f}".format)
    _show("junk", {k: share(Draw.is_junk, v) for k, v in sets.items()}, percent)
    _show("children", {k: share(is_child, v) for k, v in sets.items()}, percent)
    for base in ("gate egl_full", "gate entropy", "gate logdet"):
        overlaps = {
            name: [len({*a} & {*b}) / len(a) for a, b in zip(own, picks[base], strict=True)]
            for name, own in picks.items()
        }
        _show(f"share of the picks that {base} picks too", overlaps, percent)


if __name__ == "__main__":
    main()
