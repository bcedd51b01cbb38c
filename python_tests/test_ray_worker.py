"""The worker of a Ray cluster, without one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from egl_fast.data.manifest import Utterance
from egl_fast.ray.worker import ModelPlan, ScoringPlan, Worker
from egl_fast.scorer import Scorer
from egl_fast.scoring.options import ScoringOptions


class Pretended:
    """A scoring that notes which windows are read, and which threads compute."""

    def __init__(self) -> None:
        self.read = {0: threading.Event(), 1: threading.Event()}
        self.threads: set[int] = set()

    def loaded(self, utterances: Any) -> Iterator[tuple[None, dict[int, Any]]]:
        [one] = utterances
        self.read[one.line].set()
        yield None, {0: "read"}

    def work(self, scoring: Any, window: Any) -> Iterator[dict[int, Any]]:
        self.threads.add(threading.get_ident())
        # The first window is computed until the second is read.
        yield {position: self.read[1].wait(10) for position in window.utterances}


def test_the_next_window_is_read_while_one_is_computed(tmp_path: Path) -> None:
    plan, scoring = ScoringPlan(ScoringOptions()), Pretended()
    worker: Any = Worker(str(tmp_path), 1, on_gpu=False)
    worker._scorer, worker._scorings = object(), [(plan, scoring)]
    windows = [
        {n: Utterance(f"rec{n}", tmp_path / f"rec{n}.wav", 0.0, None, None, {}, n)} for n in (0, 1)
    ]
    with ThreadPoolExecutor(2) as asked:
        first = asked.submit(worker.do, plan, scoring.work, windows[0], frozenset())
        assert scoring.read[0].wait(10)
        second = asked.submit(worker.do, plan, scoring.work, windows[1], frozenset())
        assert (first.result().found, second.result().found) == ({0: True}, {1: True})
    assert len(scoring.threads) == 1


def test_the_model_is_loaded_where_it_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_threads: None
) -> None:
    threads: list[int] = []

    def loaded(*arguments: Any, **options: Any) -> Any:
        threads.append(threading.get_ident())
        return SimpleNamespace(memory_bytes=7)

    monkeypatch.setattr(Scorer, "from_pretrained", loaded)
    monkeypatch.setattr(Worker, "_keep_warnings", lambda self: None)
    monkeypatch.chdir(tmp_path)
    plan = ScoringPlan(ScoringOptions())
    worker: Any = Worker(str(tmp_path), 1, on_gpu=False)
    assert worker.load(ModelPlan("model.pt")).found == 7
    worker._scorings = [(plan, object())]
    worker.ask(plan, lambda _: threads.append(threading.get_ident()))
    assert threads[0] == threads[1] != threading.get_ident()
