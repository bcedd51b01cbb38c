"""Works through a plan, alone or with other processes that share the folder of units."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

import torch

from egl_fast.errors import CheckpointError
from egl_fast.evaluation.simulation.execution import CPU, Note, execute
from egl_fast.evaluation.simulation.plan import Expansion, Plan
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.units import Unit
from egl_fast.files.locking import LockHeldError

#: Consecutive looks that may find neither work nor workers; more mean a mistake in the plan.
_MAX_IDLE: Final = 10


@dataclass(frozen=True)
class State:
    """How far a simulation has come.

    Attributes:
        done: units finished, by any process.
        total: all units; slightly too many while sets are not yet known to be equal.
        left_seconds: estimated time left, from the units finished so far; None while unknown.
    """

    done: int
    total: int
    left_seconds: float | None


@dataclass
class Watcher:
    """What the work reports to its caller; ``on_wait`` gets the holders of everything ready."""

    on_start: Callable[[Unit, State], None] = lambda unit, state: None
    on_note: Note = lambda words: None
    on_finish: Callable[[Unit, Expansion, State], None] = lambda unit, expansion, state: None
    on_wait: Callable[[State, Sequence[str]], None] = lambda state, holders: None


def work(
    plan: Plan,
    store: UnitStore,
    watcher: Watcher | None = None,
    *,
    poll_seconds: float = 1.0,
    device: torch.device = CPU,
    do: Callable[..., None] | None = None,
) -> Expansion:
    """Do units until none is left; those that other processes hold are left to them.

    Args:
        plan: what is wanted.
        store: where units are.
        watcher: told about progress.
        poll_seconds: pause before looking again, where others hold everything that is ready.
        device: where to compute.
        do: does a unit elsewhere, as ``execute`` does it here.

    Returns:
        The plan with everything known.

    Raises:
        EglError: a unit cannot be done.
    """
    watcher, do = watcher or Watcher(), do or execute
    _sweep(plan.expand(store), store)
    made: set[str] = set()
    num_idle = 0
    while True:
        expansion = plan.expand(store)
        if not expansion.later and all(map(store.is_done, expansion.units)):
            if not plan.config.keep_models:
                _discard_models(expansion, expansion.units, store)
            return expansion
        with ExitStack() as stack:
            unit, holders = _claim(expansion, store, stack)
            workers = len(holders) + 1
            now = state_of(expansion, store, workers=workers)
            if unit is None:
                # No process at work: others have finished since the plan was expanded.
                num_idle = 0 if holders else num_idle + 1
                assert num_idle < _MAX_IDLE, "nothing can be done, and no process is at work"
                watcher.on_wait(now, holders)
                time.sleep(poll_seconds)
                continue
            num_idle = 0
            watcher.on_start(unit, now)
            try:
                do(unit, store, watcher.on_note, device=device)
            except CheckpointError:
                if unit.needs is None or store.has_model(unit.needs.name):
                    raise
                # Another simulation in the same folder had no more use for the model it starts
                # from: it is made again.
                continue
        made.add(unit.name)
        expansion = plan.expand(store)
        if not plan.config.keep_models:
            _discard_models(expansion, made, store)
        watcher.on_finish(unit, expansion, state_of(expansion, store, workers=workers))


def ready(expansion: Expansion, store: UnitStore) -> Iterator[Unit]:
    """What can be done now, in order."""
    for unit in expansion.units.values():
        if _is_wanted(unit, expansion, store) and (
            unit.needs is None or store.has_model(unit.needs.name)
        ):
            yield unit


def _is_wanted(unit: Unit, expansion: Expansion, store: UnitStore) -> bool:
    """Whether a unit is not done, or its model is gone and another unit starts from it."""
    if not store.is_done(unit.name):
        return True
    return unit.name in expansion.needed_models and not store.has_model(unit.name)


def state_of(expansion: Expansion, store: UnitStore, *, workers: int) -> State:
    """How far a plan has come, and how long this number of processes will take.

    Assumes that time is proportional to the audio of a unit, at the rate of its kind.
    """
    spent, audio, left = (defaultdict[str, float](float) for _ in range(3))
    done = 0
    for unit in expansion.units.values():
        if not store.is_done(unit.name):
            left[unit.kind] += unit.cost
            continue
        done += 1
        seconds = store.seconds(unit.name)
        if seconds is not None:
            spent[unit.kind] += seconds
            audio[unit.kind] += unit.cost
    for kind, cost in expansion.later.values():
        left[kind] += cost
    rates = {kind: spent[kind] / audio[kind] for kind in spent}
    if "base" in rates:  # until a query training gives a better rate
        rates.setdefault("train", rates["base"])
    seconds_left = None
    if set(left) <= set(rates):
        seconds_left = sum(rates[kind] * cost for kind, cost in left.items()) / workers
    return State(done, len(expansion.units) + len(expansion.later), seconds_left)


def _claim(
    expansion: Expansion, store: UnitStore, stack: ExitStack
) -> tuple[Unit | None, list[str]]:
    """A unit to do, if there is one, held until the stack ends; and the holders of others."""
    # All take the first free one, so what others hold mostly comes before it.
    holders = []
    for unit in ready(expansion, store):
        with ExitStack() as lock:
            try:
                lock.enter_context(store.lock(unit.name))
            except LockHeldError as error:
                holders.append(error.holder)
                continue
            if _is_wanted(unit, expansion, store):  # not finished between our look and our lock
                stack.push(lock.pop_all())
                return unit, holders
    return None, holders


def _discard_models(expansion: Expansion, names: Iterable[str], store: UnitStore) -> None:
    """Remove models of query trainings from which nothing in this plan starts anymore."""
    for name in names:
        # Base models are few, and other simulations in the same folder may start from them.
        is_query = expansion.units[name].kind == "train"
        if is_query and name not in expansion.needed_models and store.is_done(name):
            store.discard_model(name)


def _sweep(expansion: Expansion, store: UnitStore) -> None:
    """Remove the training states of processes that died right after writing their result."""
    for unit in expansion.units.values():
        if store.is_done(unit.name) and any(store.folder(unit.name).glob("run*")):
            with suppress(LockHeldError), store.lock(unit.name):
                store.discard_run(unit.name)
