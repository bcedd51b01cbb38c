"""A local Ray cluster: the same bytes as without it, a deadly recording, and other people's use."""

from __future__ import annotations

import json
import os
import platform
import runpy
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from recordings import write_recordings
from simulations import write_simulation

pytest.importorskip("ray")

from egl_fast.ray import ScoreRecordings
from egl_fast.ray.connection import connected
from egl_fast.ray.worker import ModelPlan, ScoringPlan
from egl_fast.ray.workers import Request, Workers
from egl_fast.scoring.options import ScoringOptions

# Ray's own, at exit.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")

MODEL = """
import os
from dataclasses import replace
from egl_fast.recognizers.checkpoint import load

class Deadly:
    def __init__(self, front_end):
        self.front_end = front_end
    def __getattr__(self, name):
        return getattr(self.front_end, name)
    def prepare(self, waveform, *, name):
        if "rec5" in name:
            os._exit(11)
        return self.front_end.prepare(waveform, name=name)

def recognizer():
    found = load({path!r}, device="cpu")
    return replace(found, front_end=Deadly(found.front_end))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    )
    with connected(None):
        yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """70 recordings, two windows, one of which cannot be read."""
    lengths = [0.3 + 0.01 * (n % 30) for n in range(70)]
    manifest = write_recordings(tmp_path, ["ab"] * 70, lengths)
    (tmp_path / "rec3.wav").write_bytes(b"RIFF broken")
    return manifest


@contextmanager
def in_place_of_arguments(*arguments: object) -> Iterator[None]:
    before, sys.argv = sys.argv, ["script", *map(str, arguments)]
    yield
    sys.argv = before


ON_RAY = ("--engine", "ray", "--workers", 2, "--threads", 1)


def test_scores_have_the_bytes_of_a_local_run(
    cluster: None, pool: Path, tiny_model: Path, tmp_path: Path, run: Run, restored_threads: None
) -> None:
    score = ("score", "--model", tiny_model, "--pool", pool, "--k", 3, "--full",
             "--full-samples", 2, "--typicality", pool.with_name("trusted.jsonl"))  # fmt: skip
    lines = pool.read_text().splitlines(keepends=True)
    pool.with_name("trusted.jsonl").write_text("".join(lines[4:20]))
    # One is in a store, which workers reach by its URL alone.
    lines[6] = lines[6].replace("rec6.wav", f"simplecache::file://{pool.parent}/rec6.wav")
    pool.write_text("".join(lines))
    local, remote = tmp_path / "local.jsonl", tmp_path / "ray.jsonl"
    assert run(*score, "--threads", 1, "--out", local)[0] == 3
    assert run(*score, *ON_RAY, "--out", remote)[0] == 3
    for suffix in ("", ".errors.jsonl", ".embeddings.npy"):
        assert Path(f"{remote}{suffix}").read_bytes() == Path(f"{local}{suffix}").read_bytes()


def test_a_cluster_that_is_started_listens_on_loopback_alone(cluster: None) -> None:
    import ray

    head, port = ray.get_runtime_context().gcs_address.split(":")
    assert {head, *(node["NodeManagerAddress"] for node in ray.nodes())} == {"127.0.0.1"}
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.connect(("203.0.113.1", 9))  # sends nothing, but chooses an own address
        except OSError:
            pytest.skip("the machine has no address but 127.0.0.1")
        own, _ = datagrams.getsockname()
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect((own, int(port)))


def test_ray_tells_nobody(cluster: None) -> None:
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_memory_that_a_worker_freed_is_used_again(cluster: None, tiny_model: Path) -> None:
    def page_faults(_: Any) -> list[int]:  # pickled as it is, for workers cannot import this file
        import resource

        import torch

        found = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            for mib in (8, 16, 80):
                torch.empty(mib * 2**18).fill_(1.0)
            found.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
        return found

    with Workers(Request(workers=1, threads=1), ModelPlan(str(tiny_model))) as workers:
        first, *later = workers.ask(ScoringPlan(ScoringOptions()), page_faults)
    assert later[-1] < first / 10


@pytest.mark.slow
def test_a_deadly_recording_goes_to_the_errors_file(
    cluster: None, tiny_model: Path, tmp_path: Path, run: Run
) -> None:
    pool = write_recordings(tmp_path, ["ab"] * 7, [0.3] * 7)
    (tmp_path / "deadly.py").write_text(MODEL.replace("{path!r}", repr(str(tiny_model))))
    out = tmp_path / "scores.jsonl"
    model = f"{tmp_path / 'deadly.py'}:recognizer"
    assert run("score", "--model", model, "--pool", pool, "--k", 3, *ON_RAY, "--out", out)[0] == 3
    ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert len(ids) == 6
    [error] = map(json.loads, Path(f"{out}.errors.jsonl").read_text().splitlines())
    assert "rec5" in error["id"]
    assert "its worker died" in error["error"]


@pytest.mark.slow
def test_a_query_picks_the_same(
    cluster: None, pool: Path, tiny_model: Path, tmp_path: Path, run: Run, restored_threads: None
) -> None:
    query = ("query", "--model", tiny_model, "--pool", pool, "--k", 3, "--budget", "10%")
    egl, outputs = ("--strategy", "egl"), ("--strategy", "pctc", "--typicality", pool)
    (tmp_path / "rec3.wav").write_bytes((tmp_path / "rec4.wav").read_bytes())
    for name, chosen in (("egl", egl), ("pctc", outputs)):
        local, remote = tmp_path / f"{name}-local.jsonl", tmp_path / f"{name}-ray.jsonl"
        assert run(*query, *chosen, "--threads", 1, "--out", local)[0] == 0
        assert run(*query, *chosen, *ON_RAY, "--out", remote)[0] == 0
        assert remote.read_bytes() == local.read_bytes()


@pytest.mark.slow
def test_parquet_is_written_and_excluded(
    cluster: None, pool: Path, tiny_model: Path, tmp_path: Path, run: Run, restored_threads: None
) -> None:
    pytest.importorskip("pyarrow")
    common = ("--model", tiny_model, "--pool", pool, "--k", 3)
    local, remote = tmp_path / "local.parquet", tmp_path / "ray.parquet"
    assert run("score", *common, "--limit", 66, "--threads", 1, "--out", local)[0] == 3
    assert run("score", *common, "--limit", 66, *ON_RAY, "--out", remote)[0] == 3
    assert remote.read_bytes() == local.read_bytes()
    query = ("query", *common, "--budget", 2, "--exclude", remote, *ON_RAY)
    picks = tmp_path / "picks.jsonl"
    status, _, said = run(*query, "--out", picks)
    assert status == 3, said
    picked = [json.loads(line)["id"] for line in picks.read_text().splitlines()]
    assert len(picked) == 2
    assert set(picked) < {f"rec{n}.wav" for n in range(66, 70)}


@pytest.mark.slow
def test_a_simulation_comes_to_the_same_results(cluster: None, tmp_path: Path, run: Run) -> None:
    config = write_simulation(tmp_path)
    simulate = ("simulate", "--config", config, "--threads", 1)
    assert run(*simulate, "--run-dir", tmp_path / "local")[0] == 0
    ray = ("--engine", "ray", "--workers", 2)
    assert run(*simulate, *ray, "--run-dir", tmp_path / "ray")[0] == 0
    tables = [(tmp_path / name / "results.csv").read_bytes() for name in ("local", "ray")]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_an_example_writes_scores_of_every_recording(
    cluster: None, pool: Path, tiny_model: Path, tmp_path: Path, examples: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "scores"
    with in_place_of_arguments("--model", tiny_model, "--pool", pool, "--out", out, "--k", 3):
        runpy.run_path(str(examples / "score_with_ray_data.py"), run_name="__main__")
    rows = pyarrow.read_table(out).to_pylist()
    assert len(rows) == 70
    assert [row["id"] for row in rows if row["error"] is not None] == ["rec3.wav"]
    assert [row["id"] for row in rows if row["egl"] is None] == ["rec3.wav"]


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_one_line(
    cluster: None, pool: Path, tmp_path: Path, run: Run
) -> None:
    missing = tmp_path / "missing.pt"
    status, _, said = run("score", "--model", missing, "--pool", pool, *ON_RAY)
    assert status == 2
    assert "missing.pt" in said
    assert said.count("\n") == 1


def test_recordings_are_scored_in_batches_of_any_kind(
    partly_unreadable: Path, tiny_model: Path
) -> None:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in partly_unreadable.read_text().splitlines()
    ]
    for row in rows:
        row["audio_filepath"] = str(partly_unreadable.parent / row["audio_filepath"])
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    scored = ScoreRecordings(str(tiny_model), k=3)(columns).to_pylist()
    assert [row["audio_filepath"] for row in scored] == columns["audio_filepath"]
    assert [row["egl"] is None for row in scored] == [False, True, True, False, False]
    assert [row["error"] is None for row in scored] == [True, False, False, True, True]


def test_batches_have_the_same_columns_whatever_fails(tmp_path: Path, tiny_model: Path) -> None:
    write_recordings(tmp_path, ["ab"], [0.4])
    paths = [str(tmp_path / name) for name in ("rec0.wav", "gone.wav")]
    score = ScoreRecordings(str(tiny_model), method="none")
    columns = {"speaker": [None], "egl": [7.0]}  # of an earlier run
    good, bad = (score({"audio_filepath": [path], **columns}) for path in paths)
    assert good.column_names == bad.column_names
    assert good.schema.types[2:] == bad.schema.types[2:]
    assert good["entropy"][0].as_py() > 0
    assert (good["egl"].to_pylist(), bad["egl"].to_pylist()) == ([None], [None])
    assert (good["error"].null_count, bad["error"].null_count) == (1, 0)
