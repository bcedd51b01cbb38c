"""Processes that share a folder do nothing twice, and do not wait for dead ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from simulations import plan_of, pretend_unit

from egl_fast.errors import OutputError
from egl_fast.evaluation.simulation import run_folder
from egl_fast.evaluation.simulation import work as work_module
from egl_fast.evaluation.simulation.config import SimulationConfig
from egl_fast.evaluation.simulation.execution import CPU, Note
from egl_fast.evaluation.simulation.run_folder import at_work_in, refresh_tables
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.units import Unit
from egl_fast.evaluation.simulation.work import State, Watcher, ready, work
from egl_fast.files.locking import LockHeldError, sole_writer

#: Holds a lock, in the middle of a unit of work, until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from egl_fast.files.locking import sole_writer
with sole_writer(Path(sys.argv[1]), of="unit"):
    print("taken", flush=True)
    sys.stdin.read()
"""


def at_once(*works: Callable[[], None]) -> None:
    """Start them at the same instant; ``flock`` takes threads that open a file for processes."""
    barrier = threading.Barrier(len(works))
    failed: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_three_that_start_at_the_same_instant_do_each_unit_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, ("seeds = [0]", "seeds = [0, 1, 2]"))
    done: list[str] = []

    def execute(unit: Unit, store: UnitStore, note: Note, *, device: torch.device = CPU) -> None:
        inside = tmp_path / f"inside-{unit.name}"
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        time.sleep(0.002)
        pretend_unit(unit, plan, store)
        done.append(unit.name)
        inside.unlink()

    monkeypatch.setattr(work_module, "execute", execute)
    root = tmp_path / "units"
    at_once(*3 * [lambda: work(plan, UnitStore(root), poll_seconds=0.001) and None])
    assert sorted(done) == sorted(plan.expand(UnitStore(root)).units)
    assert not list((root / ".locks").iterdir())


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts processes that each hold a lock."""
    with ExitStack() as stack:

        def start(lock: Path) -> subprocess.Popen[str]:
            lock.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-c", HOLDER, str(lock)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, **pipes))  # type: ignore[call-overload]
            stack.callback(process.kill)
            assert process.stdout.readline() == "taken\n"
            return process  # type: ignore[no-any-return]

        yield start


@pytest.mark.parametrize("end", ["finishes", "is killed"])
def test_a_stopped_process_is_waited_for_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    holder: Callable[[Path], subprocess.Popen[str]],
    end: str,
) -> None:
    plan, store = plan_of(tmp_path), UnitStore(tmp_path / "units")
    titles: list[str] = []

    def execute(unit: Unit, store: UnitStore, note: Note, *, device: torch.device = CPU) -> None:
        titles.append(unit.title)
        pretend_unit(unit, plan, store)

    monkeypatch.setattr(work_module, "execute", execute)
    base = next(ready(plan.expand(store), store))
    process = holder(store.root / ".locks" / base.name)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    waits: list[Sequence[str]] = []

    def on_wait(state: State, holders: Sequence[str]) -> None:
        assert not titles, "nobody takes its unit"
        waits.append(holders)
        if len(waits) < 20:
            return
        if end == "is killed":
            process.kill()
        else:
            pretend_unit(base, plan, UnitStore(store.root))  # which it does once it continues
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.close()
        process.wait()

    work(plan, store, Watcher(on_wait=on_wait), poll_seconds=0.01)
    name = f"process {process.pid} on {os.uname().nodename}"
    assert waits == 20 * [[f"{name}, which is stopped; resume it with kill -CONT {process.pid}"]]
    assert ("base, seed 0" in titles) == (end == "is killed")
    assert len(titles) == len(set(titles))


@pytest.fixture
def configs(tmp_path: Path) -> tuple[SimulationConfig, SimulationConfig]:
    """Two configurations."""
    return plan_of(tmp_path).config, plan_of(tmp_path, ("seeds = [0]", "seeds = [1]")).config


def test_a_folder_has_one_configuration_at_a_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configs: tuple[SimulationConfig, SimulationConfig],
) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE_SECONDS", 0.1)
    run_dir, (one, other) = tmp_path / "run", configs
    line = r"another configuration is at work there, started by process \d+ on .*; wait for it, or"
    with at_work_in(run_dir, one) as replaced:
        assert not replaced
        before = (run_dir / "config.toml").read_bytes()
        with pytest.raises(LockHeldError, match=line), at_work_in(run_dir, other):
            pass
        with at_work_in(run_dir, one) as replaced:
            assert not replaced
        with pytest.raises(LockHeldError, match=line), at_work_in(run_dir, other):
            pass
        assert (run_dir / "config.toml").read_bytes() == before
    assert [path.name for path in run_dir.iterdir()] == ["config.toml"]
    with at_work_in(run_dir, other) as replaced:
        assert replaced
        assert (run_dir / "config.toml").read_bytes() != before


def test_of_those_that_start_at_the_same_instant_one_configuration_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configs: tuple[SimulationConfig, SimulationConfig],
) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE_SECONDS", 0.3)
    inside: list[SimulationConfig] = []
    refused: list[SimulationConfig] = []

    def enter(config: SimulationConfig) -> None:
        try:
            with at_work_in(tmp_path / "run", config):
                inside.append(config)
                assert len({id(config) for config in inside}) == 1
                time.sleep(0.6)
                assert len({id(config) for config in inside}) == 1
                inside.remove(config)
        except LockHeldError:
            refused.append(config)

    at_once(*(lambda config=config: enter(config) for config in (*configs, *configs)))
    assert len(refused) == 2
    assert refused[0] is refused[1]


def test_tables_are_written_by_one_at_a_time(tmp_path: Path) -> None:
    plan, store = plan_of(tmp_path), UnitStore(tmp_path / "units")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    told: list[str] = []
    with ExitStack() as theirs:
        theirs.enter_context(sole_writer(run_dir / ".tables.lock", of="tables"))
        refresh_tables(plan, store, run_dir)
        assert not (run_dir / "results.csv").exists()

        def on_wait(holder: str) -> None:
            told.append(holder)
            theirs.close()

        refresh_tables(plan, store, run_dir, on_wait=on_wait)
    assert told == [f"process {os.getpid()} on {os.uname().nodename}"]
    assert (run_dir / "results.csv").exists()


def test_tables_are_of_what_is_done_when_they_are_written(tmp_path: Path) -> None:
    # Not from what this process knew: another may have written newer ones and ended.
    plan, store = plan_of(tmp_path), UnitStore(tmp_path / "units")
    plan.expand(store)
    while left := [u for u in plan.expand(store).units.values() if not store.is_done(u.name)]:
        pretend_unit(left[0], plan, UnitStore(store.root))
    (tmp_path / "run").mkdir()
    refresh_tables(plan, UnitStore(store.root), tmp_path / "run")
    assert (tmp_path / "run" / "results.csv").read_text().count("\n") == 1 + 6


def test_units_that_cannot_be_locked_are_one_line(tmp_path: Path) -> None:
    store = UnitStore(tmp_path / "units")
    (tmp_path / "units").write_text("no folder")
    with pytest.raises(OutputError, match=r"units.* cannot be"), store.lock("base-0"):
        pass
    (tmp_path / "units").unlink()
    (tmp_path / "units" / ".locks" / "base-0").mkdir(parents=True)
    with pytest.raises(OutputError, match="as a lock file, but that is"), store.lock("base-0"):
        pass
