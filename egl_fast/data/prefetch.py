"""Work done ahead in threads, with results in order."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_NAME = "egl-prefetch"

#: How long to wait for threads when the loop is left.
_STOP_SECONDS = 5.0


def decoders_beside(device: torch.device) -> int:
    """Decoding threads: few if the CPU computes, too; all cores if a GPU does."""
    if device.type == "cpu":
        return 2
    if hasattr(os, "sched_getaffinity"):
        return max(2, len(os.sched_getaffinity(0)))
    return max(2, os.cpu_count() or 2)


def prefetch(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: int = 64,
    num_threads: int = 2,
    timeout_seconds: float | None = None,
    on_timeout: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """``map(function, items)``, computed up to ``ahead`` items in advance by threads.

    libsndfile, soxr, and torch release the interpreter lock, so decoding overlaps with the
    consumer's own computation. An exception surfaces in place of its result. Leaving the loop early
    abandons what has not begun.

    Args:
        function: called once per item, from any thread.
        items: consumed lazily, in order.
        ahead: maximum number of waiting results.
        num_threads: number of threads.
        timeout_seconds: how long one call may take from its start; None: forever. A call that takes
            longer is abandoned, and its thread replaced.
        on_timeout: gives the result of an item whose call took too long; without it,
            ``TimeoutError`` is raised.

    Example:
        >>> list(prefetch(lambda x: x * x, [1, 2, 3]))
        [1, 4, 9]
    """
    source = iter(items)
    workers = _Workers(function)
    for _ in range(num_threads):
        workers.start_thread()
    waiting: deque[_Call[Item, Result]] = deque()
    try:
        waiting.extend(workers.submit(item) for item in islice(source, ahead))
        while waiting:
            call = waiting.popleft()
            try:
                result = call.result(timeout_seconds)
            except _TimedOutError:
                workers.replace(call)
                if on_timeout is None:
                    raise TimeoutError(f"took longer than {timeout_seconds:g} s") from None
                result = on_timeout(call.item)
            waiting.extend(workers.submit(item) for item in islice(source, 1))
            yield result
    finally:
        workers.stop()


def abandoned_threads() -> bool:
    """Whether an abandoned call is still running, most likely in native code."""
    return any(thread.name == _THREAD_NAME for thread in threading.enumerate())


class _TimedOutError(Exception):
    pass


@dataclass
class _Call(Generic[Item, Result]):
    item: Item
    future: Future[Result] = field(default_factory=Future)
    started: threading.Event = field(default_factory=threading.Event)
    started_at: float = 0.0
    thread: threading.Thread | None = None
    given_up: bool = False

    def run(self, function: Callable[[Item], Result]) -> None:
        self.thread = threading.current_thread()
        self.started_at = time.monotonic()
        self.started.set()
        try:
            self.future.set_result(function(self.item))
        except BaseException as error:
            self.future.set_exception(error)

    def result(self, timeout_seconds: float | None) -> Result:
        if timeout_seconds is None:
            return self.future.result()
        # Calls begin in order, and those before this one are over, so it has begun or soon will.
        self.started.wait()
        left = self.started_at + timeout_seconds - time.monotonic()
        try:
            return self.future.result(max(0.0, left))
        except FutureTimeoutError:
            # The TimeoutError may be the call's own, and thus its result.
            if self.future.done():
                return self.future.result()
            raise _TimedOutError from None


class _Workers(Generic[Item, Result]):
    """Daemon threads: the process must not wait for one that hangs."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self._function = function
        self._calls: queue.SimpleQueue[_Call[Item, Result] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=_THREAD_NAME, daemon=True)
        self._threads.append(thread)
        thread.start()

    def replace(self, call: _Call[Item, Result]) -> None:
        """Leave the thread of a call behind; it ends with the call, if that ever ends."""
        call.given_up = True
        self._threads = [thread for thread in self._threads if thread is not call.thread]
        self.start_thread()

    def submit(self, item: Item) -> _Call[Item, Result]:
        call: _Call[Item, Result] = _Call(item)
        self._calls.put(call)
        return call

    def stop(self) -> None:
        self._stopped = True
        for _ in self._threads:
            self._calls.put(None)
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (call := self._calls.get()) is not None and not self._stopped:
            call.run(self._function)
            if call.given_up:
                return
