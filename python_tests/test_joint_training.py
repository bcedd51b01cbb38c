"""Several processes train a model as one does, and end together."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joint_training
import numpy as np
import pytest
from commands import egl_fast, script
from recordings import write_recordings

from egl_fast.training.processes import Processes

COUNT = 2


def environment_of(rank: int, port: int) -> dict[str, str]:
    """What a launcher sets."""
    facts = {"RANK": rank, "WORLD_SIZE": COUNT, "LOCAL_RANK": rank, "MASTER_PORT": port}
    kept = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    return {**kept, **{name: str(value) for name, value in facts.items()}}


def in_two(run: Any, *arguments: object) -> list[Any]:
    """The finished processes of a command or script."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with ThreadPoolExecutor(COUNT) as pool:
        started = [
            pool.submit(run, *arguments, **environment_of(rank, port)) for rank in range(COUNT)
        ]
        return [one.result() for one in started]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings, of which two share a batch, so that others leave a process without any."""
    folder = tmp_path_factory.mktemp("joint")
    write_recordings(folder, ["ab", "no", "ab", "no", "ab"], [0.5, 1.4, 0.65, 0.45, 0.9])
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What each of two processes found."""
    path = Path(joint_training.__file__)
    for process in in_two(script, path, folder):
        assert process.returncode == 0, process.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(COUNT)]


def test_two_processes_train_as_one_does(folder: Path, found: list[dict[str, Any]]) -> None:
    alone = joint_training.in_double(folder, "alone", Processes())
    assert len(alone["losses"]) >= 6, "there must be several batches an epoch"
    for rank in range(COUNT):
        together = found[rank]["double"]
        # float64 sums in another order, of at most 10^4 numbers (1e-12), through ten steps, each of
        # which may amplify what the ones before left, but by far less than 100 in total.
        np.testing.assert_allclose(together["losses"], alone["losses"], rtol=1e-10)
        for ours, theirs in zip(together["history"], alone["history"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-10)
        assert together["state"].keys() == alone["state"].keys()
        for name, values in alone["state"].items():
            np.testing.assert_allclose(
                together["state"][name], values, rtol=1e-9, atol=1e-10, err_msg=name
            )


def test_they_hold_the_same_weights(found: list[dict[str, Any]]) -> None:
    assert found[0]["double"] == found[1]["double"]
    assert found[0]["history"] == found[1]["history"]


def test_they_stop_and_fail_together_and_resume_to_the_same_bits(
    found: list[dict[str, Any]],
) -> None:
    stopped, failed, finished = found[0]["ends"]
    assert stopped == "KeyboardInterrupt  True"
    assert failed.startswith("AudioError rec: is gone; it could be read when training began")
    assert finished == "finished"
    assert found[1]["ends"] == found[0]["ends"]
    assert found[0]["same"] == [True, True]


def test_one_process_complains_for_all(found: list[dict[str, Any]]) -> None:
    manifest, equal, different = found[0]["refusals"]
    assert manifest == "ManifestError: no such file"
    assert equal == "nothing"
    assert different == (
        "ProcessError: process 1 of 2 differs from the first, which has --k 1 (now 2); start all "
        "with the same command and files"
    )
    assert found[1]["refusals"] == found[0]["refusals"]


def test_the_first_process_speaks_and_writes(partly_unreadable: Path, tmp_path: Path) -> None:
    results = in_two(
        egl_fast,
        *("train", "--train", partly_unreadable, "--valid", partly_unreadable),
        *("--preset", "tiny", "--max-epochs", 1, "--run-dir", tmp_path / "run", "--json"),
    )
    assert [result.returncode for result in results] == [3, 0]
    assert "6 of 10 recordings cannot be used" in results[0].stderr
    assert json.loads(results[0].stdout)["epoch"] == 1
    assert results[1].stdout == results[1].stderr == ""
    again = in_two(
        egl_fast,
        *("train", "--train", partly_unreadable, "--valid", partly_unreadable),
        *("--run-dir", tmp_path / "run"),
    )
    assert [result.returncode for result in again] == [2, 0]
    said = results_without_waiting(again[0].stderr)
    assert len(said) == 1
    assert "already contains a run" in said[0]
    assert again[1].stderr == ""


def results_without_waiting(text: str) -> list[str]:
    """The lines of standard error after the one that all runs begin with."""
    first, *rest = text.splitlines()
    assert first == "waiting for 2 processes"
    return rest


def test_nothing_is_shared_outside_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    from egl_fast.training.processes import counted

    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert counted() == Processes()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert counted() == Processes()
