"""What a strategy picked: how long, from where, by whom, and how much of it is not speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from egl_fast.evaluation.reporting.scores_file import Groups, ScoresFile
from egl_fast.evaluation.reporting.wording import shown_text

Integers = npt.NDArray[np.int64]

#: Groups that a table shows by name; the smaller ones are added up.
MAX_GROUPS = 8
_MAX_NAME = 40


@dataclass(frozen=True)
class Picked:
    """A set of utterances, described; shares and means are averaged over seeds.

    Attributes:
        recordings: how many.
        hours: of audio.
        mean_seconds: of a recording.
        quantiles: of the durations at 10, 25, 50, 75 and 90%, of all seeds' picks together.
        speakers: how many different ones, or None where the manifest names none.
        shares: by key of the manifest, what share is in each group of ``group_names``.
    """

    recordings: float
    hours: float
    mean_seconds: float
    quantiles: tuple[float, ...]
    speakers: float | None
    shares: dict[str, tuple[float, ...]]


def group_names(groups: Groups) -> tuple[str, ...]:
    """The groups of a table: the largest by name, the rest as "other" if there is a rest."""
    return _tabled(groups)[0]


def describe(pool: ScoresFile, picks: Sequence[Integers]) -> Picked:
    """What was picked.

    Args:
        pool: the pool.
        picks: positions in it, one array per seed.

    Raises:
        ValueError: nothing was picked.
    """
    if not picks or any(len(pick) == 0 for pick in picks):
        raise ValueError("picks: expected at least one utterance per seed")
    durations = [pool.durations[pick] for pick in picks]
    shares = {}
    for key, groups in pool.groups.items():
        if key != "speaker":
            names, tabled = _tabled(groups)
            counts = [np.bincount(tabled[pick], minlength=len(names)) for pick in picks]
            of_seeds = [count / count.sum() for count in counts]
            shares[key] = tuple(np.mean(of_seeds, axis=0).tolist())
    speakers = pool.groups.get("speaker")
    return Picked(
        recordings=float(np.mean([len(pick) for pick in picks])),
        hours=float(np.mean([seconds.sum() for seconds in durations])) / 3600,
        mean_seconds=float(np.mean([seconds.mean() for seconds in durations])),
        quantiles=tuple(
            np.quantile(np.concatenate(durations), [0.1, 0.25, 0.5, 0.75, 0.9]).tolist()
        ),
        speakers=None
        if speakers is None
        else float(np.mean([_num_named(speakers, pick) for pick in picks])),
        shares=shares,
    )


def overlap(picks: Mapping[int, Integers], others: Mapping[int, Integers]) -> float | None:
    """The share of one strategy's picks that another one picks, too, averaged over common seeds.

    Example:
        >>> overlap({0: np.array([1, 2, 3, 4])}, {0: np.array([4, 5, 6, 7])})
        0.25
    """
    shares = [np.isin(own, others[seed]).mean() for seed, own in picks.items() if seed in others]
    return float(np.mean(shares)) if shares else None


def _num_named(groups: Groups, pick: Integers) -> int:
    """How many groups picks are from; those that the manifest leaves unnamed count as none."""
    return sum(bool(groups.names[code]) for code in np.unique(groups.codes[pick]).tolist())


def _tabled(groups: Groups) -> tuple[tuple[str, ...], Integers]:
    """Names of the table's groups, and for each utterance the position of its own."""
    sizes = np.bincount(groups.codes, minlength=len(groups.names))
    by_size = np.argsort(-sizes, kind="stable")
    kept = by_size if len(by_size) <= MAX_GROUPS else by_size[: MAX_GROUPS - 1]
    place = np.full(len(groups.names), len(kept))
    place[kept] = np.arange(len(kept))
    names = tuple(shown_text(groups.names[code], most=_MAX_NAME) for code in kept)
    return (*names, "other") if len(kept) < len(by_size) else names, place[groups.codes]
