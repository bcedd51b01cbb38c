"""Any file that comes back from labeling is read, or refused in one line; ours are read as sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from any_input import any_bytes, as_lines, few, put, value_or_line, with_another_value
from hypothesis import example, given
from hypothesis import strategies as st
from test_any_source import CUT, MANIFEST

from egl_fast.labeling.formats import FORMATS, Sending, read_back
from egl_fast.labeling.returned import by_id, match

TASK = {"id": 7, "data": {"utterance_id": "x", "audio": "/a.wav", "pred_text": "a", "duration": 1}}
AREA = {"from_name": "transcription", "type": "textarea", "value": {"text": ["a b"]}}
CHOICE = {"from_name": "nbest", "type": "choices", "value": {"choices": ["a"]}}
EXPORTED = {**TASK, "annotations": [{"result": [AREA, CHOICE], "was_cancelled": False}]}
MINIMAL = {
    "utterance_id": "x",
    "audio": "/a.wav",
    "annotation_id": 1,
    "transcription": "a b",
    "nbest": '[{"value": "a"}]',
    "duration": 1.0,
}
TABLE = b"id,text,pred_text,audio_filepath,duration\nx,a b,'=a,a.wav,1.5\n"
EXPORTED_TABLE = b'utterance_id,annotation_id,transcription\nx,1,"{""text"":[""a"",""b""]}"\n'
SENT = as_lines({**MANIFEST, "pred_text": "a"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def returned(folder: Path) -> Any:
    """What `egl-fast labels` makes of what came back."""
    sent, answers = (
        read_back(str(folder / name), from_name="transcription") for name in ("sent", "answers")
    )
    return match(by_id(sent), answers)


@few
@given(
    any_bytes(
        *(as_lines(MANIFEST), as_lines(CUT), as_lines(MINIMAL), TABLE, EXPORTED_TABLE),
        json.dumps([EXPORTED]).encode(),
    )
)
def test_any_bytes_are_answers_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, sent=SENT, answers=content)
    value_or_line(returned, folder)


@few
@given(with_another_value(MANIFEST, CUT, EXPORTED, MINIMAL))
@example({**MINIMAL, "transcription": '{"text":' + "[" * 3000})
@example({**MINIMAL, "transcription": '{"text":'})
@example({**MANIFEST, "duration": "long"})
@example({**CUT, "id": ["x"]})
def test_any_values_are_answers_or_one_line(folder: Path, record: dict[str, Any]) -> None:
    put(folder, sent=SENT, answers=as_lines(record))
    value_or_line(returned, folder)
    put(folder, sent=as_lines(record), answers=SENT)
    value_or_line(returned, folder)


texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)


@few
@given(texts.filter(bool), texts, st.sampled_from(["jsonl", "csv", "label-studio", "nemo"]))
def test_what_was_sent_is_read_back(folder: Path, identity: str, heard: str, name: str) -> None:
    record = {**MANIFEST, "id": identity, "rank": 1, "score": 0.5, "pred_text": heard}
    chunks = FORMATS[name].chunks
    assert chunks is not None
    put(folder, sent=b"".join(chunks([record], Sending())))
    (back,) = read_back(str(folder / "sent"), from_name="transcription")
    assert back.id == identity
    assert back.record.get("pred_text", "") == heard
    assert back.record["duration"] == MANIFEST["duration"]
