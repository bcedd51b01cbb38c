"""Embeddings beside a scores file: ``SCORES.embeddings.npy``, a row for each record in order."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.embeddings.spectrum import SIZE, without_spectrum
from egl_fast.errors import SelectionError, one_line
from egl_fast.files.arrays import read_array

#: Rows that are checked at once.
_BLOCK = 4096


#: Reading all of a million would take seconds.
_HASHED_ROWS = 1000


def embeddings_path(scores: str | Path) -> Path:
    """The path of the embeddings of a scores file."""
    return Path(f"{scores}.embeddings.npy")


def hash_of_ids(ids: Iterable[str]) -> str:
    """A hash that identifies records in their order."""
    digest = hashlib.sha256()
    separator = ""
    for identity in ids:
        digest.update(f"{separator}{json.dumps(identity)}".encode())
        separator = "\n"
    return digest.hexdigest()


def hash_of_embeddings(rows: npt.NDArray[Any]) -> str:
    """A hash that identifies embeddings [n, d]: of their shape, and of rows spread over all."""
    digest = hashlib.sha256(repr(rows.shape).encode())
    places = np.linspace(0, len(rows) - 1, min(len(rows), _HASHED_ROWS)).astype(int)
    digest.update(np.ascontiguousarray(rows[places], dtype="<f4").tobytes())
    return digest.hexdigest()


def load_embeddings(
    scores: str | Path, ids: Sequence[str], likeness: Mapping[str, Any] | None = None
) -> npt.NDArray[Any] | None:
    """The embeddings of a scores file, [n, d], mapped into memory; None if none were kept.

    The spectra that follow them in the file are left out: only typicality uses those.

    Args:
        scores: the scores file.
        ids: of its records.
        likeness: the metadata of the scores about typicality, among them ``ids_sha256`` and
            ``embeddings_sha256``, if known.

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
        found = read_array(path)
    except (OSError, ValueError) as error:
        raise SelectionError(
            f"embeddings {path}: cannot be read ({one_line(error)}); score the pool again"
        ) from None
    if found.ndim != 2 or len(found) != len(ids) or found.shape[1] <= SIZE:
        raise SelectionError(
            f"embeddings {path}: has the shape {list(found.shape)} for {len(ids)} records; it "
            "belongs to another scores file: move it away, or score the pool again"
        )
    likeness = {} if likeness is None else likeness
    if "ids_sha256" in likeness and hash_of_ids(ids) != likeness["ids_sha256"]:
        raise SelectionError(
            f"embeddings {path}: belongs to other records, or to these in another order; give the "
            "scores file as `egl-fast score` wrote it, or move the embeddings away"
        )
    blocks = (found[start : start + _BLOCK] for start in range(0, len(found), _BLOCK))
    if not all(np.isfinite(block).all() for block in blocks):
        raise SelectionError(f"embeddings {path}: holds NaN or infinity; score the pool again")
    refuse_other_embeddings(path, found, likeness)
    return without_spectrum(found)


def refuse_other_embeddings(
    path: Path, rows: npt.NDArray[Any], likeness: Mapping[str, Any]
) -> None:
    """Raise ``SelectionError`` if embeddings are not those that the metadata describe."""
    known = likeness.get("embeddings_sha256")
    if known is not None and hash_of_embeddings(rows) != known:
        raise SelectionError(
            f"embeddings {path}: belongs to another scores file; put back the one that "
            "`egl-fast score` wrote, or score the pool again"
        )
