"""Tables as sources: of SpeechBrain, Hugging Face, Common Voice, and others."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from recordings import write_manifest
from source_speech import NAMES, Speech, check, speech

from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError

__all__ = ["speech"]  # a fixture


def table(path: Path, header: list[str], rows: list[list[str]], **form: Any) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **form).writerows([header, *rows])
    return path


def test_a_table_of_speechbrain(speech: Speech, tmp_path: Path) -> None:
    """As its recipes write it, with Python's csv, and as SpeechBrain reads it if it can be
    imported (which takes a torchaudio that fits torch).
    """
    rows = [[n, "0.02", str(speech.path(n)), "spk", speech.texts[n]] for n in NAMES]
    path = table(tmp_path / "train.csv", ["ID", "duration", "wav", "spk_id", "wrd"], rows)
    utterances = read_manifest(path)
    assert [u.id for u in utterances] == NAMES
    assert [u.text for u in utterances] == list(speech.texts.values())
    assert {(u.duration_seconds, u.record["speaker"]) for u in utterances} == {(0.02, "spk")}
    try:
        from speechbrain.dataio.dataio import load_data_csv
    except (ImportError, OSError):
        return
    theirs = load_data_csv(str(path))
    assert [(u.id, u.text, str(u.audio_path), u.duration_seconds) for u in utterances] == [
        (key, one["wrd"], one["wav"], one["duration"]) for key, one in theirs.items()
    ]


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


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_of_common_voice(speech: Speech, tmp_path: Path, library: str) -> None:
    """As its CorporaCreator (not a package) writes it: by pandas until 2025, now by polars."""
    tables = pytest.importorskip(library)
    (tmp_path / "clips").mkdir()
    names = [name.replace("/", "_") for name in NAMES]
    for name, own in zip(NAMES, names, strict=True):
        # Of a Common Voice clip, only the name says that it is MP3.
        shutil.copy(speech.path(name), tmp_path / "clips" / f"{own}.mp3")
    columns = {
        "client_id": [f"{number:064x}" for number in range(64)],
        "path": [f"{name}.mp3" for name in names],
        "sentence": ['"Ja\\nein, sagte er.', *list(speech.texts.values())[1:]],
        "up_votes": [2] * 64,
        "age": [None, "twenties"] * 32,
    }
    path, frame = tmp_path / "validated.tsv", tables.DataFrame(columns)
    if library == "pandas":
        frame.to_csv(path, sep="\t", index=False, escapechar="\\", quoting=csv.QUOTE_NONE)
    else:
        frame.write_csv(path, separator="\t", quote_style="never")
    utterances = read_manifest(path)
    texts = {**speech.texts, NAMES[0]: '"Ja\\nein, sagte er.'}
    check(utterances, texts=texts, ids=names)
    assert [u.record["speaker"] for u in utterances] == columns["client_id"]
    assert {u.record["up_votes"] for u in utterances} == {"2"}
    assert [u.record.get("age") for u in utterances] == columns["age"]


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
