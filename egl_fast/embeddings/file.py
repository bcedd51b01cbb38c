"""Embeddings beside a scores file: ``SCORES.embeddings.npy``, a row for each record in order."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.embeddings.spectrum import SIZE, without_spectrum
from egl_fast.errors import SelectionError, one_line

#: Rows that are checked at once.
_BLOCK = 4096


def embeddings_path(scores: str | Path) -> Path:
    """The path of the embeddings of a scores file."""
    return Path(f"{scores}.embeddings.npy")


def hash_of_ids(ids: Iterable[str]) -> str:
    """What tells records in their order from others, or from the same in another order."""
    digest = hashlib.sha256()
    separator = ""
    for identity in ids:
        digest.update(f"{separator}{json.dumps(identity)}".encode())
        separator = "\n"
    return digest.hexdigest()


def load_embeddings(
    scores: str | Path, ids: Sequence[str], *, ids_sha256: str | None = None
) -> npt.NDArray[Any] | None:
    """The embeddings of a scores file, [n, d], mapped into memory; None if none were kept.

    They come without the spectra that the file holds behind them: only typicality looks at those.

    Args:
        scores: the scores file.
        ids: of its records.
        ids_sha256: ``hash_of_ids`` when the embeddings were made; None: unknown.

    Raises:
        SelectionError: the file is damaged, or not that of these records in this order, or
            scikit-learn is not installed.
    """
    path = embeddings_path(scores)
    if not path.is_file():
        return None
    if importlib.util.find_spec("sklearn") is None:
        raise SelectionError(
            f"embeddings {path}: scikit-learn, which compares them, is not installed; install it "
            "with: pip install scikit-learn, or move the embeddings away"
        )
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SelectionError(
            f"embeddings {path}: cannot be read ({one_line(error)}); score the pool again"
        ) from None
    if found.ndim != 2 or len(found) != len(ids) or found.shape[1] <= SIZE:
        raise SelectionError(
            f"embeddings {path}: has the shape {list(found.shape)} for {len(ids)} records; it "
            "belongs to another scores file: move it away, or score the pool again"
        )
    if ids_sha256 is not None and hash_of_ids(ids) != ids_sha256:
        raise SelectionError(
            f"embeddings {path}: belongs to other records, or to these in another order; give the "
            "scores file as `egl-fast score` wrote it, or move the embeddings away"
        )
    blocks = (found[start : start + _BLOCK] for start in range(0, len(found), _BLOCK))
    if not all(np.isfinite(block).all() for block in blocks):
        raise SelectionError(f"embeddings {path}: holds NaN or infinity; score the pool again")
    return without_spectrum(found)
