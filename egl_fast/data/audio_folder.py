"""What relative audio paths of a scores file start from, and paths that start elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from egl_fast.data.strict_json import json_value
from egl_fast.errors import ManifestError, one_line
from egl_fast.files.addresses import (
    Address,
    Place,
    is_absolute,
    is_url,
    joined,
    path_from,
    place_of,
)
from egl_fast.files.copies import folder_of
from egl_fast.files.remote import is_file


def audio_folder(scores: str, pool: str | None) -> Place | None:
    """The folder, or its URL, that relative audio paths of a scores file start from.

    Args:
        scores: the scores file, or "-" for standard input.
        pool: the manifest that was scored, if the user names it.

    Returns:
        The folder of that manifest: ``pool``, or the one that ``SCORES.meta.json`` names, or else
        (as after `egl-fast simulate`) of the scores file; None if unknown.

    Raises:
        ManifestError: the named manifest does not exist.
    """
    if pool is not None:
        place = place_of(pool)
        if not _is_there(place, f"--pool {pool}"):
            raise ManifestError(f"--pool {pool}: no such file")
        return place.parent
    if scores == "-":
        return None
    meta_path = Path(f"{scores}.meta.json")
    said = read_metadata(scores)
    named = said.get("pool")
    beside_scores = folder_of(Path(scores))
    if not isinstance(named, str):
        return beside_scores
    if is_url(named):
        folder = place_of(named).parent
        # Credentials are not written down; those of the scores lead to the same folder.
        return beside_scores if str(folder) == str(beside_scores) else folder
    there = meta_path.parent / named
    if there.is_dir():  # A source that is no manifest: all paths are absolute.
        return there
    if _is_manifest(there):
        return there.parent
    # Pool and scores may have moved together.
    beside = meta_path.parent / there.name
    if _is_manifest(beside):
        digest = hashlib.sha256(beside.read_bytes()).hexdigest()
        if digest == said.get("pool_sha256"):
            return beside.parent
    raise ManifestError(
        f"{meta_path}: names the pool {named}, which does not exist; give the manifest with --pool"
    )


def read_metadata(scores: str) -> dict[str, Any]:
    """What ``SCORES.meta.json`` holds; nothing if it does not exist or is damaged."""
    if scores == "-":
        return {}
    try:
        found = json_value(Path(f"{scores}.meta.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_there(place: Place, name: str) -> bool:
    try:
        return is_file(place)
    except OSError as error:
        raise ManifestError(f"{name}: cannot be read ({one_line(error)})") from None


def is_relative(record: Mapping[str, Any]) -> bool:
    """Whether a record has an audio path that starts from a folder unsaid."""
    audio = record.get("audio_filepath")
    return isinstance(audio, str) and not is_absolute(audio)


def move_audio_paths(records: Iterable[dict[str, Any]], old: Place, new: Place | None) -> None:
    """Make relative audio paths that start from folder ``old`` start from ``new``.

    If ``new`` is None, or one folder is on the disk and the other in a store, they become absolute.
    """
    if isinstance(old, Address):
        for record in filter(is_relative, records):
            place = joined(old, record["audio_filepath"])
            record["audio_filepath"] = (
                path_from(new, place) if isinstance(place, Address) else str(place)
            )
        return
    if isinstance(new, Address):
        new = None
    # In a folder that is a symbolic link, .. leads out of its target, so real paths are needed.
    new_folder = None if new is None else os.path.realpath(new)
    if os.path.realpath(old) == new_folder:
        return
    for record in filter(is_relative, records):
        folder, name = os.path.split(old / record["audio_filepath"])
        # Impossible paths, with a NUL or a lone surrogate, stay as they are.
        with suppress(ValueError):
            moved = os.path.join(os.path.realpath(folder), name)
            if new_folder is not None:
                moved = Path(os.path.relpath(moved, new_folder)).as_posix()
            record["audio_filepath"] = moved


def _is_manifest(path: Path) -> bool:
    # What was standard input then is something else now.
    return path.is_file() and not any(map(path.is_relative_to, ("/dev", "/proc")))
