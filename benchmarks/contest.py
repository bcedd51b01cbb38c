"""What a benchmark of the suite measures with: contenders that take turns, and their results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from settings import Settings

from egl_fast.benchmarking.turns import Work, quartiles, seconds_of, turns


@dataclass(frozen=True)
class Turns:
    """Seconds that each contender took, round by round.

    Attributes:
        own: of what is measured.
        peers: of what it is compared with, by name.
    """

    own: list[float]
    peers: dict[str, list[float]]

    def times(self, peer: str) -> float:
        """How often the own time goes into a peer's: the median over rounds."""
        pairs = zip(self.peers[peer], self.own, strict=True)
        return statistics.median(theirs / own for theirs, own in pairs)

    def summary(self) -> dict[str, Any]:
        """Median and quartiles of each contender, and its times the own one's."""
        return {
            name: {**quartiles(seconds), "times": self.times(name)}
            for name, seconds in self.peers.items()
        }


class Contest:
    """What a benchmark measures with, and where it leaves its results.

    Args:
        benchmark: pytest-benchmark's fixture; its timing is that of ``own``, the rest goes into
            its ``extra_info``.
        settings: sizes.
        figures: receives the figures of ``must_hold``.
        write_line: prints while tests run.
    """

    def __init__(
        self,
        benchmark: BenchmarkFixture,
        settings: Settings,
        figures: dict[str, float],
        write_line: Callable[[str], None],
    ) -> None:
        self.benchmark = benchmark
        self.settings = settings
        self._figures = figures
        self._write_line = write_line

    def take_turns(
        self,
        own: Work,
        peers: Mapping[str, Work],
        *,
        rounds: int,
        before: Callable[[int], None] = lambda number: None,
        warm_up: bool = True,
    ) -> Turns:
        """Time all contenders once a round.

        Args:
            own: what is measured.
            peers: what it is compared with.
            rounds: how many.
            before: told the number of each round, from 0, outside of all times.
            warm_up: run everything once beforehand; what has run already needs none.
        """
        taken = Turns([], {name: [] for name in peers})

        def others() -> None:
            before(len(taken.own))
            for name, seconds in turns(peers):
                taken.peers[name].append(seconds)

        if warm_up:
            before(0)
            for work in (*peers.values(), own):
                work()
        self.benchmark.pedantic(
            lambda: taken.own.append(seconds_of(own)), setup=others, rounds=rounds
        )
        return taken

    def note(self, **facts: Any) -> None:
        """Keep facts with the result."""
        self.benchmark.extra_info.update(facts)

    def figure(self, name: str, value: float) -> None:
        """Report one of the figures that must hold."""
        self._figures[name] = value
        self.benchmark.extra_info.setdefault("figures", {})[name] = value

    def remark(self, text: str) -> None:
        """Print and keep what a reader of the numbers must know, such as who is not compared."""
        self.benchmark.extra_info.setdefault("remarks", []).append(text)
        self.say(text)

    def say(self, text: str) -> None:
        """Print a line at once."""
        self._write_line(f"    {text}")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's threads, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
