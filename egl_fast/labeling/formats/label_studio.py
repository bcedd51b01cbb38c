"""Label Studio: tasks to import, with the best transcript filled in, and its exports.

A task's ``data`` holds the recording's address as ``audio``, what to choose from as ``nbest``, and
the keys of the record. The id is ``utterance_id``, since exports use ``id`` for their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from egl_fast.data.strict_json import json_value
from egl_fast.display import json_text
from egl_fast.errors import ManifestError
from egl_fast.files.addresses import Address
from egl_fast.labeling.formats.format import (
    Delivered,
    Format,
    Record,
    Sending,
    audio_path,
)

_NBEST = "nbest"
#: As many as have keys to choose them by; of more, the text area would be out of sight.
_MOST_CHOICES = 10
#: Keys of ``data`` that are not the record's.
_OURS = ("audio", _NBEST, "segment", "utterance_id")
#: Keys of tasks in an export, with or without their data.
_OF_EXPORTS = ("utterance_id", "annotations", "completions", "annotation_id", "annotator")


def chunks(records: Sequence[Record], sending: Sending) -> Iterator[bytes]:
    """One JSON array of tasks."""
    start = "[\n"
    for record in records:
        yield f"{start}{json_text(task(record, sending))}".encode()
        start = ",\n"
    yield b"\n]\n"


def task(record: Record, sending: Sending) -> dict[str, Any]:
    """One recording to transcribe.

    The prediction's score is 1 - 1/rank: active learning in Label Studio starts with the lowest.
    """
    if sending.from_name in record:
        raise ManifestError(
            f"record {record['id']!r}: has a key {sending.from_name!r}, which exports use for the "
            "transcript; give the text area another name with --from-name"
        )
    data = {key: value for key, value in record.items() if key not in ("id", "hypotheses", *_OURS)}
    data |= {"utterance_id": record["id"], "audio": address(record, sending)}
    if record.get("offset") is not None:
        start = float(record["offset"])
        data["segment"] = f"transcribe {start:.2f} to {start + record['duration']:.2f} s only"
    texts = dict.fromkeys(h["text"] for h in record.get("hypotheses", ()) if h["text"])
    if texts:
        data[_NBEST] = [{"value": text} for text in list(texts)[:_MOST_CHOICES]]
    heard = record.get("pred_text")
    filled_in = {
        "id": "heard",
        "from_name": sending.from_name,
        "to_name": sending.to_name,
        "type": "textarea",
        "value": {"text": [heard]},
    }
    prediction = {
        "model_version": "egl-fast",
        "score": 1 - 1 / record["rank"],
        "result": [filled_in] if heard else [],
    }
    return {"data": data, "predictions": [prediction]}


def address(record: Record, sending: Sending) -> str:
    """Where Label Studio finds a recording. Raises ``ManifestError`` outside of ``audio_root``."""
    place = audio_path(record, sending.folder)
    if isinstance(place, Address):  # which it opens if that storage is connected
        return str(place)
    path = os.path.relpath(place, os.path.abspath(sending.audio_root))
    if path.split(os.sep)[0] == os.pardir:
        raise ManifestError(
            f"record {record['id']!r}: its recording is not in --audio-root {sending.audio_root}; "
            "name a folder that all recordings are in"
        )
    # Keys of S3 and the like are plain text; everything else is a URL.
    is_url = sending.audio_url.startswith(("/", "http:", "https:"))
    return sending.audio_url + (quote(path) if is_url else path)


def labeling_config(records: Sequence[Record], sending: Sending) -> dict[str, bytes]:
    """The labeling configuration, to paste under Settings, Labeling Interface, Code."""
    audio, text = quoteattr(sending.to_name), quoteattr(sending.from_name)
    has_segments = any(record.get("offset") is not None for record in records)
    has_nbest = any(record.get("hypotheses") for record in records)
    lines = [
        "<View>",
        '  <Header value="$segment"/>' if has_segments else "",
        f'  <Audio name={audio} value="$audio"/>',
        f'  <Choices name="{_NBEST}" toName={audio} value="${_NBEST}" choice="single" '
        'layout="vertical"/>'
        if has_nbest
        else "",
        f'  <TextArea name={text} toName={audio} rows="3" editable="true" maxSubmissions="1"/>',
        "</View>",
    ]
    return {".labeling.xml": "".join(f"{line}\n" for line in lines if line).encode()}


def is_task(item: Mapping[str, Any]) -> bool:
    """Whether an object is a task, or an item of an export: JSON-MIN has no ``data``.

    Lines of manifests may have keys of the same names. But the id of a task is a number, and its
    audio is called ``audio``.
    """
    if isinstance(item.get("id"), str) or ("audio_filepath" in item and "audio" not in item):
        return False
    return isinstance(item.get("data"), dict) or not item.keys().isdisjoint(_OF_EXPORTS)


def delivered(item: Mapping[str, Any], where: str, from_name: str) -> Iterator[Delivered]:
    """A task as it was sent, or exported as JSON or JSON-MIN: one answer per annotation.

    Raises ``ManifestError`` if it was not made from a task of ours, or no text area has that name.
    """
    data = item.get("data")
    if not isinstance(data, dict):  # JSON-MIN and CSV: data and answers in one object
        is_answer = item.get("annotation_id") not in (None, "")
        chosen = item.get(_NBEST) or None
        if not isinstance(chosen, str) or chosen.startswith('[{"value":'):  # all that was offered
            chosen = None
        text = item.get(from_name) or ("" if is_answer else None)
        yield _answer(item, where, text, chosen, is_answer=is_answer)
        return
    annotations = item.get("annotations", item.get("completions", []))
    if not annotations:
        yield _answer(data, where, None, None, is_answer=False)
    for annotation in annotations:
        results = annotation.get("result") or []
        areas = {r.get("from_name"): r["value"]["text"] for r in results if r["type"] == "textarea"}
        if areas and from_name not in areas:
            raise ManifestError(
                f"{where}: its text area is called {next(iter(areas))!r}, not {from_name!r}; name "
                "it with --from-name"
            )
        choices = [r["value"]["choices"] for r in results if r.get("from_name") == _NBEST]
        chosen = choices[0][0] if choices and choices[0] else None
        answer = _answer(data, where, areas.get(from_name), chosen, is_answer=True)
        skipped = bool(annotation.get("was_cancelled") or annotation.get("skipped"))
        yield Delivered(
            answer.id,
            None if skipped else answer.text or "",
            answer.record,
            where,
            is_answer=True,
            skipped=skipped,
        )


def _answer(
    data: Mapping[str, Any], where: str, texts: Any, chosen: str | None, *, is_answer: bool
) -> Delivered:
    identity = data.get("utterance_id")
    if not isinstance(identity, str):
        raise ManifestError(
            f"{where}: has no 'utterance_id', so it was not made from tasks of egl-fast; export "
            "the project that they were imported into"
        )
    text = _joined(texts)
    # Someone who chose and did not touch the text area has left in it what was filled in.
    if chosen is not None and text in (None, "", data.get("pred_text")):
        text = chosen
    record = {key: value for key, value in data.items() if key not in _OURS}
    heard, path = unquote(str(data.get("audio", ""))), record.get("audio_filepath")
    if heard and isinstance(path, str) and PurePath(path).name not in heard:
        record["audio_filepath"] = heard  # another recording was listened to
    return Delivered(identity, text, {**record, "id": identity}, where, is_answer=is_answer)


def _joined(texts: Any) -> str | None:
    """A text area's content: a text, several, or, in JSON-MIN and CSV, an object of several."""
    if isinstance(texts, str) and texts.startswith(('{"text":', '[{"text":')):
        texts = json_value(texts)
    if isinstance(texts, dict):
        texts = texts["text"]
    if isinstance(texts, list):
        return " ".join(filter(None, map(_joined, texts)))
    return None if texts is None else str(texts)


FORMAT = Format(
    name="label-studio",
    description="tasks for Label Studio, with the transcript filled in; OUT.labeling.xml to paste",
    suffixes=(".json",),
    chunks=chunks,
    beside=labeling_config,
    needs_folder=True,
)
