"""Real speech in a store that speaks S3, on this machine, from the pool to the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import lines_of
from conftest import Run
from recordings import shortest, write_manifest

if TYPE_CHECKING:
    from s3fs import S3FileSystem

#: What the server takes for credentials, and no output may hold.
_KEY, _SECRET = "key-5d1c", "secret-88e0"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3FileSystem]:
    """A bucket ``speech`` that ``s3://`` leads to, by nothing but variables of the environment."""
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(
        "127.0.0.1", port=0, verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", _KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir("speech")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_real_speech_from_s3_to_s3(
    run: Run, bucket: S3FileSystem, examples: Path, tmp_path: Path
) -> None:
    for package in ("jinja2", "polars"):
        pytest.importorskip(package)
    spoken = shortest(examples, 3)
    lines = [{**one.record, "audio_filepath": f"audio/{n}.wav"} for n, one in enumerate(spoken)]
    for one, line in zip(spoken, lines, strict=True):
        bucket.put_file(str(one.audio_path), f"speech/{line['audio_filepath']}")
    lines.append({"id": "gone", "audio_filepath": "audio/gone.wav"})
    pool = write_manifest(tmp_path / "pool.jsonl", lines)
    bucket.put_file(str(pool), "speech/pool.jsonl")
    bucket.put_file(str(examples / "base.pt"), "speech/base.pt")
    said = []

    def does(wanted: int, *arguments: object) -> None:
        status, out, err = run(*arguments)
        said.append(out + err)
        assert status == wanted, err

    options = ("--k", 5, "--method", "lowrank")
    does(3, "score", "--model", "s3://speech/base.pt", "--pool", "s3://speech/pool.jsonl", *options,
         "--out", "s3://speech/runs/scores.jsonl")  # fmt: skip
    local = write_manifest(
        tmp_path / "local.jsonl",
        [{**one.record, "audio_filepath": str(one.audio_path)} for one in spoken],
    )
    does(0, "score", "--model", examples / "base.pt", "--pool", local, *options,
         "--out", tmp_path / "scores.jsonl")  # fmt: skip
    far = lines_of(bucket.cat_file("speech/runs/scores.jsonl").decode())
    near = lines_of((tmp_path / "scores.jsonl").read_text())
    assert [{**one, "audio_filepath": ""} for one in far] == [
        {**one, "audio_filepath": ""} for one in near
    ]
    (error,) = lines_of(bucket.cat_file("speech/runs/scores.jsonl.errors.jsonl").decode())
    assert error == {
        "id": "gone",
        "error": "audio s3://speech/audio/gone.wav: cannot be read (no such file)",
    }
    does(
        0,
        "select",
        "s3://speech/runs/scores.jsonl",
        "--budget",
        2,
        "--out",
        "s3://speech/runs/picks.jsonl",
    )
    picks = lines_of(bucket.cat_file("speech/runs/picks.jsonl").decode())
    assert {one["audio_filepath"] for one in picks} < {f"../audio/{n}.wav" for n in range(3)}
    does(0, "report", "--scores", "s3://speech/runs/picks.jsonl")
    page = bucket.cat_file("speech/runs/picks.jsonl.html").decode()
    assert page.count("data:audio/mpeg;base64,") >= 2
    metadata = json.loads(bucket.cat_file("speech/runs/picks.jsonl.meta.json"))
    assert metadata["scores"] == "s3://speech/runs/scores.jsonl"
    assert sorted(bucket.find("speech/runs")) == [
        f"speech/runs/{name}"
        for name in (
            "picks.jsonl", "picks.jsonl.html", "picks.jsonl.meta.json",
            "scores.jsonl", "scores.jsonl.errors.jsonl", "scores.jsonl.meta.json",
        )
    ]  # fmt: skip
    outputs = [*said, *(bucket.cat_file(path).decode() for path in bucket.find("speech/runs"))]
    assert not any(secret in text for secret in (_KEY, _SECRET) for text in outputs)
