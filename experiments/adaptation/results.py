"""Results of trainings: a JSON file each while they come in, one Parquet file to keep.

    python experiments/adaptation/results.py runs/adaptation/units \
        --out experiments/results/adaptation --scores runs/adaptation/scores.jsonl

packs the trainings of each pool, and the scores. ``run.py`` does no training again that is packed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

#: Of each test recording: edits, and the length of what was said.
ERRORS = ("char_edits", "chars", "word_edits", "words")

#: Fields of a result, as ``run.py`` writes it.
_SCHEMA = {
    "draw": pl.Int16,
    "strategy": pl.String,
    "picks": pl.List(pl.String),
    "junk": pl.Int16,
    "rejected": pl.Int16,
    "seconds": pl.Float64,
    "wall_seconds": pl.Float64,
    "corpora": pl.List(pl.String),
    **dict.fromkeys(ERRORS, pl.List(pl.Int16)),
}


def shares_of_error(result: Mapping[str, Any], unit: str = "char") -> np.ndarray:
    """[number of test recordings]: what each adds to the error rate.

    The error rate is the mean over corpora of each corpus' edits over its length, so that many
    short recordings of one corpus do not drown the rest.
    """
    edits, lengths = (np.array(result[key], float) for key in (f"{unit}_edits", f"{unit}s"))
    corpora = np.array(result["corpora"])
    names = np.unique(corpora)
    for name in names:
        edits[corpora == name] /= lengths[corpora == name].sum() * len(names)
    return edits


def error_rate(result: Mapping[str, Any], unit: str = "char") -> float:
    """Mean over corpora of the character (``char``) or word (``word``) error rate."""
    return float(shares_of_error(result, unit).sum())


def packed(folder: Path, pool: str) -> list[dict[str, Any]]:
    """The packed results of a pool; none if there are none."""
    path = folder / f"{pool}.parquet"
    return pl.read_parquet(path).to_dicts() if path.exists() else []


def unpacked(folder: Path) -> list[dict[str, Any]]:
    """The results of the JSON files in a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def scores_of(folder: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """Score records by id: those just made, or else the packed ones."""
    path = cache / "scores.jsonl"
    if path.exists():
        records = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        records = pl.read_parquet(folder / "scores.parquet").to_dicts()
    return {record["id"]: record for record in records}


def main() -> None:
    """Pack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("units", type=Path, help="its folders are named after pools")
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for units in filter(Path.is_dir, sorted(args.units.iterdir())):
        found = [*packed(args.out, units.name), *unpacked(units)]
        by_key = {(one["draw"], one["strategy"]): one for one in found}
        _write(
            pl.DataFrame([by_key[key] for key in sorted(by_key)], schema=_SCHEMA),
            args.out / f"{units.name}.parquet",
        )
    if args.scores is not None:
        scores = pl.read_ndjson(args.scores, infer_schema_length=None)
        _write(scores.drop("random"), args.out / "scores.parquet")


def _write(table: pl.DataFrame, path: Path) -> None:
    table.write_parquet(path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
