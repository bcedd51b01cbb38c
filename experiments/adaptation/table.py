"""What the trainings of ``run.py`` found: a table by strategy, with intervals and every draw.

    python experiments/adaptation/table.py experiments/results/adaptation --pool accented

Error rates are means over corpora. Differences are paired: both strategies of a pair start from the
same pool, test set and seed of training. The interval of a mean over draws is Student's; a draw is
called worse where the interval of its difference over test recordings (bootstrap, 95 %) lies above
zero.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import error_rate, packed, shares_of_error, unpacked
from scipy import stats

Results = dict[str, dict[int, dict[str, Any]]]


def read(folder: Path, pool: str) -> Results:
    """Strategy -> draw -> result, from packed results or a folder of single ones."""
    found: Results = {}
    for result in [*packed(folder, pool), *unpacked(folder / pool)]:
        found.setdefault(result["strategy"], {})[result["draw"]] = result
    return found


def difference(own: Mapping[int, Any], other: Mapping[int, Any]) -> str:
    """Mean difference over the draws that both have, its interval, and draws that are worse."""
    draws = sorted(own.keys() & other.keys())
    if len(draws) < 2:
        return "-"
    gaps = np.array([error_rate(own[d]) - error_rate(other[d]) for d in draws])
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    worse = sum(_is_worse(own[d], other[d]) for d in draws)
    return f"{gaps.mean():+.4f} ± {half:.4f} ({len(gaps)} draws, {worse} worse)"


def _is_worse(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    gaps = shares_of_error(own) - shares_of_error(other)
    if not gaps.any():
        return False
    found = stats.bootstrap((gaps,), np.mean, n_resamples=2000, rng=0)
    return bool(found.confidence_interval.low > 0)


def lines(results: Results, against: Sequence[str]) -> list[str]:
    """The table in Markdown."""
    header = ["strategy", "CER", "WER", "junk", *(f"CER minus {name}" for name in against), "draws"]
    table = [header, ["---"] * len(header)]
    for name, by_draw in results.items():
        found = list(by_draw.values())
        means = [
            f"{np.mean([error_rate(one, unit) for one in found]):.4f}" for unit in ("char", "word")
        ]
        picked = sum(len(one["picks"]) for one in found)
        junk = f"{sum(one['junk'] for one in found) / picked:.0%}" if picked else "-"
        gaps = [
            "" if other == name else difference(by_draw, results.get(other, {}))
            for other in against
        ]
        each = " ".join(f"{error_rate(by_draw[d]):.4f}" for d in sorted(by_draw))
        table.append([name, *means, junk, *gaps, each])
    return ["| " + " | ".join(row) + " |" for row in table]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pool", default="accented")
    parser.add_argument("--against", nargs="*", default=["random", "gate random", "entropy"])
    args = parser.parse_args()
    print("\n".join(lines(read(args.folder, args.pool), args.against)))


if __name__ == "__main__":
    main()
