"""``--log-json`` and ``--metrics``: what long commands tell of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from recordings import write_manifest, write_recordings
from simulations import write_simulation

from egl_fast.cli.main import EXIT_STATUSES
from egl_fast.tracking import listener

parser = pytest.importorskip("prometheus_client.parser")

#: Labels -> value, by name of the metric.
Metrics = dict[str, dict[tuple[tuple[str, str], ...], float]]


def read(path: Path) -> Metrics:
    """Samples by name, each in a family with a help and a type that its name fits."""
    found: Metrics = {}
    for family in parser.text_string_to_metric_families(path.read_text("utf-8")):
        assert family.documentation
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            assert sample.name.startswith("egl_fast_")
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name.removeprefix("egl_fast_"), {})[labels] = sample.value
    return found


def value(metrics: Metrics, name: str, /, **labels: str) -> float:
    """The one sample of a metric with these labels."""
    [found] = [
        number
        for have, number in metrics[name].items()
        if set(labels.items()) <= set(have)
    ]  # fmt: skip
    return found


def events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "INTERVAL_SECONDS", 0.0)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Two recordings, and one between them that does not exist."""
    manifest = write_recordings(tmp_path, ["a", "b", "c"], [0.3, 0.4, 0.5])
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[1]["audio_filepath"] = "gone.wav"
    (tmp_path / 're"sult\\s').mkdir()
    return write_manifest(tmp_path / "pool.jsonl", lines)


def with_model(model: Path, *more: object) -> tuple[object, ...]:
    return ("--model", model, "--threads", 1, *more)


def transcribe(model: Path, pool: Path) -> tuple[object, ...]:
    return ("transcribe", *with_model(model, "--data", pool, "--out", pool.with_name("t.jsonl")))


