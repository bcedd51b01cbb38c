"""Recordings read ahead by threads: each gives its content, or what is wrong with it."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.errors import AudioError, EglError, one_line

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")

#: How long reading and decoding one recording may take by default.
READ_TIMEOUT_SECONDS = 120.0

_THREAD_NAME = "egl-reading"

#: How long to wait for threads when the loop is left.
_STOP_SECONDS = 5.0


def decoders_beside(device: torch.device) -> int:
    """Decoding threads: few if the CPU computes as well, all cores if a GPU does."""
    if device.type == "cpu":
        return 2
    if hasattr(os, "sched_getaffinity"):
        return max(2, len(os.sched_getaffinity(0)))
    return max(2, os.cpu_count() or 2)


def read_ahead(
    load: Callable[[Utterance], Result],
    utterances: Iterable[Utterance],
    *,
    num_threads: int,
    timeout_seconds: float | None = READ_TIMEOUT_SECONDS,
    ahead: int = 64,
) -> Generator[Result | EglError, None, None]:
    """The results of ``load`` for each recording, in order; a failure does not stop the others.

    libsndfile, soxr, and torch release the interpreter lock, so decoding overlaps with the
    consumer's own computation. Leaving the loop early abandons what has not begun.

    Args:
        load: called once per utterance, from any thread. Whatever it raises becomes the result.
        utterances: consumed lazily.
        num_threads: number of threads.
        timeout_seconds: how long one recording may take from when its turn comes; None: forever.
            One that takes longer is an error; its thread is abandoned and replaced.
        ahead: maximum number of waiting results.
    """
    source = iter(utterances)
    workers = _Workers(load)
    for _ in range(num_threads):
        workers.start_thread()
    waiting: deque[_Call[Result]] = deque()
    try:
        waiting.extend(map(workers.submit, islice(source, ahead)))
        while waiting:
            call = waiting.popleft()
            result: Result | EglError
            if call.ends_within(timeout_seconds):
                result = call.future.result()
            else:
                workers.replace(call)
                result = _failure(
                    call.utterance,
                    f"was not read within {timeout_seconds:g} s; check its disk, or raise "
                    "`score --read-timeout`",
                )
            waiting.extend(map(workers.submit, islice(source, 1)))
            yield result
    finally:
        workers.stop()


def abandoned_threads() -> bool:
    """Whether an abandoned call is still running, most likely in native code."""
    return any(thread.name == _THREAD_NAME for thread in threading.enumerate())


def _failure(utterance: Utterance, what: str) -> AudioError:
    return AudioError(f"{recording_name(utterance.audio_path)}: {what}")


def _attempt(load: Callable[[Utterance], Result], utterance: Utterance) -> Result | EglError:
    try:
        return load(utterance)
    except EglError as error:
        return error
    except MemoryError:
        return _failure(utterance, "does not fit into memory; cut it")
    except Exception as error:  # Whatever a decoder does to one recording, the others continue.
        return _failure(utterance, f"cannot be read ({type(error).__name__}: {one_line(error)})")


@dataclass
class _Call(Generic[Result]):
    utterance: Utterance
    future: Future[Result | EglError] = field(default_factory=Future)
    started: threading.Event = field(default_factory=threading.Event)
    started_at: float = 0.0
    thread: threading.Thread | None = None
    abandoned: bool = False

    def run(self, load: Callable[[Utterance], Result]) -> None:
        self.thread = threading.current_thread()
        self.started_at = time.monotonic()
        self.started.set()
        try:
            self.future.set_result(_attempt(load, self.utterance))
        except BaseException as error:
            self.future.set_exception(error)

    def ends_within(self, timeout_seconds: float | None) -> bool:
        left = None
        if timeout_seconds is not None:
            # Calls begin in order, and those before this one are over: it has begun or soon will.
            self.started.wait()
            left = max(0.0, self.started_at + timeout_seconds - time.monotonic())
        return bool(wait([self.future], left).done)


class _Workers(Generic[Result]):
    """Daemon threads: the process must not wait for one that hangs."""

    def __init__(self, load: Callable[[Utterance], Result]) -> None:
        self._load = load
        self._calls: queue.SimpleQueue[_Call[Result] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=_THREAD_NAME, daemon=True)
        self._threads.append(thread)
        thread.start()

    def replace(self, call: _Call[Result]) -> None:
        """Abandon the thread of a call; it ends with the call, if that ever ends."""
        call.abandoned = True
        self._threads = [thread for thread in self._threads if thread is not call.thread]
        self.start_thread()

    def submit(self, utterance: Utterance) -> _Call[Result]:
        call: _Call[Result] = _Call(utterance)
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
            call.run(self._load)
            if call.abandoned:
                return
