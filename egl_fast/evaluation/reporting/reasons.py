"""Why a recording is worth labeling, in words, as far as its record and the pool tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.evaluation.reporting.listening import readings
from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import plain
from egl_fast.evaluation.statistics.bootstrap import Floats

#: What is beyond so much of the pool is worth mentioning.
_REMARKABLE = 0.9
#: A reading that holds more than this leaves little doubt.
_SURE = 0.8
#: What else may speak for a recording: the first of these that the pool holds.
_OTHERS = ("egl_full", "egl_normalized")


class Reasons:
    """What speaks for each recording of a pool.

    Args:
        pool: the scores.
        strategy: what it is ranked by.
        trusted: quantiles of the trusted recordings' typicality at equal steps; () if unknown.
        threshold: the typicality below which a recording is an outlier; None if unknown.
        among: positions of the recordings that it is compared with; None: with none.
        whole: what these are called.
    """

    def __init__(
        self,
        pool: ScoresFile,
        strategy: str,
        *,
        trusted: Sequence[float],
        threshold: float | None,
        among: npt.NDArray[np.int64] | None,
        whole: str = "",
    ) -> None:
        self._among, self._whole = among, whole
        self._pool, self._strategy = pool, strategy
        self._trusted, self._threshold = trusted, threshold
        self._other = next((name for name in _OTHERS if name in pool.strategies), None)

    def of(self, index: int, record: Mapping[str, Any]) -> list[str]:
        """What speaks for a recording, most important first.

        Args:
            index: its position in the pool.
            record: its record.
        """
        compared = [] if self._among is None else [*self._standing(index), *self._length(index)]
        return [*self._doubt(record), *compared, *self._likeness(index)]

    def is_outlier(self, index: int) -> bool:
        """Whether `--drop-atypical auto` would leave a recording out."""
        return self._threshold is not None and bool(self._pool.typicality[index] < self._threshold)

    def _doubt(self, record: Mapping[str, Any]) -> Iterable[str]:
        if record.get("pred_text") == "":
            yield "the model hears nothing in it"
        shares = [math.exp(min(0.0, log_prob)) for _, log_prob, _ in islice(readings(record), 2)]
        pctc, frames = record.get("pctc"), record.get("num_frames")
        if not shares and isinstance(pctc, float) and isinstance(frames, int) and frames < 10**9:
            shares = [math.exp(-max(0.0, pctc * frames))]
        if not shares:
            return
        best = _share(shares[0])
        if shares[0] > _SURE:
            yield f"the model is sure of its transcript, which holds {best} of the probability"
        elif shares[0] < 1e-3:
            yield "the model is unsure of its transcript: no reading holds even 0.1%"
        elif len(shares) == 2:
            yield (
                f"the model is unsure of its transcript: two readings hold {best} and "
                f"{_share(shares[1])}"
            )
        else:
            yield f"the model is unsure of its transcript: the best reading holds {best}"

    def _standing(self, index: int) -> Iterable[str]:
        below = self._below(self._strategy, index)
        yield f"{label(self._strategy)} higher than for {self._share_of(below)}"
        if self._other not in (None, self._strategy):
            below = self._below(self._other, index)
            if below >= _REMARKABLE:
                yield (
                    f"expected to change the model more than {self._share_of(below)} "
                    f"({label(self._other)})"
                )

    def _length(self, index: int) -> Iterable[str]:
        below, above = self._below("duration", index), self._above("duration", index)
        if below >= _REMARKABLE:
            yield f"longer than {self._share_of(below)}"
        elif above >= _REMARKABLE:
            yield f"shorter than {self._share_of(above)}"

    def _likeness(self, index: int) -> Iterable[str]:
        value = float(self._pool.typicality[index])
        if math.isnan(value) or not self._trusted:
            return
        shares = np.linspace(0, 1, len(self._trusted))
        below = float(np.interp(value, self._trusted, shares, left=0.0, right=1.0))
        if self.is_outlier(index) or below <= 0.0:
            yield "unlike the trusted recordings"
        elif below <= 1 - _REMARKABLE:
            yield f"less typical than {_percent(1 - below)} of the trusted recordings"
        else:
            yield "typical of the trusted recordings"

    def _share_of(self, share: float) -> str:
        return f"{_percent(share)} of the {self._whole}"

    def _below(self, name: str | None, index: int) -> float:
        """The share of the others that has less."""
        values, ordered = self._sorted[name or ""]
        return float(np.searchsorted(ordered, values[index])) / len(ordered)

    def _above(self, name: str, index: int) -> float:
        """The share of the others that has more."""
        values, ordered = self._sorted[name]
        return 1 - float(np.searchsorted(ordered, values[index], side="right")) / len(ordered)

    @cached_property
    def _sorted(self) -> dict[str, tuple[Floats, Floats]]:
        columns = {"duration": self._pool.durations}
        for name in (self._strategy, self._other):
            if name is not None:
                columns[name] = self._pool.strategies[name]
        return {name: (of, np.sort(of[self._among])) for name, of in columns.items()}


def _share(probability: float) -> str:
    return f"{plain(100 * probability, digits=2)}%"


def _percent(share: float) -> str:
    """In percent, rounded down, because nothing is higher than all of its pool."""
    return f"{math.floor(100 * share + 1e-9)}%"
