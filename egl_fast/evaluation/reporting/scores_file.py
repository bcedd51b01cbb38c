"""A scores file of any size: its numbers in memory, the rest read again where it is shown."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from egl_fast.display import shown
from egl_fast.errors import ManifestError
from egl_fast.evaluation.reporting.score_records import read_records, records_at
from egl_fast.evaluation.statistics.bootstrap import Floats
from egl_fast.evaluation.table_columns import CONTROLS
from egl_fast.records import STRATEGIES
from egl_fast.scores import REMEDY

#: Keys of manifests by which pools are commonly divided.
GROUP_KEYS = ("corpus", "kind", "speaker")

_T = TypeVar("_T")

_RANKED = (*STRATEGIES, *CONTROLS)
#: Scores that may be estimates -> the key of their standard error.
_STDERR_KEYS = {"egl": "egl_stderr", "egl_full": "egl_full_stderr"}


@dataclass(frozen=True)
class Groups:
    """Which group each utterance belongs to.

    Attributes:
        names: of the groups, in order of first appearance; "" where the manifest says nothing.
        codes: [N] positions in ``names``.
    """

    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScoresFile:
    """The numbers of a scores file.

    Attributes:
        path: the file.
        strategies: score of each utterance [N], by each strategy that every record has a finite
            number for; higher is more informative.
        stderrs: standard error of each score [N], 0 where it is exact or the record does not
            tell, by each strategy that some record holds an estimate for.
        durations: [N] seconds.
        beam_mass: [N], NaN where a record holds none.
        typicality: [N], NaN where a record holds none.
        groups: by the keys of ``GROUP_KEYS`` that some record holds.
        ids: [N], filled only where they were asked for.
        incomplete: strategies that some records hold and others do not; they cannot rank.
    """

    path: Path
    strategies: dict[str, Floats]
    stderrs: dict[str, Floats]
    durations: Floats
    beam_mass: Floats
    typicality: Floats
    groups: dict[str, Groups]
    ids: tuple[str, ...]
    incomplete: tuple[str, ...]

    def __len__(self) -> int:
        """N, the number of utterances."""
        return len(self.durations)

    def records(self, indices: Collection[int]) -> list[dict[str, Any]]:
        """Whole records, read again from the file; see ``parts``."""
        return records_at(self.path, indices, len(self))

    def parts(
        self, indices: Collection[int], make: Callable[[int, dict[str, Any]], _T]
    ) -> list[_T]:
        """What ``make`` keeps of some records, which are read again from the file.

        Args:
            indices: positions in the file's order.
            make: called with each position and its record, in the file's order.

        Raises:
            ManifestError: the file has changed since it was read.
        """
        return records_at(self.path, indices, len(self), make)


def read_scores_file(
    path: str | Path, *, keep_ids: bool = False, advance: Callable[[int], None] | None = None
) -> ScoresFile:
    """The numbers of a scores file, in one pass over it.

    Args:
        path: JSON Lines as `egl-fast score` writes them, or Parquet as `egl-fast simulate` does.
        keep_ids: fill ``ScoresFile.ids``.
        advance: told now and then how many more bytes have been read.

    Raises:
        ManifestError: the file is missing, empty or not a file, a line is not a score record, or no
            strategy has a number in every record; the message names the line or row.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or device, which cannot be read twice"
        raise ManifestError(f"scores {path}: is {what}; {REMEDY}")
    numbers = {
        name: array("d")
        for name in ("duration", "beam_mass", "typicality", *_STDERR_KEYS.values(), *_RANKED)
    }
    codes = {key: array("q") for key in GROUP_KEYS}
    names: dict[str, dict[str, int]] = {key: {} for key in GROUP_KEYS}
    ids: list[str] = []
    for where, record in read_records(path, advance):
        if not isinstance(record.get("id"), str) or not any(map(record.__contains__, STRATEGIES)):
            raise ManifestError(f"{where}: holds no score; {REMEDY}")
        for name, column in numbers.items():
            column.append(number_in(record, name, where))
        if not 0 <= numbers["duration"][-1] < 1e9:
            raise ManifestError(
                f"{where}: 'duration' is {shown(record.get('duration'))}, not a number of seconds"
            )
        for key, of in names.items():
            codes[key].append(of.setdefault(_group(record.get(key)), len(of)))
        if keep_ids:
            ids.append(record["id"])
    if not numbers["duration"]:
        raise ManifestError(f"scores {path}: holds no record; write it with `egl-fast score`")
    # Not copied: of a million records that would be another 100 MB.
    columns = {name: np.frombuffer(column) for name, column in numbers.items()}
    missing = {name: np.isnan(columns[name]) for name in _RANKED}
    strategies = {name: columns[name] for name in _RANKED if not missing[name].any()}
    if not strategies:
        raise ManifestError(
            f"scores {path}: no strategy has a score in every record; score the whole pool again, "
            "in one run"
        )
    return ScoresFile(
        path=path,
        strategies=strategies,
        stderrs=_stderrs(columns, strategies),
        durations=columns["duration"],
        beam_mass=columns["beam_mass"],
        typicality=columns["typicality"],
        groups={
            key: Groups(tuple(of), np.frombuffer(codes[key], np.int64))
            for key, of in names.items()
            if set(of) != {""}
        },
        ids=tuple(ids),
        incomplete=tuple(n for n in _RANKED if missing[n].any() and not missing[n].all()),
    )


def number_in(record: Mapping[str, Any], name: str, where: str) -> float:
    """A number of a record, NaN where it holds none; ``ManifestError`` for anything else."""
    value = record.get(name)
    if value is None:
        return np.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ManifestError(f"{where}: {name!r} is {shown(value)}, not a number")
    if not -1e300 <= value <= 1e300:
        raise ManifestError(f"{where}: {name!r} is {shown(value)}, beyond any score")
    return value


def _stderrs(columns: dict[str, Floats], strategies: dict[str, Floats]) -> dict[str, Floats]:
    stderrs = {
        name: np.nan_to_num(columns[key])
        for name, key in _STDERR_KEYS.items()
        if name in strategies and (columns[key] > 0).any()
    }
    if "egl" in stderrs and "egl_normalized" in strategies:
        # The mass that egl is divided by is exact.
        mass = columns["beam_mass"]
        stderrs["egl_normalized"] = np.divide(
            stderrs["egl"], mass, out=np.zeros_like(mass), where=mass > 0
        )
    return stderrs


def _group(value: object) -> str:
    """A group's name; a list or an object names none."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (bool, int, float)) else ""
