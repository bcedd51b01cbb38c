"""The project's performance goals: every figure that must hold, with its floor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A number that a benchmark measures.

    Attributes:
        what: what it says.
        floor: what it must reach or, if ``is_ceiling``, must not exceed.
        is_ceiling: whether less is better.
    """

    what: str
    floor: float
    is_ceiling: bool = False

    def holds(self, value: float) -> bool:
        """Whether a measured value is good enough."""
        return value <= self.floor if self.is_ceiling else value >= self.floor

    @property
    def requirement(self) -> str:
        """The floor in words."""
        return f"{'at most' if self.is_ceiling else 'at least'} {self.floor:g}"


_SHARE = "share of the machine's rate over counted operations, 2 s, 2 threads"

#: Medians of one run, on two cores and utterances of about 2 seconds.
MUST_HOLD: dict[str, Figure] = {
    "pipeline_small": Figure("pipeline, exact, K = 100, small: times the plain loop", 12.0),
    "pipeline_deep": Figure("pipeline, exact, K = 100, 7 x 512: times the plain loop", 12.0),
    "pipeline_share_small": Figure(f"pipeline, exact, small: {_SHARE} of all K = 100", 0.45),
    "pipeline_share_deep": Figure(f"pipeline, exact, 7 x 512: {_SHARE} of all K = 100", 0.45),
    "engine_4_small": Figure(f"norms, R = 4, small: {_SHARE}", 0.25),
    "engine_4_deep": Figure(f"norms, R = 4, 7 x 512: {_SHARE}", 0.25),
    "engine_16_small": Figure(f"norms, R = 16, small: {_SHARE}", 0.35),
    "engine_16_deep": Figure(f"norms, R = 16, 7 x 512: {_SHARE}", 0.35),
    "search_flashlight": Figure("search, width 100, 1 thread: times flashlight-text", 20.0),
    "recall_flashlight": Figure("search: recall of the best 100, minus flashlight-text's", 0.0),
    "search_fast_ctc_decode": Figure("search, width 100, 1 thread: times fast-ctc-decode", 8.0),
    "best_fast_ctc_decode": Figure("search: finds the best, minus fast-ctc-decode's share", 0.0),
    "search_vocabulary": Figure(
        "search, C = 1,000, after a pass over all: times C = 29", 1.5, True
    ),
    "occupancy": Figure("occupancy of 100, U = 30, 1 thread: times F.ctc_loss", 15.0),
    "through_time_gru": Figure("7 layers of 512, 100 rows, GRU: times torch's loop over rows", 2.0),
    "through_time_lstm": Figure(
        "7 layers of 512, 100 rows, LSTM: times torch's loop over rows", 2.0
    ),
    "through_time_rnn": Figure("7 layers of 512, 100 rows, RNN: times torch's loop over rows", 2.0),
}


def verdict(name: str, value: float | None) -> str:
    """ "ok", "MISSED" or "not measured"."""
    if value is None:
        return "not measured"
    return "ok" if MUST_HOLD[name].holds(value) else "MISSED"


def figures(results: Mapping[str, Any]) -> dict[str, float]:
    """All figures in a results file."""
    return {
        name: value
        for entry in results["benchmarks"]
        for name, value in entry.get("figures", {}).items()
    }


def missed(values: Mapping[str, float]) -> list[str]:
    """Names of figures that do not hold."""
    return [name for name, value in values.items() if not MUST_HOLD[name].holds(value)]


def table(values: Mapping[str, float], *, judged: bool) -> Iterator[str]:
    """Lines of a table of all figures; with verdicts only if the sizes are those of the goals."""
    width = max(len(figure.what) for figure in MUST_HOLD.values())
    for name, figure in MUST_HOLD.items():
        value = values.get(name)
        measured = "" if value is None else f"{value:.2f}"
        word = verdict(name, value) if judged or value is None else "not judged"
        yield f"{figure.what:{width}}  {measured:>8}  {figure.requirement:13}  {word}"
