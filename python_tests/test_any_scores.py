"""What runs leave behind may have become anything; it is read, or refused in one line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_input import (
    any_bytes,
    as_lines,
    few,
    json_values,
    put,
    value_or_line,
    with_another_value,
)
from hypothesis import example, given
from hypothesis import strategies as st

from egl_fast.data.parquet_records import record_lines, to_parquet
from egl_fast.data.strict_json import json_value
from egl_fast.embeddings.file import load_embeddings
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.files.arrays import read_array
from egl_fast.recognizers.adapters import Adapters
from egl_fast.records import from_json
from egl_fast.scores import read_scores
from egl_fast.scoring.run.journal import read_journal
from egl_fast.scoring.run.merging import metadata_of, shared_settings

SCORE = {
    "audio_filepath": "a.wav",
    "id": "x",
    "duration": 1.5,
    "num_frames": 3,
    "pred_text": "a",
    "num_hypotheses": 1,
    "beam_mass": 0.5,
    "egl": 1.0,
    "egl_stderr": 0.0,
    "egl_normalized": 2.0,
    "egl_unsquared": 1.0,
    "egl_full": None,
    "egl_full_stderr": None,
    "entropy": 0.1,
    "pctc": 0.1,
    "random": 0.5,
    "typicality": 0.1,
    "hypotheses": [{"text": "a", "labels": [1], "log_prob": -0.5, "sq_grad_norm": 1.0}],
}
METADATA = {
    "num_scored": 2,
    "num_picks": 1,
    "shard": "1/2",
    "pool": "p.jsonl",
    "k": 100,
    "seed": 0,
    "versions": {"egl_fast": "1", "torch": "2"},
    "trusted_sha256": "ab",
    "typicality": {"ids_sha256": "ab", "embeddings_sha256": "cd", "lowest": 0.5},
}
JOURNAL = as_lines(
    {
        "format": "egl-fast journal",
        "format_version": 1,
        "settings": {"k": 1},
        "overwrites": False,
        "position": 1,
        "scores_bytes": 10,
        "metadata": {},
        "tally": {"num_scored": 1, "num_failed": 0, "audio_seconds": 1.5, "wall_seconds": 0.1},
    },
    {"position": 1, "id": "x"},
)


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


EMBEDDINGS = np.ones((2, SIZE + 3), np.float32)
ARRAYS = [saved(EMBEDDINGS), saved(np.array(["a"])), saved(np.array([{}])), saved(np.zeros((0, 4)))]

#: What arrays' headers are made of.
HEADERS = [
    *(b"\x93NUMPY\1\0", b"'descr': '<f4'", b"'shape': (99999999999999999999,)", b"(" * 300),
    *(b"'fortran_order': True", b"'|O'", b"L", b"'''", b"PK\3\4", b"\0\0", b"\xff\xff"),
]


pytestmark = pytest.mark.filterwarnings("ignore::egl_fast.warning.EglWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@few
@given(any_bytes(as_lines(SCORE), json.dumps([SCORE, {**SCORE, "id": "y"}]).encode()))
def test_any_bytes_are_scores_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, x=content)
    for record in value_or_line(read_scores, folder / "x") or ():
        assert isinstance(record["id"], str)


@few
@given(with_another_value(SCORE), with_another_value(METADATA), any_bytes(*ARRAYS, also=HEADERS))
def test_any_values_are_scores_or_one_line(
    folder: Path, record: dict[str, Any], metadata: dict[str, Any], embeddings: bytes
) -> None:
    beside = {"x.meta.json": as_lines(metadata), "x.embeddings.npy": embeddings}
    put(folder, x=as_lines(record, {**SCORE, "id": "y"}), **beside)
    for found in value_or_line(read_scores, folder / "x") or ():
        value_or_line(from_json, found)


@few
@given(any_bytes(*ARRAYS, also=HEADERS))
@example(b"")
@example(b"PK\3\4")
@example(b"\x93NUMPY\1\0\2\0('")
def test_any_bytes_are_an_array_or_an_error(folder: Path, content: bytes) -> None:
    put(folder, **{"x.embeddings.npy": content})
    value_or_line(load_embeddings, folder / "x", ["x", "y"])
    try:
        found = read_array(folder / "x.embeddings.npy")
    except ValueError:
        return
    assert found.nbytes <= len(content)


@few
@given(any_bytes(json.dumps(METADATA).encode()) | json_values.map(lambda value: as_lines(value)))
def test_any_bytes_are_a_shards_metadata_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, x=b"", y=b"", **{"x.meta.json": content, "y.meta.json": as_lines(METADATA)})
    metadata = value_or_line(metadata_of, folder / "x")
    if metadata is not None:
        both = {folder / "x": metadata, folder / "y": metadata_of(folder / "y")}
        value_or_line(shared_settings, both)


@few
@given(any_bytes(JOURNAL))
def test_any_bytes_are_a_journal_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, x=content)
    value_or_line(read_journal, folder / "x", ["scores"])


@few
@given(any_bytes(b'{"base_model_name_or_path": "m", "peft_type": "LORA"}'))
def test_any_bytes_are_adapters_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, **{"adapter_config.json": content})
    found = value_or_line(Adapters.in_folder, folder, "model hf:x")
    assert found is None or found.base


pyarrow = pytest.importorskip("pyarrow")


def as_table(folder: Path, *records: dict[str, Any]) -> bytes:
    (folder / "x").write_bytes(as_lines(*records))
    to_parquet(folder / "x", len(records))
    return (folder / "x").read_bytes()


@pytest.fixture(scope="module")
def table(folder: Path) -> bytes:
    return as_table(folder, SCORE)


@few
@given(st.data())
def test_any_table_holds_records_or_is_refused_in_one_line(
    folder: Path, table: bytes, data: st.DataObject
) -> None:
    put(folder, x=data.draw(any_bytes(table, also=[b"PAR1", b"\x15", b"egl_fast"])))
    value_or_line(read_scores, folder / "x")


@few
@given(st.lists(st.dictionaries(st.text(max_size=2), json_values, max_size=4), max_size=4))
def test_a_written_table_holds_its_records(folder: Path, records: list[dict[str, Any]]) -> None:
    records = [{**record, "id": str(place)} for place, record in enumerate(records)]
    put(folder, x=as_table(folder, *records))
    with (folder / "x").open("rb") as file:
        found = [json.loads(line) for line in record_lines(file, "scores x")]
    assert found == records


@few
@given(any_bytes(as_lines(SCORE), b'{"a": [1, 2.5e-3, true, null, "\\u00e9\\ud83d\\ude00"]}'))
def test_strict_json_is_json(content: bytes) -> None:
    """What is accepted is what Python reads, and can be written again."""
    try:
        value = json_value(content)
    except ValueError:
        return
    assert value == json.loads(content)
    assert json_value(json.dumps(value, allow_nan=False)) == value
