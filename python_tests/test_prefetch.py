"""Work done ahead in threads: results come in order, and hanging calls are given up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.cli.main import _leave_abandoned_threads as leave_abandoned_threads
from egl_fast.data.prefetch import prefetch


@given(st.lists(st.integers(), max_size=60), st.integers(1, 8), st.integers(1, 4))
def test_results_come_in_the_order_of_the_items(
    items: list[int], ahead: int, num_threads: int
) -> None:
    results = prefetch(lambda x: 3 * x, items, ahead=ahead, num_threads=num_threads)
    assert list(results) == [3 * x for x in items]


def test_an_exception_surfaces_where_its_result_would_have() -> None:
    results = prefetch(lambda x: 6 // x, [1, 2, 3, 0, 6])
    assert [next(results) for _ in range(3)] == [6, 3, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_items_are_drawn_no_further_ahead_than_asked() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for x in range(100):
            drawn.append(x)
            yield x

    results = prefetch(lambda x: x, items(), ahead=3)
    assert next(results) == 0
    assert next(results) == 1
    # Two results are out, three more may wait.
    assert len(drawn) <= 5
    results.close()


def test_leaving_early_ends_the_threads() -> None:
    results = prefetch(lambda x: x, range(1000), ahead=8)
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("egl-prefetch")]


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("egl-prefetch")]


class Hanging:
    """Triples numbers, but hangs on some of them until it is released."""

    def __init__(self, *hanging: int) -> None:
        self.hanging = hanging
        self.released = threading.Event()
        self.most_threads = 0

    def __call__(self, x: int) -> int:
        self.most_threads = max(self.most_threads, len(threads()))
        if x in self.hanging:
            assert self.released.wait(60)
        return 3 * x


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("hanging", [(0,), (3, 4, 5, 6), (9,), tuple(range(10))])
def test_calls_that_hang_are_given_up_and_the_others_go_on(
    num_threads: int, hanging: tuple[int, ...]
) -> None:
    function = Hanging(*hanging)
    started = time.monotonic()
    results = list(
        prefetch(
            function,
            range(10),
            num_threads=num_threads,
            ahead=4,
            timeout_seconds=0.05,
            on_timeout=lambda x: -x,
        )
    )
    assert results == [-x if x in hanging else 3 * x for x in range(10)]
    # Nothing waits for hanging calls, not even at the end.
    assert time.monotonic() - started < 4
    # A hanging thread is replaced, and takes no more work when it wakes.
    assert function.most_threads <= num_threads + len(hanging)
    function.released.set()
    for thread in threads():
        thread.join(60)
        assert not thread.is_alive()


def test_without_a_substitute_a_call_that_hangs_raises() -> None:
    function = Hanging(1)
    results = prefetch(function, range(3), timeout_seconds=0.05)
    assert next(results) == 0
    with pytest.raises(TimeoutError, match=r"^took longer than 0.05 s$"):
        next(results)
    function.released.set()


@pytest.mark.parametrize("timeout_seconds", [None, 60.0])
def test_a_timeout_of_the_call_itself_is_its_result(timeout_seconds: float | None) -> None:
    def fail(x: int) -> int:
        raise TimeoutError(f"the server of {x} is down")

    results = prefetch(fail, [7], timeout_seconds=timeout_seconds, on_timeout=lambda x: x)
    with pytest.raises(TimeoutError, match=r"^the server of 7 is down$"):
        next(results)


def test_time_before_a_call_begins_does_not_count() -> None:
    def slow(x: int) -> int:
        time.sleep(0.1)
        return x

    results = prefetch(slow, range(6), num_threads=1, ahead=6, timeout_seconds=0.4)
    assert list(results) == list(range(6))


def test_a_decoder_that_was_given_up_does_not_abort_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)

    def hang(seconds: float) -> float:
        release.wait()
        return seconds

    results = prefetch(hang, [0.0], timeout_seconds=0.01, on_timeout=lambda item: -1.0)
    assert list(results) == [-1.0]
    try:
        leave_abandoned_threads(SystemExit(3))
        assert statuses == [3]
        leave_abandoned_threads(None)
        assert statuses == [3]
    finally:
        release.set()
