"""Records in JSON Lines as they come; converted to Parquet at the end if the file's name asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egl_fast.data.archives import pyarrow_for
from egl_fast.data.jsonl import encoded_line, refuse_other_formats
from egl_fast.data.parquet_records import to_json_lines, to_parquet
from egl_fast.scoring.run.added_key import AddedKey
from egl_fast.scoring.run.stream import Stream


def records_stream(out: Path, added: AddedKey) -> Stream:
    """The scores file; at the end, each record gets its added key.

    Raises:
        OutputError: the name promises something other than JSON Lines or Parquet.
        MissingExtraError: it promises Parquet, and pyarrow is not installed.
    """
    if out.suffix.lower() != ".parquet":
        refuse_other_formats(out)
        return Stream("records", out, _line, complete=added.add)
    pyarrow_for(f"output {out}")

    def complete(partial: Path, num_records: int) -> None:
        added.add(partial, num_records)
        to_parquet(partial, num_records)

    return Stream("records", out, _line, complete=complete, restore=to_json_lines)


def _line(outcome: Mapping[str, Any]) -> bytes:
    return encoded_line(outcome["record"]) if "record" in outcome else b""
