"""Embeddings as they come, in a file that NumPy reads once it is complete."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.scoring.run.stream import Stream

#: Of NumPy's format 1.0 for any shape that occurs; zeros until the number of rows is known.
_HEADER_BYTES = 128
_BYTES_PER_VALUE = 4


def embedding_stream(path: Path) -> Stream:
    """Rows of float32, one for each scored recording, behind NumPy's header."""
    return Stream("embeddings", path, _row, prefix=bytes(_HEADER_BYTES), complete=_write_header)


def read_rows(path: Path, num_rows: int) -> npt.NDArray[np.float32]:
    """[n, d] of a file that has no header yet, mapped into memory."""
    size = path.stat().st_size - _HEADER_BYTES
    shape = (num_rows, size // max(1, num_rows * _BYTES_PER_VALUE))
    if shape[1] == 0:
        return np.zeros((num_rows, 0), np.float32)
    return np.memmap(path, dtype="<f4", mode="r", offset=_HEADER_BYTES, shape=shape)


def _row(outcome: Mapping[str, Any]) -> bytes:
    return base64.b64decode(outcome["embedding"]) if "record" in outcome else b""


def _write_header(path: Path, num_rows: int) -> None:
    shape = read_rows(path, num_rows).shape
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    assert len(header.getvalue()) == _HEADER_BYTES
    with open(path, "r+b") as file:
        file.write(header.getvalue())
        file.flush()
        os.fsync(file.fileno())
