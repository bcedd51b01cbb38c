"""What came of a measurement: rates, an estimate for the pool, and what limits each method.

Nothing here imports torch. All numbers are about the pool as a whole: what the recordings of a
stratum took is scaled up to the audio of the stratum.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: From this share of the machine's rate on, arithmetic is said to be what limits a method.
LIMITED_BY_ARITHMETIC = 0.5


@dataclass(frozen=True)
class Timing:
    """What a method or baseline took.

    Attributes:
        seconds: by stratum, then by round.
        audio_seconds: by stratum, of the recordings that it processed.
    """

    seconds: list[list[float]]
    audio_seconds: list[float]

    @property
    def medians(self) -> list[float]:
        """Over rounds, by stratum."""
        return [statistics.median(rounds) for rounds in self.seconds]


@dataclass(frozen=True)
class Stage:
    """Where a method's time on a stratum's recordings went.

    Attributes:
        forward: seconds of forward passes.
        backward: seconds of backward passes, norms included.
        rows: cotangents pulled back per recording.
        forward_multiply_adds: counted from shapes, of one forward pass per recording.
        backward_multiply_adds: likewise, of all rows.
    """

    forward: float
    backward: float
    rows: float
    forward_multiply_adds: float
    backward_multiply_adds: float


@dataclass(frozen=True)
class Pool:
    """What numbers are about.

    Attributes:
        num_recordings: of the pool.
        strata: seconds of audio of each.
    """

    num_recordings: int
    strata: list[float]

    @property
    def audio_seconds(self) -> float:
        """Of the pool."""
        return sum(self.strata)

    def scaled(self, values: Sequence[float], audio_seconds: Sequence[float]) -> float:
        """A sum over the pool, from a part of each stratum.

        Args:
            values: by stratum, of the part that was measured.
            audio_seconds: of that part.
        """
        return sum(
            value / measured * whole
            for value, measured, whole in zip(values, audio_seconds, self.strata, strict=True)
        )


@dataclass(frozen=True)
class Rate:
    """How fast a method or baseline is.

    Attributes:
        pool_seconds: estimated for the pool.
        cheapest: the same if every second of audio took as long as in the cheapest recording.
        dearest: the same with the most expensive recording.
        seconds_per_utterance: mean over the pool.
        utterances_per_second: its inverse.
        times_real_time: seconds of audio per second.
        times_plain_loop: the plain loop's time over this time.
    """

    pool_seconds: float
    cheapest: float
    dearest: float
    seconds_per_utterance: float
    utterances_per_second: float
    times_real_time: float
    times_plain_loop: float

    @staticmethod
    def of(timing: Timing, pool: Pool, loop: Timing) -> Rate:
        """From times."""
        total = pool.scaled(timing.medians, timing.audio_seconds)
        prices = [t / s for t, s in zip(timing.medians, timing.audio_seconds, strict=True)]
        return Rate(
            pool_seconds=total,
            cheapest=min(prices) * pool.audio_seconds,
            dearest=max(prices) * pool.audio_seconds,
            seconds_per_utterance=total / pool.num_recordings,
            utterances_per_second=pool.num_recordings / total,
            times_real_time=pool.audio_seconds / total,
            times_plain_loop=pool.scaled(loop.medians, loop.audio_seconds) / total,
        )


@dataclass(frozen=True)
class Bound:
    """What a method's time is made of, and how near it comes to the machine's rate.

    Attributes:
        rows: cotangents pulled back per recording: mean of those measured.
        forward: share of the time.
        backward: share of the time.
        rest: share of the time: search, cotangents, records.
        flop_per_second: counted operations over the whole time; None if some were not counted.
        share: of the rate of a large matrix product, over the whole time.
        backward_share: the same, of the backward passes alone.
    """

    rows: float
    forward: float
    backward: float
    rest: float
    flop_per_second: float | None
    share: float | None
    backward_share: float | None

    @staticmethod
    def of(
        timing: Timing, stages: Sequence[Stage], pool: Pool, *, rate: float, countable: bool
    ) -> Bound:
        """From times, and the multiply-adds per second of a large matrix product."""

        def scaled(values: list[float]) -> float:
            return pool.scaled(values, timing.audio_seconds)

        total = scaled(timing.medians)
        forward = scaled([stage.forward for stage in stages])
        backward = scaled([stage.backward for stage in stages])
        of_backward = scaled([stage.backward_multiply_adds for stage in stages])
        of_all = of_backward + scaled([stage.forward_multiply_adds for stage in stages])
        return Bound(
            rows=statistics.fmean(stage.rows for stage in stages),
            forward=forward / total,
            backward=backward / total,
            rest=1.0 - (forward + backward) / total,
            flop_per_second=2 * of_all / total if countable else None,
            share=of_all / total / rate if countable else None,
            backward_share=of_backward / backward / rate if countable else None,
        )

    def sentence(self, name: str) -> str:
        """In words, only what was measured; "that rate" is that of a large matrix product."""
        shares = {
            "backward passes": self.backward,
            "forward passes": self.forward,
            "search, cotangents, and records": self.rest,
        }
        largest = max(shares, key=lambda stage: shares[stage])
        text = f"{name}: {largest} take {shares[largest]:.0%} of the time"
        if self.share is None or self.backward_share is None:
            return f"{text}; operations were not counted."
        if largest == "backward passes":
            reached, runs = self.backward_share, " and run"
        else:
            reached, runs = self.share, "; the whole runs"
        text += f"{runs} at {reached:.0%} of that rate"
        if reached >= LIMITED_BY_ARITHMETIC:
            return f"{text}: limited by arithmetic."
        return f"{text}: limited by something other than arithmetic, which was not measured."


def advice(rates: Mapping[str, Rate], bounds: Mapping[str, Bound]) -> list[str]:
    """What the fastest method does less of than exact scoring, if it is another one."""
    best = min(bounds, key=lambda name: rates[name].pool_seconds)
    if best == "exact":
        return []
    share = rates[best].pool_seconds / rates["exact"].pool_seconds
    return [
        f"--method {best} took {share:.0%} of exact's time: it pulls back {bounds[best].rows:.0f} "
        f"rows per recording instead of {bounds['exact'].rows:.0f}, for an estimate with an error "
        "bar."
    ]
