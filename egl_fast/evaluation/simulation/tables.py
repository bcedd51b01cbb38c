"""The tables of a run folder, made from units; docs/simulate.md describes the columns."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Final

import polars as pl
import tomli_w

from egl_fast.dataframes import hypotheses_column, polars_column, utf8
from egl_fast.evaluation.simulation.config import SimulationConfig, resolved
from egl_fast.evaluation.simulation.groups import errors_by, picks_by
from egl_fast.evaluation.simulation.plan import Expansion, Plan, Point
from egl_fast.evaluation.simulation.sets import total_seconds
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.table_columns import (
    PICKS,
    PICKS_BY,
    RESULTS,
    RESULTS_BY,
    TEST_UTTERANCES,
)
from egl_fast.files import atomic

#: Picks of each strategy that keep their hypotheses: the most that a report can show.
NUM_HEARD: Final = 50


def config_text(config: SimulationConfig) -> str:
    """``config.toml``: the configuration as resolved, which can be run again."""
    return tomli_w.dumps(resolved(config))


def write_tables(plan: Plan, expansion: Expansion, store: UnitStore, run_dir: Path) -> None:
    """Everything in the run folder that follows from the units done so far.

    Raises:
        OutputError: a file cannot be written, or a unit's is damaged.
    """
    scores = run_dir / "scores"
    atomic.make_folder(scores)
    results = _frame(result_rows(plan, expansion, store), RESULTS)
    _write_both(results, run_dir / "results")
    if plan.config.by is None:
        for name in ("results_by", "picks_by"):  # of an earlier configuration of the folder
            for suffix in (".csv", ".parquet"):
                atomic.remove(run_dir / f"{name}{suffix}")
    else:
        errors = _frame(_escaped(errors_by(plan, expansion, store)), RESULTS_BY)
        _write_both(errors, run_dir / "results_by")
        _write_both(_frame(_escaped(picks_by(plan, expansion)), PICKS_BY), run_dir / "picks_by")
    _write_parquet(_test_table(expansion, store), run_dir / "test_utterances.parquet")
    picks = _picks_table(plan, expansion)
    _write_parquet(picks, run_dir / "picks.parquet")
    paths = {seed: scores / f"seed-{seed}.parquet" for seed in expansion.base_scores}
    for path in scores.glob("seed-*"):
        # From an earlier run in the folder, with another configuration, or by an earlier version.
        if path.suffix in (".parquet", ".jsonl") and path not in paths.values():
            atomic.remove(path)
    for seed, unit in expansion.base_scores.items():
        lines = _scored_pool(plan, store.scores(unit), scores)
        heard = picks.filter((picks["seed"] == seed) & (picks["rank"] <= NUM_HEARD))
        _write_parquet(scores_table(lines, set(heard["id"])), paths[seed])


def result_rows(plan: Plan, expansion: Expansion, store: UnitStore) -> list[dict[str, Any]]:
    """The rows of ``results.csv``: a point of the experiment each."""
    return [_result(plan, point, store) for point in expansion.points if point.unit is not None]


def _result(plan: Plan, point: Point, store: UnitStore) -> dict[str, Any]:
    assert point.unit is not None
    assert point.picks is not None
    result = store.result(point.unit.name)
    assert result is not None
    base = plan.sets["base"]
    return {
        "strategy": point.strategy,
        "mode": point.mode,
        "round": point.round,
        "seed": point.seed,
        "query": point.query,
        "fraction": len(point.picks) / len(plan.pool),
        "num_labeled": len(point.picks),
        # Rounded, because the sum's last digits depend on the order in which it was added up.
        "labeled_seconds": round(total_seconds(plan.pool[i] for i in sorted(point.picks)), 3),
        "pool_clips": len(plan.pool),
        "pool_seconds": round(total_seconds(plan.pool), 3),
        "base_clips": len(base),
        "base_seconds": round(total_seconds(base), 3),
        "unit": point.unit.name,
        "valid_loss": result["valid_loss"],
        **{key: result["test"][key] for key in ("ctc_loss", "ctc_loss_per_char", "cer", "wer")},
        "epochs": result["epochs"],
    }


def _test_table(expansion: Expansion, store: UnitStore) -> pl.DataFrame:
    """A row for each test utterance of each training."""
    names = dict.fromkeys(p.unit.name for p in expansion.points if p.unit is not None)
    columns: dict[str, list[Any]] = {name: [] for name in TEST_UTTERANCES}
    for name in names:
        numbers = store.test_numbers(name)
        columns["unit"] += [name] * len(numbers["id"])
        for column, values in numbers.items():
            columns[column] += map(utf8, values) if column == "id" else values
    return _frame(columns, TEST_UTTERANCES)


def _picks_table(plan: Plan, expansion: Expansion) -> pl.DataFrame:
    """A row per pick, of the largest query of each strategy, mode and seed known so far."""
    seen: dict[tuple[str, str, int], set[int]] = {}
    rows = []
    for point in expansion.points:
        key = (point.strategy, point.mode, point.seed)
        for index in (point.picks or ()) if point.strategy else ():
            picked = seen.setdefault(key, set())
            if index not in picked:
                picked.add(index)
                identity = utf8(plan.pool[index].utterance.id)
                rows.append((*key, point.round, len(picked), identity))
    return _frame(rows, PICKS)


def scores_table(lines: Sequence[Mapping[str, Any]], heard: Set[str]) -> pl.DataFrame:
    """A row per recording of the pool, a column per key.

    Args:
        lines: each recording's manifest keys, scores and controls.
        heard: ids of recordings whose hypotheses are kept, without labels and standard errors,
            which no report shows.
    """
    keys = dict.fromkeys(key for line in lines for key in line if key != "hypotheses")
    columns = [polars_column(key, [line.get(key) for line in lines]) for key in keys]
    hypotheses = [
        line.get("hypotheses", ()) if utf8(line["id"]) in heard else None for line in lines
    ]
    columns.append(hypotheses_column(hypotheses, keys=("text", "log_prob", "sq_grad_norm")))
    return pl.DataFrame(columns)


def _scored_pool(
    plan: Plan, records: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Paths are relative to the folder, so that it may be shared together with its audio."""
    lines = []
    real_folder = os.path.realpath(folder)
    for member, record in zip(plan.pool, records, strict=True):
        utterance = member.utterance
        audio = str(utterance.audio_path)
        if isinstance(utterance.audio_path, Path):
            audio = os.path.relpath(utterance.audio_path.resolve(), real_folder)
        # Hypotheses in the manifest are those of another scoring.
        others = {**utterance.record, "hypotheses": ()}
        lines.append({**others, **record, "audio_filepath": Path(audio).as_posix()})
    return lines


def _frame(data: Any, kinds: Mapping[str, str]) -> pl.DataFrame:
    types = {"text": pl.String(), "whole": pl.Int64(), "count": pl.Int64()}
    schema = {name: types.get(kind, pl.Float64()) for name, kind in kinds.items()}
    return pl.DataFrame(data, schema=schema, orient=None if isinstance(data, dict) else "row")


def _escaped(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "value": utf8(row["value"])} for row in rows]


def _write_both(frame: pl.DataFrame, path: Path) -> None:
    atomic.write_bytes(path.with_name(f"{path.name}.csv"), frame.write_csv().encode())
    _write_parquet(frame, path.with_name(f"{path.name}.parquet"))


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    atomic.write_bytes(path, buffer.getvalue())
