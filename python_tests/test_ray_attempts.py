"""What is tried when a window kills its workers, and how workers share a cluster; without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("ray")

from egl_fast.data.manifest import Utterance
from egl_fast.ray.attempts import attempts
from egl_fast.ray.workers import Request


def window(count: int) -> dict[int, Utterance]:
    return {
        n: Utterance(f"rec{n}", Path(f"rec{n}.wav"), 0.0, None, None, {}, n) for n in range(count)
    }


def followed(count: int, dies: Callable[[list[int]], bool]) -> tuple[dict[int, object], int]:
    """What is found in the end, where a result says with how many it was scored; and deaths."""
    ways, deaths = attempts(window(count)), 0
    positions = next(ways)
    try:
        while True:
            lost = dies(positions)
            deaths += lost
            found = None if lost else {n: len(positions) for n in positions}
            positions = ways.send(found)
    except StopIteration as end:
        return end.value, deaths


def test_a_window_that_survives_is_scored_whole() -> None:
    assert followed(64, lambda _: False) == (dict.fromkeys(range(64), 64), 0)


def test_workers_that_die_by_chance_change_nothing() -> None:
    deaths = iter([True, True, False])
    assert followed(64, lambda _: next(deaths)) == (dict.fromkeys(range(64), 64), 2)


@pytest.mark.parametrize("deadly", [{0}, {17}, {63}, {3, 40}])
def test_deadly_recordings_are_found_and_the_rest_is_scored_as_one_window(
    deadly: set[int],
) -> None:
    found, deaths = followed(64, lambda positions: bool(deadly.intersection(positions)))
    assert {n for n, result in found.items() if not isinstance(result, int)} == deadly
    assert {result for result in found.values() if isinstance(result, int)} == {64 - len(deadly)}
    assert "rec" in str(found[min(deadly)])
    assert deaths <= 12 * len(deadly)


def test_a_window_that_is_too_much_together_is_scored_in_parts() -> None:
    found, _ = followed(8, lambda positions: len(positions) > 3)
    assert found == dict.fromkeys(range(8), 2)


def test_a_deadly_recording_alone() -> None:
    found, _ = followed(1, lambda _: True)
    assert "cut it, or leave it out" in str(found[0])


@pytest.mark.parametrize(
    ("request_", "nodes", "expected"),
    [
        (Request(), [{"CPU": 8.0}, {"CPU": 4.0}], (2, 4)),
        (Request(workers=4), [{"CPU": 8.0}, {"CPU": 4.0}], (4, 2)),
        (Request(threads=2), [{"CPU": 8.0}, {"CPU": 4.0}, {}], (6, 2)),
        (Request(workers=5, threads=1), [{"CPU": 2.0}], (5, 1)),
        (Request(gpus_per_worker=1), [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 4.0}], (2, 8)),
        (Request(gpus_per_worker=0.5), [{"CPU": 16.0, "GPU": 2.0}], (4, 4)),
    ],
)
def test_workers_share_what_a_cluster_has(
    request_: Request, nodes: list[dict[str, float]], expected: tuple[int, int]
) -> None:
    assert request_.on(nodes) == expected


@pytest.mark.parametrize("request_", [Request(threads=9), Request(gpus_per_worker=1)])
def test_what_no_node_has_is_refused(request_: Request) -> None:
    with pytest.raises(ValueError, match="no node of the cluster has as many"):
        request_.on([{"CPU": 8.0}])
