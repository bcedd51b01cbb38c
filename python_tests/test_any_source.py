"""Any bytes are a source of recordings, or are refused in one line; what is written is read."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from any_input import any_bytes, as_lines, few, put, value_or_line, with_another_value
from hypothesis import example, given
from hypothesis import strategies as st

from egl_fast.data.audio import load_audio
from egl_fast.data.json_reading import json_object
from egl_fast.data.jsonl import encoded_line
from egl_fast.data.manifest import read_manifest, utterance_of

MANIFEST = {"audio_filepath": "a.wav", "duration": 1.5, "offset": 0.25, "text": "a b", "id": "x"}
RECORDING = {
    "id": "r1",
    "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
    "sampling_rate": 16000,
    "num_samples": 16000,
    "duration": 1.0,
    "channel_ids": [0],
}
SUPERVISION = {
    "id": "s1",
    "recording_id": "r1",
    "start": 0.0,
    "duration": 1.0,
    "channel": 0,
    "text": "a b",
    "language": "en",
    "speaker": "p",
    "custom": {"k": 1},
}
CUT = {
    "id": "c1",
    "start": 0.0,
    "duration": 1.0,
    "channel": 0,
    "type": "MonoCut",
    "supervisions": [SUPERVISION],
    "recording": RECORDING,
    "custom": {"k": 1},
}
TARRED = {"audio_filepath": "a-sub1.wav", "shard_id": 0, "duration": 1.0, "text": "a"}
TABLE = b'ID,duration,wav,spk_id,wrd\nx,1.5,a.wav,p,a b\ny,2,b.wav,q,"c, d"\n'
COMMON_VOICE = b'client_id\tpath\tsentence\nc1\ta.mp3\ta "b\nc2\tb.mp3\tc\n'
SCP = b"u1 a.wav\nu2 b.wav\n"
SEGMENTS = b"u1-1 u1 0.5 1.25\nu2-1 u2 0 -1\n"
LIST = b"a.wav\nb.flac\n"


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@pytest.fixture(scope="module", autouse=True)
def elsewhere(folder: Path) -> Iterator[None]:
    """A current folder in which there are no recordings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


@few
@given(
    any_bytes(
        as_lines(MANIFEST),
        json.dumps([MANIFEST, MANIFEST]).encode(),
        as_lines(RECORDING),
        as_lines(CUT),
        *(TABLE, COMMON_VOICE, LIST, SCP),
    ),
    st.sampled_from(["x.jsonl", "x.csv", "x.txt", "wav.scp", "x.parquet", "x"]),
)
@example(b"x" * 300, "x.txt")
@example(b'[{"a":' + b"[" * 3000, "x.jsonl")
def test_any_bytes_are_a_source_or_one_line(folder: Path, content: bytes, name: str) -> None:
    put(folder, **{name: content})
    for utterance in value_or_line(read_manifest, folder / name) or ():
        assert isinstance(utterance.id, str)
        encoded_line(utterance.record)


@few
@given(
    with_another_value(MANIFEST, RECORDING, CUT, SUPERVISION, TARRED),
    st.sampled_from(["x.jsonl", "supervisions.jsonl", "tarred_audio_manifest.json"]),
)
@example({**TARRED, "shard_id": "x" * 300}, "x.jsonl")
@example({**MANIFEST, "audio_filepath": "x" * 5000}, "x.jsonl")
def test_any_values_are_a_record_or_one_line(
    folder: Path, record: dict[str, Any], name: str
) -> None:
    beside = {"recordings.jsonl": as_lines(RECORDING), "audio_0.tar": archive("a.wav")}
    put(folder, **beside, **{name: as_lines(record)})
    for utterance in value_or_line(read_manifest, folder / name) or ():
        assert isinstance(utterance.id, str)
        encoded_line(utterance.record)


@few
@given(
    any_bytes(SCP),
    st.none() | any_bytes(SEGMENTS),
    any_bytes(b"u1 a b\nu2\n"),
    any_bytes(b"u1 p\n"),
)
def test_any_kaldi_folder_is_a_source_or_one_line(
    folder: Path, scp: bytes, segments: bytes | None, text: bytes, speakers: bytes
) -> None:
    more = {} if segments is None else {"segments": segments}
    put(folder, **{"wav.scp": scp, "text": text, "utt2spk": speakers}, **more)
    value_or_line(read_manifest, folder)


@few
@given(
    any_bytes(b'{"splits": ["train"]}'),
    any_bytes(b'{"_data_files": [{"filename": "data.arrow"}]}'),
    any_bytes(b"ARROW1\0\0", b"\xff\xff\xff\xff\x10\0\0\0"),
)
@example(b"[" * 3000, b"{}", b"")
@example(b"{}", b"[" * 3000, b"")
def test_any_dataset_is_a_source_or_one_line(
    folder: Path, splits: bytes, state: bytes, data: bytes
) -> None:
    put(folder, **{"state.json": state, "data.arrow": data})
    value_or_line(read_manifest, folder)
    put(folder, **{"dataset_dict.json": splits, "state.json": state})
    value_or_line(read_manifest, folder)


def loaded(name: str) -> Any:
    utterance = utterance_of({"audio_filepath": name}, 1, Path(), "here")
    return load_audio(utterance, sample_rate_hz=16000)


@few
@given(any_bytes(archive("a.wav"), archive("é" * 200)), st.sampled_from(["a.wav", "", "é" * 200]))
def test_any_archive_has_a_member_or_one_line(folder: Path, content: bytes, name: str) -> None:
    put(folder, **{"x.tar": content})
    value_or_line(loaded, f"x.tar::{name}")


@few
@given(any_bytes(b"PAR1"), st.sampled_from(["audio/0", "audio/²", "audio/" + "9" * 5000, "/", ""]))
def test_any_table_has_a_recording_or_one_line(folder: Path, content: bytes, inside: str) -> None:
    put(folder, **{"x.parquet": content})
    value_or_line(loaded, f"x.parquet::{inside}")


texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)
keys = texts.filter(lambda key: key not in MANIFEST)
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@few
@given(st.dictionaries(keys, plain | texts | st.lists(plain, max_size=3), max_size=4), texts)
def test_what_is_written_is_read(folder: Path, more: dict[str, Any], text: str) -> None:
    record = {**more, **MANIFEST, "text": text}
    assert json_object(encoded_line(record), "here") == record
    put(folder, **{"x.jsonl": encoded_line(record)})
    (utterance,) = read_manifest(folder / "x.jsonl")
    assert utterance.record == record
    assert (utterance.id, utterance.text) == ("x", text)
