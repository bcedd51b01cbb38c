"""Where the recordings of a scores file lie."""

from __future__ import annotations

import os
from pathlib import Path

from egl_fast.data.json_reading import json_value
from egl_fast.errors import ManifestError


def audio_folder(scores: str, pool: str | None) -> Path | None:
    """The folder that relative audio paths of a scores file count from.

    Args:
        scores: the scores file, or "-" for standard input.
        pool: the manifest that was scored, where the user names it.

    Returns:
        The folder of that manifest: of ``pool``, of the one that ``SCORES.meta.json`` names, or
        else of the scores file; None where nothing tells.

    Raises:
        ManifestError: the manifest named is not there.
    """
    if pool is not None:
        if not os.path.isfile(pool):
            raise ManifestError(f"--pool {pool}: no such file")
        return Path(pool).parent
    if scores == "-":
        return None
    meta_path = Path(f"{scores}.meta.json")
    try:
        named = json_value(meta_path.read_bytes()).get("pool")
    except (OSError, ValueError, AttributeError):
        named = None
    if not isinstance(named, str):
        return meta_path.parent
    pool_path = meta_path.parent / named
    if not pool_path.is_file():
        raise ManifestError(
            f"{meta_path}: names the pool {named}, which is not there; name it by --pool"
        )
    return pool_path.parent
