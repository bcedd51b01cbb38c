"""The folder that relative audio paths of a scores file start from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from egl_fast.data.strict_json import json_value
from egl_fast.errors import ManifestError


def audio_folder(scores: str, pool: str | None) -> Path | None:
    """The folder that relative audio paths of a scores file start from.

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
        if not os.path.isfile(pool):
            raise ManifestError(f"--pool {pool}: no such file")
        return Path(pool).parent
    if scores == "-":
        return None
    meta_path = Path(f"{scores}.meta.json")
    said = read_metadata(scores)
    named = said.get("pool")
    if not isinstance(named, str):
        return meta_path.parent
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


def _is_manifest(path: Path) -> bool:
    # What was standard input then is something else now.
    return path.is_file() and not any(map(path.is_relative_to, ("/dev", "/proc")))
