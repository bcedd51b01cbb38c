"""Embeddings beside a scores file: ``SCORES.embeddings.npy``, a row for each record in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.errors import SelectionError


def embeddings_path(scores: str | Path) -> Path:
    """Where the embeddings of a scores file are."""
    return Path(f"{scores}.embeddings.npy")


def load_embeddings(scores: str | Path, num_records: int) -> npt.NDArray[Any] | None:
    """The embeddings of a scores file, [n, d], mapped into memory; None if none were kept.

    Raises:
        SelectionError: the file is damaged, or not that of these records.
    """
    path = embeddings_path(scores)
    if not path.is_file():
        return None
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SelectionError(
            f"embeddings {path}: cannot be read ({error}); score the pool again"
        ) from None
    if found.ndim != 2 or len(found) != num_records:
        raise SelectionError(
            f"embeddings {path}: has the shape {list(found.shape)} for {num_records} records; it "
            "belongs to another scores file: move it away, or score the pool again"
        )
    return found
