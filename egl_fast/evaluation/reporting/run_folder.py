"""What `egl-fast simulate` leaves behind: the tables of a run, checked for what a report needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from egl_fast.display import shown
from egl_fast.errors import ReportError, one_line
from egl_fast.evaluation.table_columns import PICKS, RESULTS, RESULTS_BY, TEST_UTTERANCES

if TYPE_CHECKING:
    import polars as pl

#: What no report reads.
_NOT_READ = ("valid_loss", "ctc_loss_per_char", "epochs")
#: Columns in which CSV cannot tell an empty string from a missing one.
_MAY_BE_EMPTY = ("strategy", "query", "value")

_MAX_CONFIG = 200_000


@dataclass(frozen=True)
class RunFolder:
    """The tables of a simulation.

    Attributes:
        path: the folder.
        results: a row for each point of the evaluation: strategy, query, seed, what was labeled,
            how the trained model did.
        test_utterances: a row for each test utterance and training run.
        picks: a row for each picked utterance, in the order of (round, rank) for each strategy,
            mode and seed: a budget of n is the first n. None where there is no such table.
        scores: the pool's scores by the base model, a file for each seed that has one.
        config: the configuration's text, or None.
        results_by: errors by the values of a key; None where the run tells none apart.
    """

    path: Path
    results: pl.DataFrame
    test_utterances: pl.DataFrame
    picks: pl.DataFrame | None
    scores: dict[int, Path]
    config: str | None
    results_by: pl.DataFrame | None = None


def read_run_folder(path: str | Path) -> RunFolder:
    """The tables of a run folder.

    Args:
        path: the folder that `egl-fast simulate` was given.

    Raises:
        ReportError: there is no such folder; a table is missing, lacks a column, or holds values
            that do not belong there. The message says which command makes it.
    """
    path = Path(path)
    if not path.is_dir():
        if path.is_file():
            raise ReportError(
                f"run {path}: is a file, not a run folder; for scores or picks, give --scores FILE"
            )
        raise ReportError(f"run {path}: no such folder")
    results = _read_table(path, "results", RESULTS)
    command = f"`egl-fast simulate --config FILE --run-dir {path}`"
    if results is None or results.is_empty():
        raise ReportError(f"run {path}: holds no results; {command} makes them")
    test_utterances = _read_table(path, "test_utterances", TEST_UTTERANCES)
    if results.filter(results["strategy"] != "").is_empty():
        raise ReportError(
            f"run {path}: holds no results of any strategy yet; wait until `egl-fast simulate` has "
            "finished some"
        )
    if test_utterances is None or test_utterances.is_empty():
        raise ReportError(
            f"run {path}: holds no test_utterances.parquet, from which the intervals are made; "
            f"{command} writes it"
        )
    return RunFolder(
        path=path,
        results=results,
        test_utterances=test_utterances,
        picks=_read_table(path, "picks", PICKS),
        scores=_scores(path / "scores"),
        config=_config(path / "config.toml"),
        results_by=_read_table(path, "results_by", RESULTS_BY),
    )


def _scores(folder: Path) -> dict[int, Path]:
    """Seed -> its file; earlier versions of `egl-fast simulate` wrote JSON Lines."""
    found = {}
    for suffix in (".jsonl", ".parquet"):  # where both are there, the second
        for file in folder.glob(f"seed-*{suffix}"):
            if match := re.fullmatch(r"seed-(\d+)", file.stem):
                found[int(match[1])] = file
    return dict(sorted(found.items()))


def _config(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text if len(text) <= _MAX_CONFIG else f"{text[:_MAX_CONFIG]}\n..."


def _read_table(folder: Path, name: str, columns: dict[str, str]) -> pl.DataFrame | None:
    """The table as Parquet or else CSV, its columns checked; None without one."""
    import polars as pl

    for suffix, read in ((".parquet", pl.read_parquet), (".csv", pl.read_csv)):
        file = folder / f"{name}{suffix}"
        if not file.is_file():
            continue
        try:
            table = read(file)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ReportError(f"table {file}: cannot be read ({one_line(error)})") from None
        columns = {name: kind for name, kind in columns.items() if name not in _NOT_READ}
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise ReportError(
                f"table {file}: lacks the column {missing[0]!r}; is it one that "
                "`egl-fast simulate` wrote?"
            )
        return table.with_columns(
            _checked(table[column], kind, f"table {file}") for column, kind in columns.items()
        )
    return None


def _checked(column: pl.Series, kind: str, where: str) -> pl.Series:
    """The column in its type; a value that does not fit is an error that names the row."""
    import polars as pl

    types = {"text": (pl.String(), "text"), "whole": (pl.Int64(), "a whole number")}
    dtype, what = types.get(kind, (pl.Float64(), "a number of 0 or more"))
    if column.dtype.is_nested():
        raise ReportError(f"{where}: {column.name!r} holds lists, not {what}")
    cast: pl.Series = column.cast(dtype, strict=False)
    if column.name in _MAY_BE_EMPTY:
        cast = cast.fill_null("")
    fits = cast.is_not_null()
    if kind not in types:
        fits &= (cast.is_finite() & (cast >= 0)).fill_null(False)
    if not fits.all():
        row = int(fits.arg_min() or 0)
        raise ReportError(
            f"{where}, row {row + 1}: {column.name!r} is {shown(str(column[row]))}, not "
            f"{what}; `egl-fast simulate` with the same run folder writes it again"
        )
    return cast
