"""Reading a scores file, with its metadata and embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from egl_fast.data.audio_folder import read_metadata
from egl_fast.data.json_reading import json_lines, open_lines
from egl_fast.data.manifest import seconds_of
from egl_fast.embeddings.file import embeddings_path, load_embeddings
from egl_fast.errors import ManifestError
from egl_fast.selection import Scores
from egl_fast.selection.gate import likeness_in
from egl_fast.warning import warn

#: What to do about a file that holds no scores.
REMEDY = "give what `egl-fast score` wrote, or what `select` or `query` wrote as JSON Lines"


def read_scores(path: str | Path) -> Scores:
    """The records of a scores file, with the files beside it.

    Args:
        path: what ``egl-fast score`` or ``egl-fast merge`` wrote, gzipped or not; or "-" for
            standard input.

    Returns:
        A sequence of the file's objects, with ``metadata`` and ``embeddings``: what
        ``egl_fast.select`` takes. ``egl_fast.records.from_json`` makes a ``ScoreRecord`` of one.

    Raises:
        ManifestError: the file is missing, empty, or no scores file; the message names the line.
        SelectionError: the embeddings beside it are damaged or belong to other scores, or
            scikit-learn is not installed.
    """
    path = str(path)
    source = "scores from standard input" if path == "-" else f"scores {path}"
    records: list[dict[str, Any]] = []
    first_line: dict[str, int] = {}
    with open_lines(path, source) as lines:
        for number, where, record in json_lines(lines, source, remedy=REMEDY):
            _refuse_other_records(record, where)
            identity = record["id"]
            if identity in first_line:
                raise ManifestError(
                    f"{where}: id {identity!r} is already on line {first_line[identity]}; "
                    "a recording need be transcribed only once: remove one of the lines"
                )
            first_line[identity] = number
            records.append(record)
    if not records:
        raise ManifestError(f"{source}: contains no records; write it with `egl-fast score`")
    metadata = read_metadata(path)
    holds_typicality = any(record.get("typicality") is not None for record in records)
    embeddings = embeddings_beside(
        path, list(first_line), metadata, holds_typicality=holds_typicality
    )
    return Scores(records, metadata, embeddings)


def embeddings_beside(
    path: str, ids: Sequence[str], metadata: Mapping[str, Any], *, holds_typicality: bool
) -> npt.NDArray[Any] | None:
    """The embeddings of a scores file, [n, d], None if there are none; with warnings.

    Args:
        path: the scores file, or "-".
        ids: of its records.
        metadata: what is told of it.
        holds_typicality: whether a record does, so that there ought to be embeddings.

    Raises:
        SelectionError: see ``load_embeddings``.
    """
    source = "scores from standard input" if path == "-" else f"scores {path}"
    embeddings = None
    if path != "-":
        hashed = likeness_in(metadata).get("ids_sha256")
        embeddings = load_embeddings(path, ids, ids_sha256=hashed)
    if embeddings is None and holds_typicality:
        missing = "embeddings" if path == "-" else embeddings_path(path).name
        warn(
            f"{source}: no {missing} beside them: copies are not recognized, and what is left out "
            "is one group"
        )
    other = not_of_one_pool(metadata, len(ids))
    if other is not None:
        warn(f"{source}: {other}")
    return embeddings


def not_of_one_pool(metadata: Mapping[str, Any], num_records: int) -> str | None:
    """Why records are not all of a pool, as far as their metadata tell; None if they may be.

    Args:
        metadata: of the scores file, or of a selection.
        num_records: how many there are in the file.
    """
    count = metadata.get("num_picks", metadata.get("num_scored"))  # the former in a selection's
    if type(count) is int and count != num_records:
        return (
            f"their .meta.json tells of {count:,} records, but there are {num_records:,}: the file "
            "was filtered or joined, and what it tells may not fit; take what `egl-fast score` or "
            "`merge` wrote"
        )
    shard = metadata.get("shard")
    if isinstance(shard, str):
        return (
            f"these are the scores of shard {shard} alone; for the whole pool, put the shards "
            "together with `egl-fast merge` first"
        )
    return None


def _refuse_other_records(record: dict[str, Any], where: str) -> None:
    if not isinstance(record.get("id"), str):
        raise ManifestError(f"{where}: has no 'id', so it is no score; {REMEDY}")
    seconds_of(record, "duration", where)
