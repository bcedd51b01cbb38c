"""``--report-to``, with the real tools on this machine; read back by the tools themselves."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from recordings import write_recordings
from training_runs import train

from egl_fast.errors import ConfigError, MissingExtraError, OutputError
from egl_fast.tracking import backends
from egl_fast.tracking.listener import Entry
from egl_fast.tracking.reports import Reports, Target
from egl_fast.warning import EglWarning

#: Name -> the (step, value)s of one number.
Read = Callable[[str], list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def _foreign_warnings() -> Iterator[None]:
    """What the tools say of themselves and of each other does not matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", EglWarning)
        yield


def read_events(folder: Path) -> Read:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(name: str) -> list[tuple[int, float]]:
        found = EventAccumulator(str(folder))
        found.Reload()
        return [(e.step, e.value) for e in found.Scalars(name)]

    return read


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of an offline run: LevelDB's log format behind a header of 7 bytes."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # too little of the block for a header
            place += 32768 - place % 32768
            continue
        size, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def read_wandb(folder: Path) -> Read:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    def read(name: str) -> list[tuple[int, float]]:
        wandb.teardown()  # only then is everything in the file
        found: list[tuple[int, float]] = []
        for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
            for data in wandb_records(path.read_bytes()):
                items = Record.FromString(data).history.item
                line = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                if name in line:
                    found.append((line["epoch"], line[name]))
        return found

    return read


def read_mlflow(uri: str) -> Read:
    import mlflow

    def read(name: str) -> list[tuple[int, float]]:
        client: Any = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name("egl-fast").experiment_id
        runs = client.search_runs([experiment])
        return [
            (m.step, m.value)
            for run in reversed(runs)
            for m in client.get_metric_history(run.info.run_id, name)
        ]

    return read


@pytest.fixture(params=["tensorboard", "wandb", "mlflow"])
def tool(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Target, Read]:
    pytest.importorskip(request.param)
    if request.param == "tensorboard":
        return Target("tensorboard", str(tmp_path / "events")), read_events(tmp_path / "events")
    if request.param == "wandb":
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_DIR", str(tmp_path))
        return Target("wandb", "trials"), read_wandb(tmp_path)
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return Target("mlflow", uri), read_mlflow(uri)


def entries(*epochs: int) -> list[Entry]:
    return [Entry(str(n), n, {"valid_cer": 1 / 2**n, "odd, name": n, "none": None}) for n in epochs]


def reports(target: Target, folder: Path, **settings: Any) -> Reports:
    return Reports([target], folder, axis="epoch", settings={"k": 3, "words": ["a"], **settings})


def test_each_number_arrives_once_at_its_step(tool: tuple[Target, Read], tmp_path: Path) -> None:
    target, read = tool
    first = reports(target, tmp_path)
    first.measured(entries(1))
    first.measured(entries(1, 2))
    first.finished(130, None)
    resumed = reports(target, tmp_path)
    resumed.measured(entries(1, 2, 3))
    resumed.finished(0, None)
    assert read("valid_cer") == [(1, 0.5), (2, 0.25), (3, 0.125)]
    other = reports(target, tmp_path, k=4)  # other numbers: another report
    other.measured(entries(1))
    other.finished(0, None)
    assert len(read("valid_cer")) == 4


class Broken:
    """A tool that can be reached only now and then."""

    run = "r"
    logged: list[int] = []  # noqa: RUF012
    works = True

    def __init__(self, *place: Any, **facts: Any) -> None:
        if not self.works:
            raise ConnectionError("no route\nto host")

    def log(self, values: Any, step: int) -> None:
        if not self.works:
            raise ConnectionError("no route\nto host")
        self.logged.append(step)

    def close(self, *, finished: bool) -> None:
        self.log({}, -1)


def test_a_tool_out_of_reach_costs_a_warning_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backends.BACKENDS, "broken", (Broken, "json"))
    found = reports(Target.parse("broken:x"), tmp_path)
    found.measured(entries(1))
    Broken.works = False
    with pytest.warns(EglWarning, match=r"--report-to broken:x: no route to host; trying"):
        found.measured(entries(2))
    found.measured(entries(3))  # said once
    Broken.works = True
    found.measured([])
    found.finished(0, None)
    assert Broken.logged == [1, 2, 3, -1]
    Broken.works = False
    with pytest.raises(OutputError, match=r"^--report-to broken:x: no route to host$"):
        reports(Target("broken", "x"), tmp_path)
    (tmp_path / "reports.json").write_text("{")
    with pytest.raises(OutputError, match=r"reports\.json: is damaged"):
        reports(Target("broken", "x"), tmp_path)


@pytest.mark.parametrize("text", ["tensorboard", "wandb:", "comet:x", ""])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected tensorboard:DIR, wandb:PROJECT, or mlflow"):
        Target.parse(text)


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("egl_fast.tracking.reports.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'egl-fast\[mlflow\]'"):
        Target.parse("mlflow:sqlite:///x.db")


def test_train_reports_its_epochs(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    manifest = write_recordings(tmp_path, ["a", "b"], [0.5, 0.6])
    target = f"tensorboard:{tmp_path / 'events'}"
    assert train(run, manifest, "--patience", 0)[0] == 0
    # Named only now: the epochs of before are caught up on.
    more = ("--patience", 0, "--resume", "--report-to", target)
    assert train(run, manifest, *more)[0] == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    read = read_events(tmp_path / "events")
    expected = [np.float32(json.loads(line)["valid_cer"]) for line in lines]
    assert read("valid_cer") == list(enumerate(expected, start=1))
    status, _, err = train(run, manifest, "--resume", "--report-to", "comet:x")
    assert status == 2
    assert "--report-to comet:x: expected tensorboard:DIR" in err
