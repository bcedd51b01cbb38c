"""``score --log-json`` and ``--metrics``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import Run
from recordings import write_manifest, write_recordings

from egl_fast.cli import operations

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})\{{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\}} (\S+)')


def read(path: Path) -> dict[str, float]:
    """Samples of Prometheus's text format, each after its help and type."""
    lines = path.read_text("utf-8").splitlines()
    found = {}
    for about, kind, line in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        assert about.startswith(f"# HELP {match[1]} ")
        assert kind in (f"# TYPE {match[1]} counter", f"# TYPE {match[1]} gauge")
        assert kind.endswith(" counter") == match[1].endswith("_total")
        found[match[1].removeprefix("egl_fast_")] = float(match[3])
    return found


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    manifest = write_recordings(tmp_path, ["a", "b", "c"], [0.3, 0.4, 0.5])
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[1]["audio_filepath"] = "gone.wav"
    (tmp_path / 're"sult\\s').mkdir()
    return write_manifest(tmp_path / "pool.jsonl", lines)


def test_a_run_is_logged_and_measured(
    run: Run, tiny_model: Path, pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "INTERVAL_SECONDS", 0.0)
    out = pool.parent / 're"sult\\s' / "scores.jsonl"
    log, metrics = pool.with_name("log.jsonl"), pool.with_name("egl.prom")
    arguments = ("score", "--model", tiny_model, "--pool", pool, "--k", 2, "--threads", 1)
    given = ("--out", out, "--shard", "1/1", "--log-json", log, "--metrics", metrics)
    assert run(*arguments, *given)[0] == 3
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {event["shard"] for event in events} == {"1/1"}
    kinds = [event["event"] for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("failed") == 1
    assert "progress" in kinds
    [failed] = [event for event in events if event["event"] == "failed"]
    assert "gone.wav: no such file" in failed["error"]
    found = read(metrics)
    counts = ("recordings_scored_total", "recordings_failed_total", "recordings_done", "recordings")
    assert [found[name] for name in counts] == [2, 1, 3, 3]
    assert found["audio_seconds_total"] == pytest.approx(0.8)
    assert found["finished"] == 1
    assert found["recordings_per_second"] > 0
    assert found["peak_memory_bytes"] > 2**20
    # Once more: nothing is left to do.
    assert run(*arguments, *given, "--resume")[0] == 3
    found = read(metrics)
    assert [found[name] for name in counts] == [0, 0, 3, 3]
    assert len(log.read_text().splitlines()) == len(events) + 2
    to_stdout = ("--metrics", metrics)
    status, records, _ = run(*arguments, *to_stdout)
    assert (status, len(records.splitlines())) == (3, 2)
    assert [read(metrics)[name] for name in counts] == [2, 1, 3, 3]


def test_a_run_that_fails_says_so_in_its_log(run: Run, tiny_model: Path, pool: Path) -> None:
    log = pool.with_name("log.jsonl")
    out = pool.with_name("scores.jsonl")
    arguments = ("score", "--model", tiny_model, "--pool", pool, "--threads", 1, "--out", out)
    assert run(*arguments, "--k", 2)[0] == 3
    assert run(*arguments, "--k", 3, "--resume", "--log-json", log)[0] == 2
    [event] = [json.loads(line) for line in log.read_text().splitlines()]
    assert event["event"] == "stopped"
    assert "was started with --k 2 (now 3)" in event["cause"]


@pytest.mark.parametrize("option", ["--log-json", "--metrics"])
def test_no_input_is_overwritten(run: Run, tiny_model: Path, pool: Path, option: str) -> None:
    before = pool.read_bytes()
    status, _, err = run("score", "--model", tiny_model, "--pool", pool, option, pool)
    assert status == 2
    assert "is a file that this command reads" in err
    both = ("--log-json", pool.with_name("x"), "--metrics", pool.with_name("x"))
    status, _, err = run("score", "--model", tiny_model, "--pool", pool, *both)
    assert status == 2
    assert "is both log and metrics" in err
    assert pool.read_bytes() == before
    status, _, err = run("score", "--model", tiny_model, "--pool", pool, "--metrics", "x.txt")
    assert (status, "output x.txt: Prometheus's text-file" in err) == (2, True)
