"""The tables of a run folder, made from units; the columns are described in docs/simulate.md."""

from __future__ import annotations

import importlib
import io
import json
import os
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from egl_fast.errors import MissingExtraError
from egl_fast.evaluation.simulation.config import SimulationConfig, resolved
from egl_fast.evaluation.simulation.plan import Expansion, Plan, Point
from egl_fast.evaluation.simulation.sets import total_seconds
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.table_columns import PICKS, RESULTS, TEST_UTTERANCES
from egl_fast.files import atomic

if TYPE_CHECKING:
    import polars

#: Picks of each strategy that keep their hypotheses: as many as a report can be asked to show.
NUM_HEARD: Final = 50


def require_table_packages() -> None:
    """Find out at once, rather than after hours, that a package is missing.

    Raises:
        MissingExtraError: it is.
    """
    for name in ("polars", "tomli_w"):
        _package(name)


def config_text(config: SimulationConfig) -> str:
    """``config.toml``: the configuration as resolved, which can be run again."""
    text: str = _package("tomli_w").dumps(resolved(config))
    return text


def write_tables(plan: Plan, expansion: Expansion, store: UnitStore, run_dir: Path) -> None:
    """Everything in the run folder that follows from the units done so far.

    Raises:
        OutputError: a file cannot be written, or a unit's is damaged.
    """
    atomic.make_folder(run_dir)
    results = results_table(plan, expansion, store)
    atomic.write_bytes(run_dir / "results.csv", results.write_csv().encode())
    _write_parquet(results, run_dir / "results.parquet")
    _write_parquet(test_table(expansion, store), run_dir / "test_utterances.parquet")
    picks = picks_table(plan, expansion, store)
    _write_parquet(picks, run_dir / "picks.parquet")
    atomic.make_folder(run_dir / "scores")
    paths = {seed: run_dir / "scores" / f"seed-{seed}.parquet" for seed in expansion.base_scores}
    for path in (run_dir / "scores").glob("seed-*"):
        # Of the folder's run before, with another configuration or an earlier version.
        if path.suffix in (".parquet", ".jsonl") and path not in paths.values():
            atomic.remove(path)
    for seed, unit in expansion.base_scores.items():
        lines = _scored_pool(plan, store.scores(unit), run_dir / "scores")
        heard = picks.filter((picks["seed"] == seed) & (picks["rank"] <= NUM_HEARD))
        _write_parquet(scores_table(lines, set(heard["id"])), paths[seed])


def results_table(plan: Plan, expansion: Expansion, store: UnitStore) -> polars.DataFrame:
    """A row a point that is done, in the plan's order."""
    rows = [_result(plan, point, store) for point in expansion.points if point.unit is not None]
    return _frame({name: [row[name] for row in rows] for name in RESULTS}, RESULTS)


def test_table(expansion: Expansion, store: UnitStore) -> polars.DataFrame:
    """A row a training and test utterance."""
    names = dict.fromkeys(p.unit.name for p in expansion.points if p.unit is not None)
    columns: dict[str, list[Any]] = {name: [] for name in TEST_UTTERANCES}
    for name in names:
        numbers = store.test_numbers(name)
        columns["unit"] += [name] * len(numbers["id"])
        for column, values in numbers.items():
            columns[column] += map(_utf8, values) if column == "id" else values
    return _frame(columns, TEST_UTTERANCES)


def picks_table(plan: Plan, expansion: Expansion, store: UnitStore) -> polars.DataFrame:
    """A row per pick, of the largest query of each strategy, mode and seed known so far."""
    last: dict[tuple[str, str, int], list[Point]] = {}
    for point in expansion.points:
        if point.strategy and point.picks is not None:
            last.setdefault((point.strategy, point.mode, point.seed), []).append(point)
    rows = []
    for key, points in last.items():
        seen: set[int] = set()
        for point in points:
            for index in point.picks or ():
                if index not in seen:
                    seen.add(index)
                    identity = _utf8(plan.pool[index].utterance.id)
                    rows.append((*key, point.round, len(seen), identity))
    columns = zip(*rows, strict=True) if rows else ((),) * len(PICKS)
    return _frame(dict(zip(PICKS, columns, strict=True)), PICKS)


def scores_table(lines: Sequence[Mapping[str, Any]], heard: Set[str]) -> polars.DataFrame:
    """A row per recording of the pool, a column per key.

    Args:
        lines: each recording's manifest keys, scores and controls.
        heard: ids of those whose hypotheses are kept, without labels and standard errors, which
            no report shows.
    """
    pl = _package("polars")
    keys = dict.fromkeys(key for line in lines for key in line if key != "hypotheses")
    columns = [_column(_utf8(key), [line.get(key) for line in lines]) for key in keys]
    kept = {"text": pl.String, "log_prob": pl.Float64, "sq_grad_norm": pl.Float64}
    hypotheses = [
        [
            {**{key: one[key] for key in kept}, "text": _utf8(one["text"])}
            for one in line.get("hypotheses", ())
        ]
        if _utf8(line["id"]) in heard
        else None
        for line in lines
    ]
    columns.append(pl.Series("hypotheses", hypotheses, dtype=pl.List(pl.Struct(kept))))
    frame: polars.DataFrame = pl.DataFrame(columns)
    return frame


def _column(name: str, values: Sequence[Any]) -> polars.Series:
    """Numbers or booleans, where all values are; else text, JSON for what is not a string."""
    pl = _package("polars")
    kinds = {type(value) for value in values if value is not None}
    largest = max((abs(value) for value in values if type(value) is int), default=0)
    if kinds == {int} and largest < 2**63:
        dtype = pl.Int64
    elif kinds <= {int, float} and largest <= 2**53:  # which floats hold exactly
        dtype = pl.Float64
    elif kinds == {bool}:
        dtype = pl.Boolean
    else:
        dtype = pl.String
        values = [
            value
            if value is None
            else _utf8(value if isinstance(value, str) else json.dumps(value))
            for value in values
        ]
    column: polars.Series = pl.Series(name, values, dtype=dtype)
    return column


def _utf8(text: str) -> str:
    """Half of a surrogate pair, as manifests may hold it, has no UTF-8 but an escape."""
    return text.encode("utf-8", "backslashreplace").decode()


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
        # Rounded, because the sum's last digits depend on the order it was made in.
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


def _scored_pool(
    plan: Plan, records: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Paths hold from the folder, so that it may be shared with its audio."""
    lines = []
    real_folder = os.path.realpath(folder)
    for member, record in zip(plan.pool, records, strict=True):
        utterance = member.utterance
        audio = os.path.relpath(utterance.audio_path.resolve(), real_folder)
        # Hypotheses in the manifest are those of another scoring.
        others = {**utterance.record, "hypotheses": ()}
        lines.append({**others, **record, "audio_filepath": Path(audio).as_posix()})
    return lines


def _frame(columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str]) -> polars.DataFrame:
    pl = _package("polars")
    types = {"text": pl.String, "whole": pl.Int64, "count": pl.Int64}
    schema = {name: types.get(kind, pl.Float64) for name, kind in kinds.items()}
    frame: polars.DataFrame = pl.DataFrame(columns, schema=schema)
    return frame


def _write_parquet(frame: polars.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    atomic.write_bytes(path, buffer.getvalue())


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"simulate needs the package {name}: pip install 'egl-fast[simulate]'"
        ) from None
