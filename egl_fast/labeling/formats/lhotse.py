"""Lhotse cuts, with the record's keys as custom fields; written without Lhotse.

A cut holds its recording: absolute path, channels, and rate and length by its header or, where
libsndfile cannot read that (m4a and the like), as decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import soundfile

from egl_fast.data.ffmpeg_decoding import pyav_is_installed, shape_by_ffmpeg
from egl_fast.data.jsonl import encoded_line
from egl_fast.errors import AudioError, ManifestError, one_line
from egl_fast.files.addresses import Address, Place
from egl_fast.files.remote import reading
from egl_fast.labeling.formats.format import (
    Delivered,
    Format,
    Record,
    Sending,
    audio_path,
)


def chunks(records: Sequence[Record], sending: Sending) -> Iterator[bytes]:
    """One cut per line."""
    for record in records:
        yield encoded_line(cut(record, sending))


def cut(record: Record, sending: Sending) -> dict[str, Any]:
    """The cut of a recording; raises ``ManifestError`` if it cannot be read."""
    identity, path = record["id"], audio_path(record, sending.folder)
    rate_hz, num_channels, num_samples = _shape(identity, path)
    channels = list(range(num_channels))
    length = num_samples / rate_hz
    start = float(record.get("offset") or 0.0)
    # A record's duration is that of samples at the model's rate, rounded up.
    duration = min(float(record["duration"]), length - start)
    kind = "url" if isinstance(path, Address) else "file"
    channel = channels[0] if len(channels) == 1 else channels
    text, speaker = record.get("text"), record.get("speaker")
    said = {
        "id": identity,
        "recording_id": identity,
        "start": 0.0,
        "duration": duration,
        "channel": channel,
        "text": text,
        **({"speaker": speaker} if isinstance(speaker, str) else {}),
    }
    return {
        "id": identity,
        "start": start,
        "duration": duration,
        "channel": channel,
        "supervisions": [said] if text is not None else [],
        "recording": {
            "id": identity,
            "sources": [{"type": kind, "channels": channels, "source": str(path)}],
            "sampling_rate": rate_hz,
            "num_samples": num_samples,
            "duration": length,
            "channel_ids": channels,
        },
        "custom": {key: value for key, value in record.items() if key not in ("id", "text")},
        "type": "MonoCut" if len(channels) == 1 else "MultiCut",
    }


def _shape(identity: str, path: Place) -> tuple[int, int, int]:
    """Rate, channels, and samples of a recording, as Lhotse counts them."""
    try:
        header = reading(path, soundfile.info, passing=(RuntimeError,))
    except (OSError, RuntimeError) as error:
        reason: Exception = error
    else:
        return header.samplerate, header.channels, header.frames
    remedy = "for m4a and the like, pip install 'egl-fast[av]', or "
    if pyav_is_installed():
        remedy = ""
        try:
            return reading(
                path, lambda file: shape_by_ffmpeg(file, str(path)), passing=(AudioError,)
            )
        except (OSError, AudioError) as error:
            reason = error
    raise ManifestError(
        f"record {identity!r}: Lhotse needs the length of its recording, which cannot be read "
        f"({one_line(reason)}); {remedy}choose another --format"
    )


def is_cut(line: Mapping[str, Any]) -> bool:
    """Whether a line of JSON Lines is a cut."""
    return line.get("type") in ("MonoCut", "MultiCut") and isinstance(line.get("recording"), dict)


def delivered(line: Mapping[str, Any], where: str) -> Delivered:
    """A cut, from here or elsewhere."""
    said = line.get("supervisions") or []
    texts = [segment["text"] for segment in said if segment.get("text") is not None]
    record: Record = {
        "audio_filepath": line["recording"]["sources"][0]["source"],
        "duration": line["duration"],
        **({"offset": line["start"]} if line.get("start") else {}),
        **(line.get("custom") or {}),
        "id": line["id"],
    }
    text = " ".join(texts) if texts else None
    return Delivered(line["id"], text, record, where)


FORMAT = Format(
    name="lhotse",
    description="cuts for Lhotse, with the record's keys as custom fields",
    suffixes=(".cuts.jsonl",),
    also=(".jsonl",),
    chunks=chunks,
    needs_folder=True,
)
