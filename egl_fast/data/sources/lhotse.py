"""Lhotse's recordings, supervisions and cuts, as JSON Lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from egl_fast.data.json_reading import json_object
from egl_fast.data.sources.source import Entry, Kind, Source, lines_of, located
from egl_fast.errors import ManifestError, one_line
from egl_fast.files.addresses import Place
from egl_fast.files.remote import is_file

_CUTS: Final = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut")
#: What is kept of supervisions, beside their custom fields.
_SAID: Final = ("speaker", "language", "gender")
#: Changes that make no difference to us: any rate is read.
_HARMLESS: Final = ("Resample",)


def _is_recordings(source: Source) -> bool:
    return {"sources", "sampling_rate"} <= source.first_object.keys()


def _recordings(source: Source) -> Iterator[Entry]:
    def record(recording: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {
            "audio_filepath": _audio(recording, source.folder, where),
            "id": recording["id"],
            "duration": recording["duration"],
        }

    return _entries(source, record)


def _is_cuts(source: Source) -> bool:
    return source.first_object.get("type") in _CUTS


def _cuts(source: Source) -> Iterator[Entry]:
    def record(cut: Mapping[str, Any], where: str) -> dict[str, Any]:
        if cut["type"] not in ("MonoCut", "MultiCut") or cut.get("recording") is None:
            what = "cut of features" if cut["type"] in ("MonoCut", "MultiCut") else cut["type"]
            raise ManifestError(
                f"{where}: is a {what}, not a piece of one recording; save its audio first: "
                "cuts.save_audios(FOLDER)"
            )
        return _piece(cut, cut["recording"], source.folder, where)

    return _entries(source, record)


def _is_supervisions(source: Source) -> bool:
    return {"recording_id", "start", "duration"} <= source.first_object.keys()


def _supervisions(source: Source) -> Iterator[Entry]:
    beside = next(iter(_their_recordings(source)), None)
    if beside is None or not is_file(beside):
        raise ManifestError(
            f"{source.name}: holds supervisions, and their recordings are not beside it, as the "
            "same name with 'recordings' for 'supervisions'; put them there, or make cuts: "
            "lhotse cut simple -r RECORDINGS -s SUPERVISIONS cuts.jsonl.gz"
        )
    recordings: dict[Any, dict[str, Any]] = {}
    for line, where in lines_of(beside):
        recording = json_object(line, where)
        recordings[recording.get("id")] = recording

    def record(said: Mapping[str, Any], where: str) -> dict[str, Any]:
        if said["recording_id"] not in recordings:
            raise ManifestError(f"{where}: recording {said['recording_id']!r} is not in {beside}")
        piece = {**said, "supervisions": [said]}
        return _piece(piece, recordings[said["recording_id"]], source.folder, where)

    return _entries(source, record)


def _their_recordings(source: Source) -> list[Place]:
    name = source.path.name.replace("supervisions", "recordings")
    return [source.folder / name] if name != source.path.name else []


def _entries(
    source: Source, record: Callable[[Mapping[str, Any], str], dict[str, Any]]
) -> Iterator[Entry]:
    for line, where in source.lines():
        found = json_object(line, where)
        try:
            described = record(found, where)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ManifestError(
                f"{where}: is not what Lhotse writes ({type(error).__name__}: {one_line(error)}); "
                "write it again"
            ) from None
        yield Entry(described, source.folder, where)


def _piece(
    cut: Mapping[str, Any], recording: Mapping[str, Any], folder: Place, where: str
) -> dict[str, Any]:
    """A cut, or a supervision that is its own only one."""
    _refuse_some_channels(cut, recording, where)
    said = cut.get("supervisions") or []
    texts = [one["text"] for one in said if one.get("text") is not None]
    record = {
        "audio_filepath": _audio(recording, folder, where),
        "id": cut["id"],
        "offset": cut["start"],
        "duration": cut["duration"],
        **({"text": " ".join(texts)} if texts else {}),
    }
    for name in _SAID:
        values = {one[name] for one in said if one.get(name) is not None}
        if len(values) == 1:
            record[name] = values.pop()
    for custom in (*(one.get("custom") for one in said), cut.get("custom")):
        record = {**(custom or {}), **record}
    if record["offset"] == 0:
        del record["offset"]
    return record


def _audio(recording: Mapping[str, Any], folder: Place, where: str) -> str:
    changes = [change.get("name") for change in recording.get("transforms") or []]
    changes = [name for name in changes if name not in _HARMLESS]
    if changes:
        raise ManifestError(
            f"{where}: recording {recording['id']!r} is changed when Lhotse loads it "
            f"({', '.join(map(str, changes))}); save it first: recording.save_audio(FILE)"
        )
    sources = recording["sources"]
    if len(sources) != 1 or sources[0]["type"] not in ("file", "url"):
        kinds = ", ".join(one["type"] for one in sources)
        raise ManifestError(
            f"{where}: recording {recording['id']!r} is not one file (its sources: {kinds}); save "
            "it as one: recording.save_audio(FILE)"
        )
    return located(sources[0]["source"], folder)


def _refuse_some_channels(cut: Mapping[str, Any], recording: Mapping[str, Any], where: str) -> None:
    """Channels are averaged, so a cut of one of several would be another sound."""
    there = recording["sources"][0]["channels"]
    wanted = cut.get("channel", 0)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    if len(there) > 1 and sorted(wanted) != sorted(there):
        raise ManifestError(
            f"{where}: is channel {', '.join(map(str, wanted))} of a recording with {len(there)}; "
            "save it first: cut.save_audio(FILE)"
        )


RECORDINGS = Kind("Lhotse recordings", _is_recordings, _recordings)
CUTS = Kind("Lhotse cuts", _is_cuts, _cuts)
SUPERVISIONS = Kind("Lhotse supervisions", _is_supervisions, _supervisions, _their_recordings)
