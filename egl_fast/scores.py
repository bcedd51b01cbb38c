"""Reading a scores file, with its metadata and embeddings."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy.typing as npt

from egl_fast.data.audio_folder import read_metadata
from egl_fast.data.json_reading import (
    decoded_lines,
    from_start,
    json_lines,
    json_object,
    rereadable,
)
from egl_fast.data.manifest import seconds_of
from egl_fast.data.parquet_records import record_lines
from egl_fast.data.unique_ids import without_repeats
from egl_fast.embeddings.file import embeddings_path, load_embeddings
from egl_fast.errors import ManifestError
from egl_fast.files import copies
from egl_fast.files.addresses import Address, place_of
from egl_fast.records import STRATEGIES
from egl_fast.selection import Scores
from egl_fast.selection.columns import Columns
from egl_fast.selection.gate import likeness_in
from egl_fast.warning import warn

#: Endings of what is kept beside scores, which a shell completes to as well.
_BESIDE = (".meta.json", ".errors.jsonl", ".embeddings.npy", ".trusted.npy", ".journal")
#: What to do about a file that holds no scores.
REMEDY = "give what `egl-fast score` wrote, or what `select` or `query` wrote as JSON Lines"


class ScoredPool:
    """A scores file, or standard input ("-"), that is read as often as needed.

    Raises ``ManifestError`` if it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._source = "scores from standard input" if path == "-" else f"scores {path}"
        for ending in _BESIDE:
            if path.endswith(ending):
                raise ManifestError(
                    f"{self._source}: belongs to the scores, but holds none; give "
                    f"{path.removesuffix(ending)}"
                )
        self._file = rereadable(path, self._source)

    def __enter__(self) -> ScoredPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All records in order, without blank lines.

        Raises:
            ManifestError: there is none, or a line is not a record of an utterance of its own.
        """

        def named() -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
            for _, where, record in json_lines(self._lines(), self._source, remedy=REMEDY):
                _refuse_other_records(record, where)
                yield record["id"], (where, record)

        def repeated(
            identity: str, first: tuple[str, dict[str, Any]], again: tuple[str, dict[str, Any]]
        ) -> ManifestError:
            before = first[0].removeprefix(f"{self._source}, ")
            return ManifestError(
                f"{again[0]}: id {identity!r} is already that of {before}; a recording need be "
                "transcribed only once: remove one of the two"
            )

        is_empty = True
        for _, record in without_repeats(named, repeated):
            is_empty = False
            yield record
        if is_empty:
            raise ManifestError(
                f"{self._source}: contains no records; write it with `egl-fast score`"
            )

    def columns(self, keys: Iterable[str]) -> Columns:
        """The records as far as they are needed: these keys, and any other at a second reading."""
        return Columns(lambda: self, keys, others=STRATEGIES)

    def records_at(self, places: Collection[int], ids: Sequence[str]) -> list[dict[str, Any]]:
        """Some records, whole.

        Args:
            places: where, in the order of the file.
            ids: of all records.

        Raises:
            ManifestError: the file has changed since it was read.
        """
        wanted, last = set(places), max(places, default=-1)
        found: dict[int, dict[str, Any]] = {}
        with suppress(ManifestError):
            lines = islice(decoded_lines(self._lines(), self._source), last + 1)
            for place, (_, text, where) in enumerate(lines):
                if place in wanted:
                    record = json_object(text, where)
                    if record.get("id") != ids[place]:
                        break
                    # Each line has its own copy of every key.
                    found[place] = {sys.intern(key): value for key, value in record.items()}
        if len(found) < len(wanted):
            raise ManifestError(f"{self._source}: changed while it was being read")
        return [found[place] for place in places]

    def _lines(self) -> Iterator[bytes]:
        return record_lines(from_start(self._file), self._source)


def read_scores(path: str | Path) -> Scores:
    """The records of a scores file, with the files beside it.

    Args:
        path: what ``egl-fast score`` or ``egl-fast merge`` wrote, JSON Lines (gzipped or not) or
            Parquet, on a disk or at a URL; or "-" for standard input.

    Returns:
        A sequence of the file's objects, with ``metadata`` and ``embeddings``: what
        ``egl_fast.select`` takes. ``egl_fast.records.from_json`` makes a ``ScoreRecord`` of one.

    Raises:
        ManifestError: the file is missing, empty, or no scores file; the message names the line.
        SelectionError: the embeddings beside it are damaged or belong to other scores, or
            scikit-learn is not installed.
    """
    place = place_of(path)
    if isinstance(place, Address):
        with copies.temporary(place) as copy:
            return read_scores(copy)  # which maps what it leaves on the disk
    path = str(path)
    with ScoredPool(path) as pool:
        records = list(pool)
    metadata = read_metadata(path)
    holds_typicality = any(record.get("typicality") is not None for record in records)
    embeddings = embeddings_beside(
        path, [record["id"] for record in records], metadata, holds_typicality=holds_typicality
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
        embeddings = load_embeddings(path, ids, likeness_in(metadata))
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
