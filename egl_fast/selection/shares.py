"""An order of a pool in which groups of recordings get fair shares of every budget."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence


def in_shares(
    groups: Sequence[Hashable],
    scores: Sequence[float],
    costs: Sequence[float],
    *,
    weight: Callable[[float], float] = math.sqrt,
) -> Iterator[int]:
    """All recordings, so that any start of the order spends on each group what is its share.

    A group's share is proportional to ``weight`` of what all of it costs. The root lets a group a
    hundred times as large get ten times as much: rare kinds are seen, common ones still dominate.
    The next recording comes from the group that has spent least for its weight once half of the
    recording is paid (Webster's method of apportionment, with costs for seats); in it, the highest
    score comes first.

    Args:
        groups: [n] any hashable names.
        scores: [n], higher first within a group; ties keep their order.
        costs: [n] in seconds, records or money; above zero.
        weight: from a group's cost to its share.

    Example:
        >>> list(in_shares("aaaab", scores=[1, 4, 3, 2, 0], costs=[1] * 5))
        [1, 4, 2, 3, 0]
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    queue: list[tuple[float, int]] = []
    lines: list[Iterator[int]] = []
    state: list[list[float]] = []  # weight and what was spent
    upcoming: list[int] = []

    def push(number: int) -> None:
        index = next(lines[number], None)
        if index is None:
            return
        upcoming[number] = index
        share, spent = state[number]
        heapq.heappush(queue, ((spent + costs[index] / 2) / share, number))

    for number, indices in enumerate(members.values()):
        lines.append(iter(sorted(indices, key=lambda index: -scores[index])))
        state.append([weight(math.fsum(costs[index] for index in indices)), 0.0])
        upcoming.append(-1)
        push(number)
    while queue:
        _, number = heapq.heappop(queue)
        yield upcoming[number]
        state[number][1] += costs[upcoming[number]]
        push(number)
