"""Workers and the windows of a pool, with a pretended Ray whose workers answer at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from egl_fast.data.manifest import Utterance
from egl_fast.ray import workers
from egl_fast.ray.worker import ModelPlan, Reply, ScoringPlan
from egl_fast.ray.workers import Request, Workers
from egl_fast.scoring.options import ScoringOptions

PLAN = ScoringPlan(ScoringOptions())


class Stub:
    """In place of a worker: finds the position of each recording."""

    def load(self, model: ModelPlan) -> Reply:
        return Reply(0, [])

    def do(self, plan: Any, work: Any, window: Mapping[int, Utterance], completed: Any) -> Reply:
        return Reply({position: position for position in window}, [])


class PretendedRay:
    """As much of Ray as workers need."""

    def __init__(self, num_cpus: int) -> None:
        self.num_cpus = num_cpus
        self.found: dict[Any, Reply] = {}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Resources": {"CPU": float(self.num_cpus)}, "Alive": True}]

    def remote(self, kind: type) -> Any:
        def call(method: Any) -> Any:
            def remote(*arguments: Any) -> object:
                ref = object()
                self.found[ref] = method(*arguments)
                return ref

            return SimpleNamespace(remote=remote)

        worker = Stub()
        actor = SimpleNamespace(load=call(worker.load), do=call(worker.do))
        started = SimpleNamespace(remote=lambda *arguments: actor)
        return SimpleNamespace(options=lambda **options: started)

    def wait(self, refs: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        return refs[-1:], refs[:-1]

    def get(self, ref: Any) -> Reply:
        return self.found.pop(ref)

    def kill(self, actor: Any) -> None:
        pass


def window(number: int) -> dict[int, Utterance]:
    return {number: Utterance(f"{number}", Path(f"{number}.wav"), 0.0, None, None, {}, number)}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_windows_are_taken_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    monkeypatch.setattr(workers, "ray", PretendedRay(num_workers))
    taken = 0

    def windows() -> Iterator[tuple[dict[int, Utterance], frozenset[int]]]:
        nonlocal taken
        for taken in range(1, 101):
            yield window(taken), frozenset()

    done: list[int] = []
    with Workers(Request(num_workers, 1), ModelPlan("model")) as open_workers:
        # Nothing was asked before: models are still being loaded.
        for own, found in open_workers.results(PLAN, Any, windows(), None):
            assert own.keys() == found.keys()
            done += found
            assert taken <= len(done) + 2 * num_workers
    assert sorted(done) == list(range(1, 101))
