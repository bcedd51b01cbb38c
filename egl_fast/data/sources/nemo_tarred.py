"""NeMo's tarred manifests: recordings are members of ``audio_SHARD.tar`` beside them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import Final

from egl_fast.data.archives import MEMBER, tar_members
from egl_fast.data.json_reading import json_object
from egl_fast.data.sources.source import Entry, Kind, Source, without_suffix
from egl_fast.errors import ManifestError, one_line
from egl_fast.files.addresses import Place
from egl_fast.files.remote import is_file

_MANIFEST: Final = "tarred_audio_manifest.json"

#: NeMo numbers segments of one recording, which is in the archive once, without the number.
_SEGMENT = re.compile(r"-sub\d+(?=(\.[^./]*)?$)")


def _is_tarred(source: Source) -> bool:
    first = source.first_object
    return {"audio_filepath", "shard_id"} <= first.keys() and any(
        is_file(path) for path in _archives(source.folder, first["shard_id"])
    )


def _archives(folder: Place, shard: object) -> Iterator[Place]:
    """Where an archive may be: manifests of one shard each are in a folder of their own."""
    for place in (folder, folder.parent):
        yield place / f"audio_{shard}.tar"


def _entries(source: Source) -> Iterator[Entry]:
    for line, where in source.lines():
        record = json_object(line, where)
        name, shard = record.get("audio_filepath"), record.get("shard_id")
        if not isinstance(name, str):
            raise ManifestError(f"{where}: needs 'audio_filepath', a member of a tar archive")
        archive = next(filter(is_file, _archives(source.folder, shard)), None)
        if archive is None:
            raise ManifestError(
                f"{where}: there is no {next(_archives(source.folder, shard))}, which should hold "
                f"{name!r}; copy it there"
            )
        try:
            members = tar_members(archive)
        except (tarfile.TarError, OSError) as error:
            raise ManifestError(
                f"{archive}: cannot be read as a tar archive ({one_line(error)}); copy it again, "
                "decompressed"
            ) from None
        member = name if name in members else _SEGMENT.sub("", name)
        there = archive.name if archive.parent == source.folder else f"../{archive.name}"
        record = {
            **record,
            "audio_filepath": f"{there}{MEMBER}{member}",
            "id": record.get("id") or f"{shard}/{without_suffix(name)}",
        }
        yield Entry(record, source.folder, where)


def _folder_entries(source: Source) -> Iterator[Entry]:
    with Source(source.path / _MANIFEST) as manifest:
        yield from _entries(manifest)


KIND = Kind("a NeMo tarred manifest", _is_tarred, _entries)
FOLDER = Kind("a folder with a NeMo tarred manifest", lambda s: s.has(_MANIFEST), _folder_entries)
