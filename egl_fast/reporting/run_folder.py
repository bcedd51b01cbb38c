"""What `egl-fast simulate` leaves behind: the tables of a run, checked for what a report needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from egl_fast.errors import ReportError, one_line

if TYPE_CHECKING:
    import polars as pl

_RESULTS_COLUMNS = (
    "strategy", "mode", "round", "seed", "query", "fraction", "num_labeled", "labeled_seconds",
    "pool_clips", "pool_seconds", "base_clips", "base_seconds", "unit", "ctc_loss", "cer", "wer",
)  # fmt: skip
_TEST_COLUMNS = (
    "unit", "id", "ctc_loss", "char_errors", "num_chars", "word_errors", "num_words",
)  # fmt: skip
_PICKS_COLUMNS = ("strategy", "mode", "seed", "round", "rank", "id")


@dataclass(frozen=True)
class RunFolder:
    """The tables of a simulation.

    Attributes:
        path: the folder.
        results: a row for each point of the evaluation: strategy, query, seed, what was labeled,
            how the trained model did.
        test_utterances: a row for each test utterance and training run.
        picks: a row for each picked utterance, in the order of (round, rank) for each strategy,
            mode and seed: a budget of n clips is the first n. None where there is no such table.
        scores: the pool's scores by the base model, a file for each seed that has one.
        config: the configuration's text, or None.
    """

    path: Path
    results: pl.DataFrame
    test_utterances: pl.DataFrame
    picks: pl.DataFrame | None
    scores: dict[int, Path]
    config: str | None


def read_run_folder(path: str | Path) -> RunFolder:
    """The tables of a run folder.

    Args:
        path: the folder that `egl-fast simulate` was given.

    Raises:
        ReportError: there is no such folder, a table is missing or lacks a column; the message
            says which command makes it.
    """
    path = Path(path)
    if not path.is_dir():
        hint = "; for a scores file give --scores FILE" if path.is_file() else ""
        raise ReportError(f"run {path}: no such folder{hint}")
    results = _read_table(path, "results", _RESULTS_COLUMNS)
    if results is None or results.is_empty():
        raise ReportError(
            f"run {path}: holds no results; `egl-fast simulate --config FILE --run-dir {path}` "
            "makes them"
        )
    test_utterances = _read_table(path, "test_utterances", _TEST_COLUMNS)
    if test_utterances is None:
        raise ReportError(
            f"run {path}: holds no test_utterances.parquet, from which the intervals are made; "
            f"`egl-fast simulate --config FILE --run-dir {path}` writes it"
        )
    config = path / "config.toml"
    return RunFolder(
        path=path,
        results=results,
        test_utterances=test_utterances,
        picks=_read_table(path, "picks", _PICKS_COLUMNS),
        scores={
            int(match[1]): file
            for file in sorted((path / "scores").glob("seed-*.jsonl"))
            if (match := re.fullmatch(r"seed-(\d+)\.jsonl", file.name))
        },
        config=config.read_text(encoding="utf-8") if config.is_file() else None,
    )


def _read_table(folder: Path, name: str, columns: tuple[str, ...]) -> pl.DataFrame | None:
    """The table as Parquet or else CSV, with no null in the columns named; None without one."""
    import polars as pl

    for suffix, read in ((".parquet", pl.read_parquet), (".csv", pl.read_csv)):
        file = folder / f"{name}{suffix}"
        if not file.is_file():
            continue
        try:
            table = read(file)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ReportError(f"table {file}: cannot be read ({one_line(error)})") from None
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise ReportError(
                f"table {file}: lacks the column {missing[0]!r}; is it one that "
                "`egl-fast simulate` wrote?"
            )
        # CSV knows no difference between an empty string and nothing.
        texts = [c for c in ("strategy", "query") if c in columns]
        return table.with_columns(pl.col(c).cast(pl.String).fill_null("") for c in texts)
    return None
