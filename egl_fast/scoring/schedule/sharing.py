"""Which utterances share backward passes, so that there is little padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: The fixed cost of a pass, in rows: even a few rows read all matrices and call all operators.
#: From `benchmarks/estimators.py passes`: 2.6 on two cores of 2025.
PASS_OVERHEAD_ROWS = 3

#: The same on a GPU, where a recurrent layer's frames wait for launches, not for products. On an
#: H200 two launches take as long as 450 rows of a GRU of 512 units, both forward and backward
#: (benchmarks/gpu_timings.py, docs/cuda.md).
CUDA_PASS_OVERHEAD_ROWS = 1000


def share_passes(
    num_rows: Sequence[int],
    seconds: Sequence[float],
    *,
    fits: Callable[[int, int, float], bool],
    overhead_rows: int = PASS_OVERHEAD_ROWS,
) -> list[list[int]]:
    """Groups of utterances whose rows are pulled back together; they depend on the arguments alone.

    A group is padded to its longest utterance and its largest number of rows. The utterances, in
    the order of their rows, are split into consecutive groups with the least total work, counted
    in rows times seconds.

    Args:
        num_rows: cotangents of each utterance.
        seconds: length of each utterance.
        fits: whether a pass can have (utterances, rows of each, seconds of each); not called for
            one utterance.
        overhead_rows: the fixed cost of a pass, in rows.

    Example:
        >>> share_passes([9, 2, 8, 2], [2.0, 1.5, 2.0, 1.5], fits=lambda n, r, s: n * r <= 20)
        [[1, 3], [2, 0]]
    """
    order = sorted(range(len(num_rows)), key=lambda i: (num_rows[i], seconds[i], i))
    # For the first j utterances: the least work, and the start of the last group.
    least, begins = [0.0], [0]
    for end in range(1, len(order) + 1):
        widest = num_rows[order[end - 1]]  # in this order, the last of a group has the most rows
        best, begin, longest = float("inf"), end - 1, 0.0
        for start in range(end - 1, -1, -1):
            size = end - start
            longest = max(longest, seconds[order[start]])
            if size > 1 and not fits(size, widest, longest):
                break
            work = least[start] + longest * (size * widest + overhead_rows)
            if work < best:
                best, begin = work, start
        least.append(best)
        begins.append(begin)
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.insert(0, order[begins[end] : end])
        end = begins[end]
    return groups
