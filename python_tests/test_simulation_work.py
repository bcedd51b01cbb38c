"""How processes share a folder of units, tested with units that take no time."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from simulations import plan_of, pretend_unit

from egl_fast.errors import CheckpointError
from egl_fast.evaluation.simulation import work as work_module
from egl_fast.evaluation.simulation.execution import CPU, Note
from egl_fast.evaluation.simulation.plan import Expansion, Plan
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.units import Unit
from egl_fast.evaluation.simulation.work import State, Watcher, ready, work
from egl_fast.files.locking import LockHeldError

PRETRAIN_SOURCE = """\
[[data.pretrain]]
manifest = "all.jsonl"
where = { part = "base" }
"""


@pytest.fixture
def store(tmp_path: Path) -> UnitStore:
    return UnitStore(tmp_path / "units")


class Pretended:
    """Replaces ``execute``; ``lose_base_before`` removes the base model before such a unit."""

    def __init__(self, plan: Plan, lose_base_before: str = "") -> None:
        self.plan = plan
        self.lose_base_before = lose_base_before
        self.titles: list[str] = []

    def __call__(
        self, unit: Unit, store: UnitStore, note: Note, *, device: torch.device = CPU
    ) -> None:
        if self.lose_base_before and unit.title.startswith(self.lose_base_before):
            self.lose_base_before = ""
            assert unit.needs is not None
            store.model_path(unit.needs.name).unlink()
        if unit.needs is not None and not store.has_model(unit.needs.name):
            raise CheckpointError(f"model of {unit.title}: no such file")
        self.titles.append(unit.title)
        assert len(self.titles) < 100, "endless"
        pretend_unit(unit, self.plan, store)


def test_a_model_that_another_simulation_removed_is_made_again(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    execute = Pretended(plan, lose_base_before="egl 25%")
    monkeypatch.setattr(work_module, "execute", execute)
    expansion = work(plan, store, poll_seconds=0)
    assert all(map(store.is_done, expansion.units))
    assert execute.titles.count("base, seed 0") == 2
    assert len(execute.titles) == len(expansion.units) + 1


def test_all_models_on_the_way_are_made_again(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after a checkout: there are results of a first simulation, but no model file.
    pretrained = ("[[data.valid]]", f"{PRETRAIN_SOURCE}\n[[data.valid]]")
    execute = Pretended(plan_of(tmp_path, pretrained))
    monkeypatch.setattr(work_module, "execute", execute)
    work(execute.plan, store, poll_seconds=0)
    for unit in execute.plan.expand(store).units:
        store.model_path(unit).unlink(missing_ok=True)
    execute.titles.clear()
    execute.plan = plan_of(tmp_path, pretrained, ('["25%", "50%"]', '["25%", "75%"]'))
    work(execute.plan, store, poll_seconds=0)
    # Both strategies pick the same recordings here.
    assert execute.titles == ["pretraining", "base, seed 0", "egl 75%, seed 0"]


def test_a_model_that_cannot_be_read_ends_the_work(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(unit: Unit, store: UnitStore, note: Note, *, device: torch.device = CPU) -> None:
        raise CheckpointError("model.pt: is cut short")

    monkeypatch.setattr(work_module, "execute", execute)
    with pytest.raises(CheckpointError, match="is cut short"):
        work(plan_of(tmp_path), store, poll_seconds=0)


def test_models_that_others_made_stay_while_there_is_work(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    monkeypatch.setattr(work_module, "execute", Pretended(plan))
    while (unit := next(ready(plan.expand(store), store))).kind != "train":
        pretend_unit(unit, plan, store)
    pretend_unit(unit, plan, store)
    kept = []

    def on_finish(finished: Unit, expansion: Expansion, state: State) -> None:
        assert not store.has_model(finished.name)
        kept.append(store.has_model(unit.name))

    work(plan, store, Watcher(on_finish=on_finish), poll_seconds=0)
    assert kept
    assert all(kept)
    assert not store.has_model(unit.name)


def test_others_may_finish_all_there_is_to_do_while_we_look(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    execute = Pretended(plan)
    monkeypatch.setattr(work_module, "execute", execute)
    expand = plan.expand
    theirs: list[str] = []
    looks: list[int] = []

    def expand_and_lose_the_race(store: UnitStore) -> Expansion:
        expansion = expand(store)
        # After the base model a process looks what came of it, and then for something to do: the
        # queries are not known yet, and all that is known gets done under its eyes.
        looks.append(len(execute.titles))
        if looks.count(1) == 2:
            for unit in expansion.units.values():
                if not store.is_done(unit.name):
                    theirs.append(unit.title)
                    pretend_unit(unit, plan, store)
        return expansion

    monkeypatch.setattr(plan, "expand", expand_and_lose_the_race)
    expansion = work(plan, store, poll_seconds=0)
    assert theirs == ["scores, seed 0", "all of it, seed 0"]
    assert all(map(store.is_done, expansion.units))


def test_the_model_of_a_round_stays_until_the_next_has_started_from_it(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, ("seeds = [0]", 'modes = ["sequential"]'))
    execute = Pretended(plan)
    monkeypatch.setattr(work_module, "execute", execute)
    units = work(plan, store, poll_seconds=0).units
    assert len(execute.titles) == len(units), "each is done once"
    assert {unit.kind for name, unit in units.items() if store.has_model(name)} == {"base"}


def test_a_unit_is_held_by_one_at_a_time(store: UnitStore) -> None:
    other = UnitStore(store.root)
    with store.lock("a"), other.lock("b"):
        with pytest.raises(LockHeldError) as caught, other.lock("a"):
            pass
        assert caught.value.holder == f"process {os.getpid()} on {os.uname().nodename}"
    with other.lock("a"):
        pass


def test_what_another_finished_before_we_held_it_is_not_done_again(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    execute = Pretended(plan)
    monkeypatch.setattr(work_module, "execute", execute)
    lock = store.lock

    def lock_too_late(name: str) -> AbstractContextManager[None]:
        unit = plan.expand(store).units[name]
        if unit.kind == "score":
            pretend_unit(unit, plan, store)
        return lock(name)

    monkeypatch.setattr(store, "lock", lock_too_late)
    expansion = work(plan, store, poll_seconds=0)
    assert all(map(store.is_done, expansion.units))
    assert not any(title.startswith("scores") for title in execute.titles)


def test_only_states_of_dead_processes_are_removed(
    tmp_path: Path, store: UnitStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    monkeypatch.setattr(work_module, "execute", Pretended(plan))
    base, *_ = work(plan, store, poll_seconds=0).units
    store.run_dir(base).mkdir()
    # Another simulation makes the model of a finished unit again.
    with UnitStore(store.root).lock(base):
        work(plan, store, poll_seconds=0)
        assert store.run_dir(base).exists()
    work(plan, store, poll_seconds=0)
    assert not store.run_dir(base).exists()
