"""A folder of recordings, with all folders in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from egl_fast.data.sources.source import Entry, Kind, Source
from egl_fast.errors import ManifestError
from egl_fast.files.signatures import SOUND, signature_of

#: Suffixes of recordings. Files with another one, or none, are recognized by their first bytes.
RECORDINGS = (
    *(".wav", ".wave", ".w64", ".rf64", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".sph", ".au"),
    *(".aif", ".aiff", ".aifc", ".snd", ".caf", ".voc", ".gsm", ".vox"),
    *(".m4a", ".aac", ".mp4", ".mov", ".webm", ".weba", ".mka", ".mkv", ".wma", ".amr", ".awb"),
    *(".wv", ".spx", ".avi"),
)


def entries(source: Source) -> Iterator[Entry]:
    """The recordings of a folder: ids are paths in it without suffix.

    Where two names differ only in their suffix, both ids keep it. Hidden files are left out.
    Raises ``ManifestError`` if a folder cannot be listed.
    """
    for record in _recordings(Path(source.path), "", (os.path.realpath(source.path),)):
        yield Entry(record, source.folder, f"{source.name}: {record['audio_filepath']}")


def _recordings(root: Path, inside: str, parents: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        names = sorted(name for name in os.listdir(root / inside) if not name.startswith("."))
    except OSError as error:
        raise ManifestError(
            f"folder {root / inside}: cannot be listed ({error.strerror}); make it readable"
        ) from None
    files = [name for name in names if _is_recording(root / inside / name)]
    same = Counter(os.path.splitext(name)[0] for name in files)
    found = set(files)
    for name in names:
        path = os.path.join(inside, name)
        if name in found:
            stem, _ = os.path.splitext(name)
            unique = stem if same[stem] == 1 else name
            yield {"audio_filepath": path, "id": os.path.join(inside, unique)}
        elif os.path.isdir(root / path):
            real = os.path.realpath(root / path)
            # A link may lead back to where we came from.
            if real not in parents:
                yield from _recordings(root, path, (*parents, real))


def _is_recording(path: Path) -> bool:
    if path.suffix.lower() in RECORDINGS:
        return not path.is_dir()
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return starts_as_sound(file.read(512))
    except OSError:
        return False


def starts_as_sound(head: bytes) -> bool:
    """Whether a file without a telling name is a recording, by its first 512 bytes."""
    found = signature_of(head)
    # The two bytes of MPEG audio occur elsewhere, as in UTF-16 text.
    return found is not None and found.group == SOUND and len(found.sign) > 2


#: The last of the kinds of folders.
KIND = Kind("a folder of recordings", lambda source: source.is_folder, entries)
