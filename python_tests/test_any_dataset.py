"""Any bytes near a dataset's are a source of recordings, answers, or one line of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from any_input import any_bytes, few, put, value_or_line
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.data.audio import load_audio
from egl_fast.data.jsonl import encoded_line
from egl_fast.data.manifest import read_manifest, utterance_of
from egl_fast.labeling.formats import hf

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

STATE = json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode()

#: Lengths and kinds of Thrift and FlatBuffers, of which headers are made.
PIECES = [b"PAR1", b"ARROW1", b"\x15\x00", b"\x19\x1c", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@pytest.fixture(scope="module")
def files() -> tuple[bytes, bytes]:
    """A table of recordings as Parquet, and as an Arrow stream."""
    audio = [{"bytes": b"RIFF", "path": "a.wav"}, {"bytes": b"RIFF", "path": None}]
    table = pyarrow.table({"audio": audio, "text": ["a b", None], "id": ["x", "y"]})
    as_parquet, as_stream = pyarrow.BufferOutputStream(), pyarrow.BufferOutputStream()
    parquet.write_table(table, as_parquet)
    with pyarrow.ipc.new_stream(as_stream, table.schema) as stream:
        stream.write_table(table)
    return as_parquet.getvalue().to_pybytes(), as_stream.getvalue().to_pybytes()


def recordings(path: Path) -> None:
    """Read all there is of a source."""
    for utterance in read_manifest(path):
        assert isinstance(utterance.id, str)
        encoded_line(utterance.record)


def recording(folder: Path, name: str) -> Any:
    utterance = utterance_of({"audio_filepath": name}, 1, folder, "here")
    return load_audio(utterance, sample_rate_hz=16000)


@few
@given(st.data())
def test_any_parquet_is_a_source_or_one_line(
    folder: Path, files: tuple[bytes, bytes], data: st.DataObject
) -> None:
    put(folder, **{"x.parquet": data.draw(any_bytes(files[0], also=PIECES))})
    value_or_line(recordings, folder / "x.parquet")
    value_or_line(recording, folder, "x.parquet::audio/1")


@few
@given(st.data())
def test_any_arrow_is_a_source_or_one_line(
    folder: Path, files: tuple[bytes, bytes], data: st.DataObject
) -> None:
    content = data.draw(any_bytes(files[1], also=PIECES))
    put(folder, **{"state.json": STATE, "data.arrow": content})
    value_or_line(recordings, folder)
    value_or_line(lambda: list(hf.read(folder)))
