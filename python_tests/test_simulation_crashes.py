"""A simulation that ends or meets a full disk at any step resumes to the same bytes."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from recorded_disk import POWER, RecordedDisk, no_syncing, restore
from run_states import timeless
from simulations import plan_of

from egl_fast.checkpoint import read_torch
from egl_fast.errors import OutputError
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.run_folder import at_work_in, refresh_tables
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.work import Watcher, work


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A base model, its scores and one query."""
    return plan_of(
        tmp_path_factory.mktemp("data"),
        ('strategies = ["egl", "random"]', 'strategies = ["egl"]'),
        ('queries = ["25%", "50%"]', 'queries = ["25%"]'),
        ("seeds = [0]", "end_points = false"),
        ("max_epochs = 2", "max_epochs = 1"),
    )


def simulate(plan: Plan, run_dir: Path) -> None:
    """Do what ``egl-fast simulate`` does."""
    store = UnitStore(run_dir / "units")
    with at_work_in(run_dir, plan.config):
        watcher = Watcher(on_finish=lambda *_: refresh_tables(plan, store, run_dir))
        work(plan, store, watcher)
        refresh_tables(plan, store, run_dir)


def result(run_dir: Path) -> dict[str, Any]:
    """Everything in the folder except times."""
    found: dict[str, Any] = {}
    for path in run_dir.rglob("*"):
        name = str(path.relative_to(run_dir))
        if path.is_dir() or path.name == "timing.json":
            found[name] = None
        elif path.suffix == ".pt":
            found[name] = timeless(read_torch(path))
        elif path.name == "metrics.jsonl":
            found[name] = [timeless(json.loads(line)) for line in path.read_text().splitlines()]
        else:
            found[name] = path.read_bytes()
    # If a process dies right after it has finished a unit, nothing removes the unit's lock.
    return {name: content for name, content in found.items() if "/.locks/" not in name}


@pytest.fixture(scope="module")
def recorded(
    plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RecordedDisk, dict[str, Any]]:
    """An undisturbed run: its steps and its result."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    run_dir.mkdir()
    disk = RecordedDisk(run_dir)
    with disk.recording():
        simulate(plan, run_dir)
    return disk, result(run_dir)


@pytest.mark.parametrize("every", [19, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("power", POWER)
def test_every_crash_point(
    plan: Plan,
    recorded: tuple[RecordedDisk, dict[str, Any]],
    tmp_path: Path,
    power: str,
    every: int,
) -> None:
    disk, expected = recorded
    states = list(disk.states(power))
    assert len(states) > 20
    with no_syncing():
        for number, tree in enumerate(states[::every]):
            run_dir = tmp_path / str(number)
            restore(run_dir, tree)
            simulate(plan, run_dir)
            assert result(run_dir) == expected


@pytest.mark.parametrize("every", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_every_failing_step(
    plan: Plan, recorded: tuple[RecordedDisk, dict[str, Any]], tmp_path: Path, every: int
) -> None:
    disk, expected = recorded
    errors = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    for step in range(1, disk.steps + 1, every):
        run_dir = tmp_path / str(step)
        run_dir.mkdir()
        error = errors[step * 7 // 3 % 4]
        failing = RecordedDisk(run_dir, fail_from=step, error=error)
        try:
            with failing.recording():
                simulate(plan, run_dir)
        except OutputError as caught:
            line = str(caught)
            assert "\n" not in line
            assert str(run_dir) in line
            assert "cannot be " in line
            assert ("make room" in line) == (error in (errno.ENOSPC, errno.EDQUOT)), line
        else:
            # Only what is already done was to be removed.
            assert result(run_dir).items() >= expected.items(), step
        with no_syncing():
            simulate(plan, run_dir)
        assert result(run_dir) == expected, f"step {step}"


def test_a_folder_removed_while_simulating_is_one_line(plan: Plan, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    store = UnitStore(run_dir / "units")
    with at_work_in(run_dir, plan.config), pytest.raises(OutputError, match="cannot be written"):
        work(plan, store, Watcher(on_note=lambda words: shutil.rmtree(run_dir, ignore_errors=True)))
    assert not run_dir.exists()


def test_tables_of_units_that_may_not_be_written_to(
    plan: Plan,
    recorded: tuple[RecordedDisk, dict[str, Any]],
    tmp_path: Path,
) -> None:
    # As with a run on a read-only disk: nothing is locked, removed, or created.
    disk, expected = recorded
    run_dir = tmp_path / "run"
    restore(tmp_path / "whole", list(disk.states("killed"))[-1])
    read_only = RecordedDisk(tmp_path / "whole", fail_from=1, error=errno.EROFS)
    store = UnitStore(tmp_path / "whole" / "units")
    with read_only.recording(), at_work_in(run_dir, plan.config):
        work(plan, store)
        refresh_tables(plan, store, run_dir)
    assert (run_dir / "results.csv").read_bytes() == expected["results.csv"]