#: Command -> its arguments, given a model and a pool; what it counts, and how many of those.
COMMANDS: dict[str, tuple[Callable[[Path, Path], tuple[object, ...]], str, int]] = {
    "score": (
        lambda model, pool: (
            "score", *with_model(model, "--pool", pool, "--k", 2),
        ), "recordings", 3,
    ),
    "query": (
        lambda model, pool: (
            "query", *with_model(model, "--pool", pool, "--k", 2, "--budget", 1),
            "--out", pool.with_name("picks.jsonl"),
        ), "recordings", 3,
    ),
    "transcribe": (transcribe, "recordings", 3),
    "evaluate": (
        lambda model, pool: ("evaluate", *with_model(model, "--data", pool)), "recordings", 3,
    ),
    "train": (
        lambda model, pool: (
            "train", "--init", model, "--train", pool, "--valid", pool, "--max-epochs", 2,
            "--run-dir", pool.with_name("run"), "--threads", 1, "--patience", 0,
        ), "batches", 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_tells_what_it_does(
    run: Run, tiny_model: Path, pool: Path, often: None, command: str
) -> None:
    arguments, unit, total = COMMANDS[command]
    log, metrics = pool.with_name("log.jsonl"), pool.with_name("egl.prom")
    given = (*arguments(tiny_model, pool), "--log-json", log, "--metrics", metrics)
    assert run(*given)[0] == 3
    told = events(log)
    assert {event["command"] for event in told} == {command}
    kinds = [event["event"] for event in told]
    assert kinds[0] == "started"
    assert {"step", "progress"} <= set(kinds)
    failures = [event for event in told if event["event"] == "failed"]
    # A recording that is in the training and in the validation set fails twice.
    assert len(failures) == (2 if command == "train" else 1)
    assert failures[0]["kind"] == "AudioError"
    assert "gone.wav: no such file" in failures[0]["error"]
    last = told[-1]
    assert (last["event"], last["status"]) == ("finished", 3)
    assert (last["unit"], last["total"], last["done"]) == (unit, total, total)
    found = read(metrics)
    assert value(found, f"{unit}_total") == value(found, unit) == value(found, f"{unit}_done")
    assert value(found, unit) == total
    assert value(found, "failures_total", kind="AudioError", command=command) == len(failures)
    assert value(found, "finished") == 1
    assert value(found, "exit_status") == 3
    assert value(found, "start_time_seconds") < value(found, "last_update_time_seconds")
    assert 2**20 < value(found, "resident_memory_bytes") <= value(found, "peak_memory_bytes")
    if command == "train":
        lines = (pool.parent / "run" / "metrics.jsonl").read_text().splitlines()
        measured = [event for event in told if event["event"] == "measured"]
        expected = [
            {key: x for key, x in json.loads(line).items() if x is not None} for line in lines
        ]
        assert [event["values"] for event in measured] == expected
        loss = json.loads(lines[-1])["valid_loss"]
        assert value(found, "result", name="valid_loss") == pytest.approx(loss)
    else:
        assert value(found, "audio_seconds_total") == pytest.approx(0.8)


def test_a_simulation_tells_what_it_does(run: Run, tmp_path: Path, often: None) -> None:
    pytest.importorskip("polars")
    config = write_simulation(tmp_path)
    log, metrics = tmp_path / "log.jsonl", tmp_path / "egl.prom"
    arguments = ("simulate", "--config", config, "--run-dir", tmp_path / "run", "--threads", 1)
    given = (*arguments, "--log-json", log, "--metrics", metrics)
    assert run(*given)[0] == 0
    told = events(log)
    measured = [event["key"] for event in told if event["event"] == "measured"]
    assert len(measured) == len(set(measured)) == 6  # two ends, two strategies at two budgets
    last = told[-1]
    assert (last["event"], last["status"], last["unit"]) == ("finished", 0, "units")
    assert 0 < last["done"] == last["total"]
    found = read(metrics)
    assert value(found, "units_total") == value(found, "units_done") == last["done"]
    # Results that are already there are not reported again.
    assert run(*given)[0] == 0
    assert not [e for e in events(log)[len(told) :] if e["event"] == "measured"]
    assert value(read(metrics), "units_total") == 0


def test_a_resumed_run_counts_what_is_new(run: Run, tiny_model: Path, pool: Path) -> None:
    out = pool.parent / 're"sult\\s' / "scores.jsonl"
    metrics = pool.with_name("egl.prom")
    arguments = ("score", *with_model(tiny_model, "--pool", pool, "--k", 2), "--out", out,
                 "--shard", "1/1", "--metrics", metrics)  # fmt: skip
    names = ("recordings_total", "recordings_done", "recordings")
    assert run(*arguments)[0] == 3
    labels = {"out": str(out), "shard": "1/1", "pool": str(pool)}
    assert [value(read(metrics), name, **labels) for name in names] == [3, 3, 3]
    assert run(*arguments, "--resume")[0] == 3
    assert [value(read(metrics), name, **labels) for name in names] == [0, 3, 3]
    assert metrics.stat().st_mode & 0o044  # another user's collector reads it
    assert not list(pool.parent.glob("*.partial"))


@pytest.mark.parametrize("command", ["score", "train", "transcribe"])
def test_the_log_ends_with_the_cause(
    run: Run, tiny_model: Path, pool: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, metrics = pool.with_name("log.jsonl"), pool.with_name("egl.prom")
    told = ("--log-json", log, "--metrics", metrics)
    arguments, _, _ = COMMANDS[command]
    broken = ("--device", "cuda:99", *told)
    assert run(*arguments(tiny_model, pool), *broken)[0] == 2
    last = events(log)[-1]
    assert (last["event"], last["status"]) == ("stopped", 2)
    assert "cuda:99" in last["cause"]
    assert value(read(metrics), "exit_status") == 2
    assert value(read(metrics), "finished") == 0

    def interrupted(*arguments: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    place = {
        "score": "egl_fast.cli.score.stream_manifest",
        "train": "egl_fast.cli.train.Transcribed.read",
        "transcribe": "egl_fast.data.manifest.read_manifest",
    }
    monkeypatch.setattr(place[command], interrupted)
    assert run(*arguments(tiny_model, pool), *told)[0] == 130
    last = events(log)[-1]
    assert (last["event"], last["status"], last["cause"]) == ("stopped", 130, "interrupted")
    assert value(read(metrics), "exit_status") == 130
    assert {0, 2, 3, 130} == set(EXIT_STATUSES)  # as the page lists them


def test_a_log_that_cannot_be_written_does_not_hide_the_cause(
    run: Run, tiny_model: Path, pool: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    status, _, err = run(*transcribe(tiny_model, pool), "--log-json", "/dev/full")
    assert status == 2
    assert "output /dev/full: cannot be written (" in err
    assert "No space left" in err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["--log-json", "--metrics"])
def test_no_input_is_overwritten(
    run: Run, tiny_model: Path, pool: Path, command: str, option: str
) -> None:
    arguments = COMMANDS[command][0](tiny_model, pool)
    for path in (tiny_model, pool):
        link = path.with_name("link.prom")
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        before = path.read_bytes()
        status, _, err = run(*arguments, option, link)
        assert status == 2
        assert "is a file that this command reads" in err
        assert path.read_bytes() == before
    both = ("--log-json", pool.with_name("x.prom"), "--metrics", pool.with_name("x.prom"))
    status, _, err = run(*arguments, *both)
    assert status == 2
    assert "is both log and metrics" in err
    status, _, err = run(*arguments, "--metrics", "x.txt")
    assert (status, "output x.txt: Prometheus's text-file" in err) == (2, True)


@pytest.mark.parametrize("option", ["--log-json", "--metrics"])
def test_no_output_is_overwritten(run: Run, tiny_model: Path, pool: Path, option: str) -> None:
    out = pool.with_name("out.prom")
    model = with_model(tiny_model, "--data", pool)
    status, _, err = run("transcribe", *model, "--out", out, "--overwrite", option, out)
    assert status == 2
    assert f"output {out}: is a file that this command uses otherwise" in err
    assert not out.exists()


@pytest.mark.parametrize("command", ["score", "query", "transcribe", "evaluate"])
def test_a_limit_takes_the_first_recordings(
    run: Run, tiny_model: Path, pool: Path, command: str
) -> None:
    log = pool.with_name("log.jsonl")
    arguments = COMMANDS[command][0](tiny_model, pool)
    assert run(*arguments, "--limit", 1, "--log-json", log)[0] == 0
    last = events(log)[-1]
    assert (last["status"], last["done"], last["total"]) == (0, 1, 1)
