"""Tables as sources: of SpeechBrain, Hugging Face, Common Voice, and others."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from recordings import write_manifest
from source_speech import NAMES, RATE_HZ, Speech, check, speech

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError

__all__ = ["speech"]  # a fixture


def table(path: Path, header: list[str], rows: list[list[str]], **form: Any) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **form).writerows([header, *rows])
    return path


def test_a_table_of_speechbrain(speech: Speech, tmp_path: Path) -> None:
    rows = [[n, "0.02", str(speech.path(n)), "spk", speech.texts[n]] for n in NAMES]
    path = table(tmp_path / "train.csv", ["ID", "duration", "wav", "spk_id", "wrd"], rows)
    utterances = read_manifest(path)
    assert [u.id for u in utterances] == NAMES
    assert [u.text for u in utterances] == list(speech.texts.values())
    assert {(u.duration_seconds, u.record["speaker"]) for u in utterances} == {(0.02, "spk")}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("ID,wav,start,stop\na,a.wav,100,200\n", "line 2: 'start' counts samples"),
        ("ID,wav\na,$data_root/a.wav\n", "starts with a placeholder; replace it"),
        ("ID,wav,duration\na,a.wav,long\n", "line 2: 'duration' is 'long', not a number"),
        ("ID,wav\na,\n", "line 2: names no recording"),
        ("ID,wav\na,b,c\n", "line 2: has 3 columns, the header 2"),
        ('ID,wav\na,"b"c\n', "line 2: cannot be read as a table"),
        ("file_name,text\n", "without any recording"),
    ],
)
def test_what_tables_cannot_say(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "x.csv")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_folder_with_metadata_of_hugging_face(speech: Speech, suffix: str) -> None:
    path = speech.folder / f"metadata.{suffix}"
    rows = [{"file_name": f"{n}.wav", "transcription": speech.texts[n], "x": n} for n in NAMES]
    if suffix == "csv":
        table(path, list(rows[0]), [list(row.values()) for row in rows])
    else:
        write_manifest(path, rows)
    try:
        for source in (path, speech.folder):
            utterances = read_manifest(source)
            check(utterances, texts=speech.texts)
            assert [u.record["x"] for u in utterances] == NAMES
    finally:
        path.unlink()


def test_a_table_of_common_voice(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "common_voice_de_1.mp3", np.zeros(8000), 16000)
    header = "client_id\tpath\tsentence\tup_votes\tage\n"
    (tmp_path / "validated.tsv").write_text(
        f'{header}abc\tcommon_voice_de_1.mp3\t"Ja, sagte er.\t2\t\n', encoding="utf-8"
    )
    (utterance,) = read_manifest(tmp_path / "validated.tsv")
    assert utterance.id == "common_voice_de_1"
    assert utterance.text == '"Ja, sagte er.'
    assert utterance.record["speaker"] == "abc"
    assert utterance.record["up_votes"] == "2"
    load_audio(utterance, sample_rate_hz=RATE_HZ)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("Path,Text\na.wav,hi\n", "line 1: a table needs a column .*; it has Path, Text"),
        ("path;path\na;b\n", "line 1: two columns have the same name"),
    ],
)
def test_a_table_with_other_columns_is_told_so(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "pool.csv").write_text(table)
    with pytest.raises(ManifestError, match=said):
        read_manifest(tmp_path / "pool.csv")
