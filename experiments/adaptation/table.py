"""What the trainings of ``run.py`` found: a table by strategy, with intervals and every draw.

    python experiments/adaptation/table.py experiments/results/adaptation --pool accented

Error rates are means over corpora. Differences are paired: both strategies of a pair start from the
same pool, test set and seed of training. The interval of a mean over draws is Student's (95%). A
draw is called worse if the interval of its difference over test recordings (1.96 standard errors)
lies above zero.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results import error_rate, packed, shares_of_error, unpacked
from scipy import stats

#: Strategy -> draw -> result.
Results = dict[str, dict[int, dict[str, Any]]]

AGAINST = ("random", "gate random", "speech random", "entropy", "pctc")


def read(folder: Path, pool: str) -> Results:
    """Packed results and those of single files."""
    found: Results = {}
    for result in [*packed(folder, pool), *unpacked(folder / pool)]:
        found.setdefault(result["strategy"], {})[result["draw"]] = result
    return found


@dataclass(frozen=True)
class Difference:
    """Of the error rates of two strategies; below zero if the first does better.

    Attributes:
        mean: over draws.
        half: of the mean's interval.
        num_draws: that both have.
        num_worse: of them, where the first is worse.
    """

    mean: float
    half: float
    num_draws: int
    num_worse: int

    def __str__(self) -> str:
        """In percent, in bold if the interval excludes zero."""
        mark = "**" if abs(self.mean) > self.half else ""
        worse = f", {self.num_worse} worse" if self.num_worse else ""
        return f"{mark}{100 * self.mean:+.2f} ± {100 * self.half:.2f}{mark}{worse}"


def difference(own: Mapping[int, Any], other: Mapping[int, Any]) -> Difference | None:
    """Over the draws that both have; None if these are fewer than two."""
    draws = sorted(own.keys() & other.keys())
    if len(draws) < 2:
        return None
    by_recording = [shares_of_error(own[d]) - shares_of_error(other[d]) for d in draws]
    gaps = np.array([one.sum() for one in by_recording])
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / len(gaps) ** 0.5
    worse = sum(one.sum() > 1.96 * one.std() * len(one) ** 0.5 for one in by_recording)
    return Difference(float(gaps.mean()), float(half), len(gaps), int(worse))


def junk_share(by_draw: Mapping[int, Any]) -> float:
    """Of the picks of all draws, by recordings."""
    picked = sum(len(one["picks"]) for one in by_draw.values())
    return sum(one["junk"] for one in by_draw.values()) / picked if picked else 0.0


def rows(results: Results, against: Sequence[str]) -> Iterator[list[str]]:
    """The table, its head first; best first."""
    yield ["strategy", "CER", "WER", "junk", *(f"minus {name}" for name in against), "each draw"]
    means = {
        name: [
            np.mean([error_rate(one, unit) for one in by_draw.values()])
            for unit in ("char", "word")
        ]
        for name, by_draw in results.items()
    }
    for name in sorted(results, key=lambda name: means[name][0]):
        by_draw = results[name]
        gaps = [
            "" if other == name else str(difference(by_draw, results.get(other, {})) or "")
            for other in against
        ]
        each = " ".join(f"{100 * error_rate(by_draw[d]):.2f}" for d in sorted(by_draw))
        rates = [f"{100 * rate:.2f}" for rate in means[name]]
        yield [name, *rates, f"{junk_share(by_draw):.0%}", *gaps, each]


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pool", default="accented")
    parser.add_argument("--against", nargs="*", default=AGAINST)
    args = parser.parse_args()
    for number, row in enumerate(rows(read(args.folder, args.pool), args.against)):
        print(f"| {' | '.join(row)} |")
        if number == 0:
            print(f"|{' --- |' * len(row)}")


if __name__ == "__main__":
    main()
