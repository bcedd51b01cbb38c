"""The id of an utterance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from egl_fast.errors import ManifestError
from egl_fast.files.addresses import is_url, masked


def identity_of(record: Mapping[str, Any], where: str) -> str:
    """The id of a line: its own, or else the audio's path as written, with the offset if any.

    Raises:
        ManifestError: there is neither, or the id is not a string.
    """
    identity, audio, offset = (record.get(key) for key in ("id", "audio_filepath", "offset"))
    if identity is None and isinstance(audio, str):
        name = masked(audio) if is_url(audio) else audio
        return name if offset is None else f"{name}@{offset}"
    if not isinstance(identity, str):
        raise ManifestError(f"{where}: 'id' is {identity!r}, not a string")
    return identity
