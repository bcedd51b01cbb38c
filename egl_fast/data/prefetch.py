"""Work done ahead in threads, results taken in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def decoders_beside(device: torch.device) -> int:
    """Threads to decode in: few where the CPU computes, too, and all its cores where a GPU does."""
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
) -> Iterator[Result]:
    """``map(function, items)``, computed up to ``ahead`` items in advance by threads.

    libsndfile, soxr and torch release the interpreter lock, so decoding runs beside the
    consumer's own computation. An exception surfaces where its result would have. Leaving
    the loop early abandons what has not begun.

    Args:
        function: called once an item, from any thread.
        items: consumed lazily, in order.
        ahead: results that may wait.
        num_threads: threads at work.

    Example:
        >>> list(prefetch(lambda x: x * x, [1, 2, 3]))
        [1, 4, 9]
    """
    source = iter(items)
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="egl-prefetch")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in islice(source, ahead):
            waiting.append(pool.submit(function, item))
        while waiting:
            result = waiting.popleft().result()
            for item in islice(source, 1):
                waiting.append(pool.submit(function, item))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
