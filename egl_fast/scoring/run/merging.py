"""Merges the scores of shards in the manifest's order, as if one run had made them.

Every shard's files are in that order already, so only one line of each is in memory, however many
and however long they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from egl_fast.data.manifest import Utterance
from egl_fast.data.parquet_records import record_lines
from egl_fast.data.strict_json import json_value
from egl_fast.embeddings.file import embeddings_path
from egl_fast.errors import EglError, ManifestError, one_line
from egl_fast.files.arrays import read_array
from egl_fast.files.run_settings import changed_settings
from egl_fast.records import from_json
from egl_fast.scoring.run.outcome import WINDOW, Outcome

#: Ids that a message names.
_NAMED = 3


def metadata_of(scores: Path) -> dict[str, Any]:
    """The content of ``SCORES.meta.json``.

    Raises:
        ManifestError: the scores are not complete, or their metadata is missing or damaged.
    """
    if not scores.exists() and Path(f"{scores}.journal").exists():
        raise ManifestError(f"shard {scores}: is not complete; finish it with score --resume")
    path = Path(f"{scores}.meta.json")
    try:
        found = json_value(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"shard {scores}: {path.name} cannot be read ({one_line(error)}); give what "
            "`egl-fast score --out` wrote, with the files beside it"
        ) from None
    return found


def settings_in(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide scores, of a run's metadata; see ``ResumableScores.begin``."""
    names = list(metadata)
    own = {key: metadata[key] for key in names[: names.index("versions")] if key != "shard"}
    versions = {key: metadata["versions"].get(key) for key in ("egl_fast", "torch")}
    trusted = metadata.get("trusted_sha256")
    return {"shard": None, **own, "versions": versions, "trusted_sha256": trusted}


def shared_settings(shards: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of all shards, given the metadata of each.

    Raises:
        ManifestError: they differ, or are those of something else.
    """
    for path, metadata in shards.items():
        if "versions" in metadata and metadata.get("shard") is None:
            raise ManifestError(
                f"shard {path}: holds the scores of a whole pool, not of a part of it (`score "
                "--shard`), so there is nothing to merge; score several pools together: `score "
                "--pool A --pool B`"
            )
    first, *others = shards
    try:
        settings = settings_in(shards[first])
        for other in others:
            found = changed_settings(settings, settings_in(shards[other]))
            if found:
                raise ManifestError(
                    f"shard {other}: was scored otherwise than {first}: {'; '.join(found)}"
                )
    except (ValueError, AttributeError):
        raise ManifestError("shards: their metadata is not that of scores") from None
    return settings


@dataclass
class _Reader:
    """The lines of a shard, in the manifest's order."""

    path: Path
    scores: Iterator[bytes]
    errors: Iterator[bytes] | None
    embeddings: npt.NDArray[np.float32] | None
    row: int = 0
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)  # one of each file

    def advance(self, file: Iterator[bytes]) -> str | None:
        line = next(file, None)
        if line is None:
            return None
        try:
            head: dict[str, Any] = json_value(line)
            identity: str = head["id"]
        except (ValueError, KeyError, TypeError):
            raise ManifestError(f"shard {self.path}: has a line that is no score") from None
        self.heads[identity] = head
        return identity

    def take(
        self, identity: str, position: int, utterance: Utterance
    ) -> tuple[Outcome, Iterator[bytes]]:
        line = self.heads.pop(identity)
        if "error" in line and "egl" not in line:
            assert self.errors is not None
            return Outcome(position, utterance, EglError(line["error"])), self.errors
        embedding = None
        if self.embeddings is not None:
            embedding = torch.from_numpy(np.array(self.embeddings[self.row]))
            self.row += 1
        try:
            return Outcome(position, utterance, from_json(line), embedding), self.scores
        except ValueError as error:
            raise ManifestError(f"shard {self.path}: {identity!r}: {error}") from None


class Merging:
    """Outcomes of a whole pool, read from shards.

    Args:
        shards: their scores files, in any order.
        utterances: the pool's.
        embeddings: whether there are embeddings, too.
    """

    def __init__(
        self, shards: Sequence[Path], utterances: Sequence[Utterance], *, embeddings: bool
    ) -> None:
        self._shards = shards
        self._utterances = utterances
        self._with_embeddings = embeddings
        #: Faults of the shards, complete once all outcomes are read.
        self.gaps = _Named()
        self.duplicates = _Named()
        self.strangers = _Named()

    def windows(self) -> Iterator[list[Outcome]]:
        """The outcomes that are there, in the pool's order, a window at a time."""
        with ExitStack() as stack:
            owners: dict[str, _Reader] = {}

            def advance(reader: _Reader, file: Iterator[bytes]) -> None:
                while (identity := reader.advance(file)) is not None and identity in owners:
                    del reader.heads[identity]
                    if file is reader.scores:
                        reader.row += 1
                    self.duplicates.add(f"{identity!r} in {owners[identity].path}, {reader.path}")
                if identity is not None:
                    owners[identity] = reader

            for path in self._shards:
                reader = self._open(path, stack)
                for file in (reader.scores, reader.errors):
                    if file is not None:
                        advance(reader, file)
            window: list[Outcome] = []
            for position, utterance in enumerate(self._utterances):
                owner = owners.pop(utterance.id, None)
                if owner is None:
                    self.gaps.add(repr(utterance.id))
                else:
                    outcome, file = owner.take(utterance.id, position, utterance)
                    window.append(outcome)
                    advance(owner, file)
                if (position + 1) % WINDOW == 0 and window:
                    yield window
                    window = []
            if window:
                yield window
            for identity, owner in owners.items():
                self.strangers.add(f"{identity!r} in {owner.path}")

    def refuse_faults(self) -> None:
        """Raise ``ManifestError`` if the outcomes read are not one for each of the pool."""
        faults = [
            f"{found.count} {what}: {found}"
            for found, what in (
                (self.strangers, "not in the pool, or out of order"),
                (self.duplicates, "twice"),
                (self.gaps, "missing"),
            )
            if found.count
        ]
        if faults:
            raise ManifestError(f"shards: {'; '.join(faults)}")

    def _open(self, path: Path, stack: ExitStack) -> _Reader:
        try:
            scores = record_lines(stack.enter_context(path.open("rb")), f"shard {path}")
            beside = Path(f"{path}.errors.jsonl")
            errors = stack.enter_context(beside.open("rb")) if beside.exists() else None
            rows = None
            if self._with_embeddings:
                rows = read_array(embeddings_path(path))
        except (OSError, ValueError) as error:
            raise ManifestError(f"shard {path}: cannot be read ({one_line(error)})") from None
        return _Reader(path, scores, errors, rows)


@dataclass
class _Named:
    """A number of things, of which the first few are named."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        self.count += 1
        if self.count <= _NAMED:
            self.first.append(what)

    def __str__(self) -> str:
        return ", ".join(self.first) + (", ..." if self.count > _NAMED else "")
