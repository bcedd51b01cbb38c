"""Results of trainings: a JSON file each while they come in, one Parquet file to keep.

    python experiments/adaptation/results.py runs/adaptation/units \
        --scores runs/adaptation/scores.jsonl --out experiments/results/adaptation

packs both. ``run.py`` does no training again that is in the packed file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl

#: Fields of a result, as ``run.py`` writes it.
_SCHEMA = {
    "draw": pl.Int16,
    "strategy": pl.String,
    "cer": pl.Float64,
    "wer": pl.Float64,
    "picks": pl.List(pl.String),
    "junk": pl.Int16,
    "rejected": pl.Int16,
    "seconds": pl.Float64,
    "wall_seconds": pl.Float64,
    "char_edits": pl.List(pl.Int16),
    "word_edits": pl.List(pl.Int16),
}


def packed(folder: Path) -> list[dict[str, Any]]:
    """The results of the packed file; none if there is no such file."""
    path = folder / "trainings.parquet"
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
    parser.add_argument("units", type=Path)
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = {(one["draw"], one["strategy"]): one for one in packed(args.out)}
    found |= {(one["draw"], one["strategy"]): one for one in unpacked(args.units)}
    rows = [found[key] for key in sorted(found)]
    table = pl.DataFrame(rows, schema=_SCHEMA)
    table.write_parquet(args.out / "trainings.parquet", compression="zstd", compression_level=19)
    if args.scores is not None:
        scores = pl.read_ndjson(args.scores, infer_schema_length=None)
        scores.drop("random").write_parquet(
            args.out / "scores.parquet", compression="zstd", compression_level=19
        )


if __name__ == "__main__":
    main()
