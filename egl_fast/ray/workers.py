"""Workers on a Ray cluster, replaced when they die, and windows of a pool on their way."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import ray as _ray
from ray.exceptions import RayError, RayTaskError

from egl_fast.data.manifest import Utterance
from egl_fast.errors import ClusterError, EglError, ModelError, one_line
from egl_fast.ray.attempts import Attempts, attempts
from egl_fast.ray.worker import ModelPlan, Reply, ScoringPlan, Worker
from egl_fast.scoring.run.scoring import Work
from egl_fast.warning import warn

if TYPE_CHECKING:
    from ray import ObjectRef

ray: Any = _ray  # half of it has no types

#: Ray runs what is asked of a worker in threads. glibc gives those arenas that cannot keep freed
#: memory, so that each large tensor pays for its pages again; all are to use the main arena.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "1"}

#: Windows that one worker has at a time: one is computed, one decoded.
_AT_A_TIME: Final = 2

#: How far windows may run ahead of one that takes long, for each worker.
_AHEAD: Final = 16

#: Between two looks at whether to stop.
_LOOK_SECONDS: Final = 1.0

#: After so long without a worker, a warning says what is waited for.
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Request:
    """Workers that are wanted; None where the cluster decides."""

    workers: int | None = None
    threads: int | None = None
    gpus_per_worker: float = 0.0

    def on(self, nodes: Sequence[Mapping[str, float]]) -> tuple[int, int]:
        """How many workers, and the CPUs of each.

        Args:
            nodes: the resources of each, by Ray's names.

        Raises:
            ValueError: no node has what one worker takes; the message begins with the option.

        Example:
            >>> Request(threads=4).on([{"CPU": 8.0}, {"CPU": 4.0}])
            (3, 4)
            >>> Request(gpus_per_worker=1).on([{"CPU": 16.0, "GPU": 2.0}])
            (2, 8)
        """
        gpus = self.gpus_per_worker
        cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("GPU", 0) >= gpus]
        if gpus and not cpus:
            raise ValueError(f"gpus-per-worker {gpus:g}: no node of the cluster has as many")
        if self.threads is not None and self.threads > max(cpus, default=0):
            raise ValueError(f"threads {self.threads}: no node of the cluster has as many CPUs")
        if gpus:
            fit = [int(node["GPU"] // gpus) for node in nodes if node.get("GPU", 0) >= gpus]
        elif self.threads is not None:
            fit = [own // self.threads for own in cpus]
        else:
            cpus = [own for own in cpus if own]
            fit = [-(-(self.workers or len(cpus)) // max(1, len(cpus)))] * len(cpus)
        count = self.workers or max(1, sum(fit))
        shares = [own // many for own, many in zip(cpus, fit, strict=True) if many]
        return count, self.threads or max(1, min(shares, default=1))


@dataclass(eq=False)
class _Task:
    """A window, and what is tried with it."""

    index: int
    window: Mapping[int, Utterance]
    completed: frozenset[int]
    ways: Attempts
    positions: list[int] = field(default_factory=list)  # what is tried now
    suspected: bool = False  # a worker died that had it: it gets a worker of its own

    def advance(self, found: dict[int, Any] | None = None) -> dict[int, Any] | None:
        """On to the next attempt, or else what was found in the end."""
        try:
            self.positions = self.ways.send(found) if self.positions else next(self.ways)
        except StopIteration as end:
            result: dict[int, Any] = end.value
            return result
        return None


@dataclass(eq=False)
class _Place:
    """A worker, and what it was asked."""

    actor: Any
    loading: ObjectRef[Any] | None
    running: dict[ObjectRef[Any], _Task] = field(default_factory=dict)

    @property
    def refs(self) -> list[ObjectRef[Any]]:
        return [*self.running, *([] if self.loading is None else [self.loading])]


class Workers:
    """Workers with a model, for as long as the context is open.

    Args:
        request: how many, and what each gets.
        model: the model.

    Raises:
        ValueError: no node of the cluster has what one worker takes.
    """

    def __init__(self, request: Request, model: ModelPlan) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        count, self._threads = request.on(nodes)
        self._gpus = request.gpus_per_worker
        self._model = model
        self._said: set[str] = set()
        self._lost_in_a_row = 0
        self._since = time.monotonic()
        #: Workers that died so far.
        self.num_lost = 0
        self._places = [self._start() for _ in range(count)]

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for place in self._places:
            _end(place)

    def ask(self, plan: ScoringPlan, question: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of the first worker that has one; see ``Scoring.ask``."""
        while True:
            place = next((place for place in self._places if place.loading is None), None)
            if place is None:
                self._arrivals()  # models that are loaded, nothing else was asked
                continue
            reply = self._reply(place.actor.ask.remote(plan, question, *arguments))
            if reply is not None:
                return reply.found
            self._replace(place)

    def results(
        self,
        plan: ScoringPlan,
        work: Work[Any],
        windows: Iterable[tuple[Mapping[int, Utterance], frozenset[int]]],
        stop: Event | None,
    ) -> Iterator[tuple[Mapping[int, Utterance], dict[int, Any]]]:
        """Windows with all that was found, as they are done.

        Args:
            plan: what is computed.
            work: see ``Scoring.in_windows``.
            windows: with the positions that are completed; taken as there is room for them.
            stop: see ``Scoring.in_windows``.
        """
        source = iter(enumerate(windows))
        suspects: deque[_Task] = deque()
        open_windows: set[int] = set()
        limit = _AHEAD * len(self._places)
        latest = -1
        exhausted = False

        def next_task() -> _Task | None:
            nonlocal latest, exhausted
            if suspects:
                return suspects.popleft()
            if open_windows and latest - min(open_windows) >= limit:
                return None
            for index, (window, completed) in source:
                task = _Task(index, window, completed, attempts(window))
                task.advance()
                open_windows.add(index)
                latest = index
                return task
            exhausted = True
            return None

        def assign() -> None:
            for load in range(_AT_A_TIME):
                for place in self._places:
                    if place.loading is not None or len(place.running) != load:
                        continue
                    # Suspects wait for workers to become idle, so none gets a second window.
                    if load and (suspects or any(t.suspected for t in place.running.values())):
                        continue
                    task = next_task()
                    if task is None:
                        return
                    own = {position: task.window[position] for position in task.positions}
                    ref = place.actor.do.remote(plan, work, own, task.completed)
                    place.running[ref] = task

        try:
            while True:
                stopped = stop is not None and stop.is_set()
                if not stopped:
                    assign()
                if not any(place.running for place in self._places) and (
                    stopped or (exhausted and not open_windows)
                ):
                    return
                for task, found in self._arrivals():
                    task.suspected |= found is None
                    result = task.advance(found)
                    if result is None:
                        suspects.append(task)
                    else:
                        open_windows.remove(task.index)
                        yield task.window, result
        finally:
            for place in self._places:
                place.running.clear()

    def _start(self) -> _Place:
        actor = (
            ray.remote(Worker)
            .options(
                num_cpus=self._threads,
                num_gpus=self._gpus,
                max_concurrency=_AT_A_TIME,
                scheduling_strategy="SPREAD",
                runtime_env={"env_vars": _ENVIRONMENT},
            )
            .remote(os.getcwd(), self._threads, self._gpus > 0)
        )
        return _Place(actor, actor.load.remote(self._model))

    def _replace(self, place: _Place) -> None:
        _end(place)
        self.num_lost += 1
        self._lost_in_a_row += 1
        # More than a window with a deadly recording takes to find it.
        if self._lost_in_a_row > 16 + 4 * len(self._places):
            raise ClusterError(
                f"Ray cluster: {self._lost_in_a_row} workers died one after another; their logs "
                "(`ray logs`, or /tmp/ray/session_latest/logs) say why"
            )
        self._places[self._places.index(place)] = self._start()

    def _arrivals(self) -> list[tuple[_Task, dict[int, Any] | None]]:
        """What has come within a moment: tasks with what was found, or None if the worker died."""
        owners = {ref: place for place in self._places for ref in place.refs}
        ready, _ = ray.wait(list(owners), num_returns=1, timeout=_LOOK_SECONDS)
        self._say_what_is_waited_for(is_idle=not ready)
        arrived: list[tuple[_Task, dict[int, Any] | None]] = []
        for ref in ready:
            place = owners[ref]
            reply = self._reply(ref)
            if reply is None:
                self._replace(place)
                arrived += [(task, None) for task in place.running.values()]
            elif ref == place.loading:
                place.loading = None
                if self._model.memory_bytes is None:
                    self._model = replace(self._model, memory_bytes=reply.found)
                elif self._model.memory_bytes != reply.found:  # its node has more or less
                    place.loading = place.actor.load.remote(self._model)
            else:
                self._lost_in_a_row = 0
                arrived.append((place.running.pop(ref), reply.found))
        return arrived

    def _reply(self, ref: ObjectRef[Any]) -> Reply | None:
        """A worker's reply; None if it is lost."""
        try:
            reply: Reply = ray.get(ref)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, EglError):
                raise cause from None
            raise ModelError(
                f"a worker failed with {type(cause).__name__}: {one_line(cause)}"
            ) from error
        except RayError:
            return None
        for message in reply.warnings:
            if message not in self._said:
                self._said.add(message)
                warn(message)
        return reply

    def _say_what_is_waited_for(self, *, is_idle: bool) -> None:
        if not is_idle or any(place.loading is None for place in self._places):
            self._since = time.monotonic()
        elif time.monotonic() - self._since > _PATIENCE_SECONDS:
            self._since = float("inf")
            free = ray.available_resources()
            warn(
                f"no worker is ready after {_PATIENCE_SECONDS:.0f} s: each takes {self._threads} "
                f"CPUs and {self._gpus:g} GPUs, and {free.get('CPU', 0):g} CPUs and "
                f"{free.get('GPU', 0):g} GPUs are free on the cluster"
            )


def _end(place: _Place) -> None:
    with suppress(Exception):
        ray.kill(place.actor)
