"""Clusters that are not there, and what is left of one that was started here."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from commands import start, the_line, wait_until
from conftest import Run
from recordings import write_recordings

pytest.importorskip("ray")

from egl_fast.errors import ClusterError
from egl_fast.ray.connection import connected

# Ray's own, at exit.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.mark.parametrize("variable", [False, True])
def test_a_cluster_that_is_not_there_is_one_line(
    recordings: Path, tiny_model: Path, run: Run, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    with socket.socket() as taken:  # and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        score = ["score", "--model", tiny_model, "--pool", recordings, "--engine", "ray"]
        if variable:
            monkeypatch.setenv("RAY_ADDRESS", address)
        else:
            score += ["--address", address]
        line = the_line(*run(*score))
    assert f"Ray cluster {address}: cannot be joined" in line
    assert "ray start --head" in line


def test_a_cluster_that_happens_to_be_here_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked = []

    def init(address: str | None, **options: Any) -> None:
        asked.append(address)
        raise ConnectionError("no more ports")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with (
        pytest.raises(ClusterError, match=r"cannot be started here.*no more ports"),
        connected(None),
    ):
        pass
    assert asked == ["local"]  # with None, Ray joins one whose address is left in /tmp


def processes_of(folder: str) -> list[str]:
    """Ray's processes whose session is below a folder, or that score with a model there."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if folder.encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_what_is_done_and_ends_its_cluster(
    tmp_path: Path, tiny_model: Path, run: Run, number: signal.Signals, restored_threads: None
) -> None:
    pool = write_recordings(tmp_path, ["ab"] * 256, [0.5] * 256)
    local, out = tmp_path / "local.jsonl", tmp_path / "ray.jsonl"
    score = ("score", "--model", tiny_model, "--pool", pool, "--k", 5, "--threads", 1, "--resume")
    partial = Path(f"{out}.partial")
    ours = {"OF_THIS_TEST": str(tmp_path)}  # inherited by all that Ray starts
    process = start(
        *score, "--engine", "ray", "--workers", 1, "--out", out,
        environment=ours, start_new_session=True,
    )  # fmt: skip
    assert wait_until(process, lambda: partial.exists() and partial.stat().st_size > 0)
    # As a terminal does: to the whole group.
    os.killpg(process.pid, number)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "are done and kept" in said
    assert "Traceback" not in said
    assert not processes_of(str(tmp_path))
    assert 0 < partial.read_bytes().count(b"\n") < 256
    assert run(*score, "--out", out)[0] == 0  # locally
    assert run(*score, "--out", local)[0] == 0
    assert out.read_bytes() == local.read_bytes()
