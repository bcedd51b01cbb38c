"""Interleaved timing: whatever is compared runs once per round, one after the other.

The speed of a shared machine drifts from minute to minute, but hardly within a round. So a figure
is the median of the rounds' ratios, not the ratio of two medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

Work = Callable[[], object]

CPU = torch.device("cpu")


class Timings(dict[str, list[float]]):
    """Seconds per round, by name."""

    def add(self, of_round: Mapping[str, float]) -> None:
        """Append a round."""
        for name, seconds in of_round.items():
            self.setdefault(name, []).append(seconds)

    def ratio(self, name: str, to: str) -> float:
        """How many times as long ``name`` takes as ``to``: the median over rounds."""
        return statistics.median(a / b for a, b in zip(self[name], self[to], strict=True))

    def summary(self, relative_to: str | None = None) -> dict[str, dict[str, float]]:
        """Each one's ``quartiles`` and, if asked for, ratio, as in results files."""
        return {
            name: quartiles(seconds)
            | ({} if relative_to in (None, name) else {"times": self.ratio(name, relative_to)})
            for name, seconds in self.items()
        }


def time_interleaved(
    works: Mapping[str, Work], *, rounds: int, warm_ups: int = 1, device: torch.device = CPU
) -> Timings:
    """Time every piece of work once per round.

    Args:
        works: by name.
        rounds: how many.
        warm_ups: rounds before these, which do not count.
        device: whose work is waited for.
    """
    for _ in range(warm_ups):
        for work in works.values():
            work()
    timings = Timings()
    for _ in range(rounds):
        timings.add(dict(one_round(works, device)))
    return timings


def one_round(works: Mapping[str, Work], device: torch.device = CPU) -> Iterator[tuple[str, float]]:
    """Run each piece of work once, and yield its name and seconds as soon as it is done."""
    for name, work in works.items():
        yield name, seconds_of(work, device)


def seconds_of(work: Work, device: torch.device = CPU) -> float:
    """Wall-clock seconds of one call, including work that it queued on a GPU."""
    _wait_for(device)
    started = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def quartiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, interpolated between the values."""
    low, middle, high = (
        statistics.quantiles(seconds, n=4, method="inclusive")
        if len(seconds) > 1
        else [*seconds] * 3
    )
    return {"median_s": middle, "q1_s": low, "q3_s": high}
