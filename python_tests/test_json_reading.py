"""Files that should be JSON Lines: variants that are read, and other formats that are named."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from recordings import waveform

from egl_fast.cli.selection_options import ids_in
from egl_fast.data.manifest import read_manifest, read_manifest_and_hash
from egl_fast.data.streamed_manifest import stream_manifest
from egl_fast.data.strict_json import MAX_DEPTH, json_value
from egl_fast.errors import ManifestError
from egl_fast.evaluation.reporting.score_records import read_records
from egl_fast.evaluation.reporting.scores_file import read_scores_file
from egl_fast.labeling.formats import read_back
from egl_fast.records import STRATEGIES
from egl_fast.scores import REMEDY, read_scores
from egl_fast.scoring.run.journal import Header, read_journal

LINES = b'{"audio_filepath": "a.wav", "text": "\xc3\xa4"}\n{"audio_filepath": "b.wav"}\n'
BOM = b"\xef\xbb\xbf"
ARRAY = b"[" + LINES.strip().replace(b"\n", b",") + b"]"

SCORED = {"duration": 1.0, **dict.fromkeys(STRATEGIES, 1.0)}


@pytest.mark.parametrize(
    "content",
    [
        BOM + LINES,
        gzip.compress(LINES),
        gzip.compress(BOM + LINES[:46]) + gzip.compress(LINES[46:]),
        LINES.replace(b"\n", b"\r\n"),
        LINES.replace(b"\n", b"\n" + BOM),
        b"\n\n" + LINES.strip(),
        ARRAY,
        BOM + json.dumps(json.loads(ARRAY), indent=1).encode(),
        gzip.compress(ARRAY),
        gzip.compress(b"") + gzip.compress(b"\n" + BOM + ARRAY),
    ],
    ids=[
        *("BOM", "gzip", "gzip of a BOM, in two members", "CRLF", "joined files with BOMs", "bare"),
        *("array", "indented array", "gzipped array"),
        "gzipped array behind an empty member, a blank line, and a BOM",
    ],
)
def test_what_can_be_read_is_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.jsonl"  # gzip is recognized by its content, whatever the name
    path.write_bytes(content)
    records: list[dict[str, Any]] = [
        {"audio_filepath": "a.wav", "text": "ä"},
        {"audio_filepath": "b.wav"},
    ]
    assert [u.record for u in read_manifest(path)] == records
    assert list(stream_manifest(path)) == read_manifest(path)
    # By the reader of sources, which sees them line by line.
    assert [u.id for u in read_manifest(f"x={path}")] == ["x/a.wav", "x/b.wav"]
    assert [one.record for one in read_back(str(path), from_name="")] == records
    assert list(ids_in(str(path))) == ["a.wav", "b.wav"]
    # As scores, with all that a record has to have.
    lines = [{**SCORED, "id": str(n), **one} for n, one in enumerate(records)]
    path.write_text(json.dumps(lines) if b"[" in content[:5] else "\n".join(map(json.dumps, lines)))
    assert list(read_scores(path)) == lines
    assert [record for _, record in read_records(path)] == lines


def recording(path: Path, kind: str) -> bytes:
    soundfile.write(path, waveform(0.1), 16000, format=kind)
    return path.read_bytes()


OTHERS: dict[str, tuple[bytes | Callable[[Path], bytes], str, str]] = {
    "UTF-16": (LINES.decode().encode("utf-16"), "UTF-16", "iconv -f utf-16"),
    "UTF-16 without BOM": (LINES.decode().encode("utf-16-le"), "UTF-16", "iconv"),
    "UTF-32": (LINES.decode().encode("utf-32"), "UTF-16 or UTF-32", "iconv"),
    "Latin-1": (LINES.decode().encode("latin-1"), "line 1: cannot be read as UTF-8", "iconv"),
    "CSV": (b"audio_filepath,duration\na.wav,1\n", "looks like CSV", "one JSON object per line"),
    "CSV of paths": (b"a.wav;1;x\nb.wav;2;y\n", "looks like CSV", "one JSON object per line"),
    "TSV": (b"audio\ttext\na.wav\thi\n", "looks like TSV", "one JSON object per line"),
    "Kaldi": (b"utt1 hello there you\nutt2 no\n", "looks like Kaldi", "one JSON object per line"),
    "paths": (b"a/b.wav\nc.FLAC\n", "a list of recordings", "one JSON object per line"),
    "a line too long for a path": (
        b"a " + b"b" * 5000,
        "looks like Kaldi",
        "one JSON object per line",
    ),
    "YAML": (b"- audio_filepath: a.wav\n", "looks like YAML", "one JSON object per line"),
    "comments": (b"// a: b\n{}\n", "line 1: not JSON", "one JSON object per line"),
    "array of others": (b'["a.wav",\n"b.wav"]', "array, but not of objects", "one object per rec"),
    "cut array": (ARRAY[:-3], "not JSON", "write it again"),
    "NUL": (b"a/b.wav\0c.wav\0", "paths that end in NUL", "find -print"),
    "indented": (b'{\n  "audio_filepath": "a.wav"\n}\n', "over several lines", "jq -c ."),
    "indented, many": (b'{\n "a": 1\n}\n{\n "a": 2\n}\n', "over several lines", "jq -c ."),
    "CR": (LINES.replace(b"\n", b"\r"), "carriage returns", "tr"),
    "HTML": (b"<!DOCTYPE html>\n<html></html>", "HTML", "one JSON object per line"),
    "Parquet": (b"PAR1\x15\x04\x15\xff", "Parquet", "JSON Lines"),
    "zip": (b"PK\x03\x04\x14\0\0\0", "zip archive", "UTF-8 text"),
    "xz": (b"\xfd7zXZ\0\0\x04", "compressed with xz", "gzip"),
    "WAV": (lambda p: recording(p, "WAV"), "is a recording", "name a manifest"),
    "FLAC": (lambda p: recording(p, "FLAC"), "is a recording", "name a manifest"),
    "Ogg": (lambda p: recording(p, "OGG"), "is a recording", "name a manifest"),
    "MP3": (lambda p: recording(p, "MP3"), "is a recording", "name a manifest"),
    "cut gzip": (gzip.compress(LINES)[:20], "gzipped, but damaged or cut short", "copy"),
    "gzipped UTF-16": (gzip.compress(LINES.decode().encode("utf-16")), "UTF-16", "iconv"),
    "binary": (b"{\x01\x02\x03\0\0", "is binary", "UTF-8 text"),
}
DEEP = b'{"id": "a", "audio_filepath": "a", "x": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
READERS: dict[str, Callable[[Path], object]] = {
    "manifest": read_manifest,
    "select": read_scores,
    "report": read_scores_file,
}


#: What is read in place of a manifest (test_sources*.py).
SOURCES = {"CSV", "TSV", "paths", "Parquet", "WAV", "FLAC", "Ogg"}


@pytest.mark.parametrize(
    ("reader", "name"),
    [("select", name) for name in OTHERS]
    + [("manifest", name) for name in OTHERS if name not in SOURCES],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, name: str, reader: str) -> None:
    content, what, remedy = OTHERS[name]
    path = tmp_path / "x"
    path.write_bytes(content if isinstance(content, bytes) else content(path))
    with pytest.raises(ManifestError) as caught:
        READERS[reader](path)
    message = str(caught.value)
    assert str(path) in message
    assert what in message
    if (reader, name) == ("select", "Parquet"):  # which may hold scores, if it is whole
        remedy = "copy it again"
    # Scores are not rewritten by hand.
    assert remedy in message or (reader == "select" and message.endswith(REMEDY))
    assert "\n" not in message


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (DEEP, "nested more than 100 deep"),
        (b"[" * 985 + b"]" * 985, "nested more than 100 deep"),
        (b"[" * 100_000, "nested more than 100 deep"),
        (b'{"id": "a", "id": "b"}', "the key 'id' appears twice"),
        (b'{"id": "a", "x": {"y": [{"z": 1, "z": 2}]}}', "the key 'z' appears twice"),
        (b'{"id": "a", "x": NaN}', "NaN is not a number; write null"),
        (b'{"id": "a", "x": 1e999}', "number 1e999 is out of range"),
        (b'{"id": "a", "x": -1e999}', "number -1e999 is out of range"),
        (b'{"id": "a", "x": [-1.5E+0309]}', "number -1.5E+0309 is out of range"),
        (b'{"id": "a", "x": ' + b"9" * 310 + b".0}", "is out of range"),
        (b'{"id": "a", "x": ' + b"9" * 299 + b"e10}", "is out of range"),
        (b'{"id": "a", "x": ' + b"1" * 5000 + b"}", "a number has too many digits"),
        (b'["a"]', "expected a JSON object, got list"),
    ],
    ids=str,
)
def test_all_readers_refuse_the_same_lines(
    tmp_path: Path, reader: str, line: bytes, complaint: str
) -> None:
    fine = {"audio_filepath": "f", "id": "f", "duration": 1.0, **dict.fromkeys(STRATEGIES, 1.0)}
    path = tmp_path / "x.jsonl"
    path.write_bytes(json.dumps(fine).encode() + b"\n" + line + b"\n")
    with pytest.raises(ManifestError, match=r"line 2: ") as caught:
        READERS[reader](path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["{}", '{"a": 1, "b": "{", "c": null}', '{"a": "[", "b": -1.5e308}', '"{"', ' {"a" :1}\t'],
)
def test_lines_of_plain_values_are_read_like_others(text: str) -> None:
    assert json_value(text) == json.loads(text)
    # In an array, which is read by way of calls of Python.
    assert json_value(f"[{text}]") == [json.loads(text)]


def test_report_reads_through_gzip_and_a_mark(tmp_path: Path) -> None:
    record = {"id": "f", "duration": 1.0, **dict.fromkeys(STRATEGIES, 1.0)}
    path = tmp_path / "x.jsonl"
    path.write_bytes(gzip.compress(BOM + json.dumps(record).encode() + b"\n" * 3))
    scores = read_scores_file(path)
    assert len(scores) == 1


def test_what_is_as_deep_as_allowed_comes_back_from_a_journal(tmp_path: Path) -> None:
    x: object = 1
    for _ in range(MAX_DEPTH - 1):
        x = [x]
    line = json.dumps({"audio_filepath": "a", "x": x})
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(line)
    (utterance,) = read_manifest(manifest)
    entry = {"outcomes": [{"position": 0, "record": utterance.record}]}
    journal = tmp_path / "journal"
    header = json.dumps(Header({}, overwrites=False).to_json())
    journal.write_text(f"{header}\n{json.dumps(entry)}\n")
    _, (kept,), _ = read_journal(journal, ())
    assert kept == entry
    with pytest.raises(ValueError, match="deep"):
        json_value("[" * 300 + "]" * 300)


def test_the_hash_is_that_of_the_uncompressed_text(tmp_path: Path) -> None:
    plain, packed, pipe = (tmp_path / name for name in ("m.jsonl", "m.jsonl.gz", "pipe"))
    plain.write_bytes(LINES)
    packed.write_bytes(gzip.compress(LINES))
    os.mkfifo(pipe)
    feeder = threading.Thread(target=pipe.write_bytes, args=(LINES,))
    feeder.start()
    hashes = {read_manifest_and_hash(path).sha256 for path in (plain, packed, pipe)}
    feeder.join()
    assert hashes == {hashlib.sha256(LINES).hexdigest()}
