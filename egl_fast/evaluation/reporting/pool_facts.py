"""What is said of the recordings of a file before they are compared."""

from __future__ import annotations

import numpy as np

from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import duration, plain


def facts_of(pool: ScoresFile, *, what: str = "recording") -> list[tuple[str, str]]:
    """(number, what it counts): how many there are, how long they are, and by how many people."""
    facts = [
        (f"{len(pool):,}", what if len(pool) == 1 else f"{what}s"),
        (duration(pool.durations.sum() / 3600, digits=(1, 1)), "of audio"),
        (f"{pool.durations.mean():.1f} s", "on average"),
    ]
    if "speaker" in pool.groups:
        speakers = sum(map(bool, pool.groups["speaker"].names))
        facts.append((f"{speakers:,}", "speaker" if speakers == 1 else "speakers"))
    return facts


def error_bars(pool: ScoresFile) -> str:
    """How far the scores are estimates, and what that means for ranks; "" where all are exact."""
    shares = []
    for name, stderr in pool.stderrs.items():
        estimated = stderr > 0
        sizes = np.maximum(np.abs(pool.strategies[name][estimated]), 1e-300)
        share = float(np.median(stderr[estimated] / sizes))
        shares.append(f"{label(name)} {plain(100 * share, digits=2)}%")
    if not shares:
        return ""
    return (
        "Some scores are estimates. Their standard errors (±), as a share of the score: "
        f"{', '.join(shares)} (medians). Where two scores differ by less than about three standard "
        "errors, which recording ranks higher is chance."
    )
