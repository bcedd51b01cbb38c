"""Contenders that take turns: a machine whose speed drifts is as fast for one as for another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

Work = Callable[[], object]

CPU = torch.device("cpu")


def turns(
    contenders: Mapping[str, Work], device: torch.device = CPU
) -> Iterator[tuple[str, float]]:
    """One turn each: (name, seconds), each right after its turn.

    Args:
        contenders: by name.
        device: whose work a turn ends with.
    """
    for name, work in contenders.items():
        yield name, seconds_of(work, device)


def seconds_of(work: Work, device: torch.device = CPU) -> float:
    """Wall-clock seconds of one call, and of what it left a GPU to do."""
    _wait_for(device)
    started = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles, in seconds; of few values, the ends stand for quartiles."""
    low, middle, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    )
    return {"median_s": middle, "q1_s": low, "q3_s": high}
