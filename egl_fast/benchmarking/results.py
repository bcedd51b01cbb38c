"""The results of a measurement: rates, an estimate for the pool, and what limits each method.

Nothing here imports torch. All numbers are about the pool as a whole: what the measured part of a
stratum took is scaled up to the audio of the stratum.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: At this share of the machine's rate or more, a method counts as limited by arithmetic.
LIMITED_BY_ARITHMETIC = 0.5


@dataclass(frozen=True)
class Part:
    """The times of a method or baseline for the recordings of a stratum.

    Attributes:
        audio_seconds: of the recordings that it processed.
        seconds: by round.
        forward: seconds of a method's forward passes, likewise by round.
        backward: seconds of its backward passes, norms included.
        rows: cotangents pulled back per recording.
        forward_multiply_adds: counted from shapes, of one forward pass per recording.
        backward_multiply_adds: likewise, of all rows.
    """

    audio_seconds: float
    seconds: Sequence[float]
    forward: Sequence[float] = ()
    backward: Sequence[float] = ()
    rows: float = 0.0
    forward_multiply_adds: float = 0.0
    backward_multiply_adds: float = 0.0

    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Pool:
    """The pool that an estimate is for.

    Attributes:
        num_recordings: of the pool.
        strata: seconds of audio of each.
    """

    num_recordings: int
    strata: Sequence[float]

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio in the pool."""
        return sum(self.strata)

    def sum(self, parts: Sequence[Part], value: Callable[[Part], float]) -> float:
        """A value's sum over the pool, extrapolated from the measured part of each stratum."""
        return sum(
            value(part) / part.audio_seconds * whole
            for part, whole in zip(parts, self.strata, strict=True)
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
    def of(parts: Sequence[Part], pool: Pool, loop: Sequence[Part]) -> Rate:
        """The rate of a method or baseline, from its own parts and those of the plain loop."""
        total = pool.sum(parts, Part.median)
        prices = [part.median() / part.audio_seconds for part in parts]
        return Rate(
            pool_seconds=total,
            cheapest=min(prices) * pool.audio_seconds,
            dearest=max(prices) * pool.audio_seconds,
            seconds_per_utterance=total / pool.num_recordings,
            utterances_per_second=pool.num_recordings / total,
            times_real_time=pool.audio_seconds / total,
            times_plain_loop=pool.sum(loop, Part.median) / total,
        )


@dataclass(frozen=True)
class Bound:
    """How a method's time divides up, and how close it comes to the machine's rate.

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
    def of(parts: Sequence[Part], pool: Pool, *, rate: float, countable: bool) -> Bound:
        """From a method's parts; ``rate`` is the multiply-adds per second of a large product."""
        total = pool.sum(parts, Part.median)
        forward = pool.sum(parts, lambda part: statistics.median(part.forward))
        backward = pool.sum(parts, lambda part: statistics.median(part.backward))
        of_backward = pool.sum(parts, lambda part: part.backward_multiply_adds)
        of_all = of_backward + pool.sum(parts, lambda part: part.forward_multiply_adds)
        return Bound(
            rows=statistics.fmean(part.rows for part in parts),
            forward=forward / total,
            backward=backward / total,
            rest=1.0 - (forward + backward) / total,
            flop_per_second=2 * of_all / total if countable else None,
            share=of_all / total / rate if countable else None,
            backward_share=of_backward / backward / rate if countable else None,
        )

    def sentence(self, name: str) -> str:
        """The measurement in words; "that rate" is that of a large matrix product."""
        share, stage = max(
            (self.backward, "backward passes"),
            (self.forward, "forward passes"),
            (self.rest, "search, cotangents, and records"),
        )
        text = f"{name}: {stage} take {share:.0%} of the time"
        if self.share is None or self.backward_share is None:
            return f"{text}; operations were not counted."
        if stage == "backward passes":
            reached, runs = self.backward_share, " and run"
        else:
            reached, runs = self.share, "; the whole runs"
        text += f"{runs} at {reached:.0%} of that rate"
        if reached >= LIMITED_BY_ARITHMETIC:
            return f"{text}: limited by arithmetic."
        return f"{text}: limited by something other than arithmetic, which was not measured."


def advice(rates: Mapping[str, Rate], bounds: Mapping[str, Bound]) -> list[str]:
    """How the fastest method saves time, unless it is exact scoring."""
    best = min(bounds, key=lambda name: rates[name].pool_seconds)
    if best == "exact":
        return []
    share = rates[best].pool_seconds / rates["exact"].pool_seconds
    return [
        f"--method {best} took {share:.0%} of exact's time: it pulls back {bounds[best].rows:.0f} "
        f"rows per recording instead of {bounds['exact'].rows:.0f}, for an estimate with an error "
        "bar."
    ]
