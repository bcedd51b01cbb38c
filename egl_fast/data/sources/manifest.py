"""Our own manifests, which are also NeMo's: JSON Lines with ``audio_filepath``."""

from __future__ import annotations

from collections.abc import Iterator

from egl_fast.data.identity import identity_of
from egl_fast.data.json_reading import json_object
from egl_fast.data.sources.source import Entry, Kind, Source
from egl_fast.errors import ManifestError


def _is_manifest(source: Source) -> bool:
    return "audio_filepath" in source.first_object


def _entries(source: Source) -> Iterator[Entry]:
    for line, where in source.lines():
        record = json_object(line, where)
        if not isinstance(record.get("audio_filepath"), str):
            raise ManifestError(f"{where}: needs 'audio_filepath', a path as a string")
        yield Entry({**record, "id": identity_of(record, where)}, source.folder, where)


KIND = Kind("a manifest", _is_manifest, _entries)
