"""Recordings read ahead: results in order, and those that hang abandoned."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.cli.main import _leave_abandoned_threads as leave_abandoned_threads
from egl_fast.data.manifest import Utterance
from egl_fast.data.reading import read_ahead
from egl_fast.errors import AudioError, EglError


def read(
    function: Callable[[int], int],
    numbers: Iterable[int],
    *,
    num_threads: int = 2,
    ahead: int = 64,
    timeout_seconds: float | None = None,
) -> Iterator[int | EglError]:
    """``read_ahead`` over utterances that stand for numbers."""
    return read_ahead(
        lambda utterance: function(int(utterance.id)),
        (Utterance(str(x), Path(f"{x}.wav"), 0.0, None, None, {}, 1) for x in numbers),
        num_threads=num_threads,
        ahead=ahead,
        timeout_seconds=timeout_seconds,
    )


@given(st.lists(st.integers(), max_size=60), st.integers(1, 8), st.integers(1, 4))
def test_results_come_in_the_order_of_the_items(
    items: list[int], ahead: int, num_threads: int
) -> None:
    results = read(lambda x: 3 * x, items, ahead=ahead, num_threads=num_threads)
    assert list(results) == [3 * x for x in items]


def test_an_exception_stands_where_its_result_would() -> None:
    found = list(read(lambda x: 6 // x, [1, 2, 3, 0, 6]))
    assert found[:3] + found[4:] == [6, 3, 2, 1]
    assert isinstance(found[3], AudioError)
    assert str(found[3]).startswith("audio 0.wav: cannot be read (ZeroDivisionError: ")


def test_items_are_drawn_no_further_ahead_than_asked() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for x in range(100):
            drawn.append(x)
            yield x

    results = read(lambda x: x, items(), ahead=3)
    assert next(results) == 0
    assert next(results) == 1
    # Two results are out, three more may wait.
    assert len(drawn) <= 5
    results.close()


def test_leaving_early_ends_the_threads() -> None:
    results = read(lambda x: x, range(1000), ahead=8)
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("egl-reading")]


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("egl-reading")]


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
        read(function, range(10), num_threads=num_threads, ahead=4, timeout_seconds=0.05)
    )
    for x, result in enumerate(results):
        if x in hanging:
            assert str(result).startswith(f"audio {x}.wav: was not read within 0.05 s; check its ")
        else:
            assert result == 3 * x
    assert len(results) == 10
    # Nothing waits for hanging calls, not even at the end.
    assert time.monotonic() - started < 4
    # A hanging thread is replaced, and takes no more work when it wakes.
    assert function.most_threads <= num_threads + len(hanging)
    function.released.set()
    for thread in threads():
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("timeout_seconds", [None, 60.0])
def test_a_timeout_of_the_call_itself_is_its_result(timeout_seconds: float | None) -> None:
    def fail(x: int) -> int:
        raise TimeoutError(f"the server of {x} is down")

    [found] = read(fail, [7], timeout_seconds=timeout_seconds)
    assert str(found) == "audio 7.wav: cannot be read (TimeoutError: the server of 7 is down)"


def test_time_before_a_call_begins_does_not_count() -> None:
    def slow(x: int) -> int:
        time.sleep(0.1)
        return x

    results = read(slow, range(6), num_threads=1, ahead=6, timeout_seconds=0.4)
    assert list(results) == list(range(6))


def test_a_decoder_that_was_given_up_does_not_abort_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)

    def hang(x: int) -> int:
        release.wait()
        return x

    [found] = read(hang, [0], timeout_seconds=0.01)
    assert isinstance(found, AudioError)
    try:
        leave_abandoned_threads(SystemExit(3))
        assert statuses == [3]
        leave_abandoned_threads(None)
        assert statuses == [3]
    finally:
        release.set()
