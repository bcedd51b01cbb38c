"""Which utterances share a batch: neighbours in length, bounded by seconds of padded audio."""

from __future__ import annotations

from collections.abc import Sequence


def length_batches(seconds: Sequence[float], *, batch_seconds: float) -> list[list[int]]:
    """Indices grouped so that lengths are alike and a batch's padded audio stays in bounds.

    Args:
        seconds: length of each utterance.
        batch_seconds: bound on (longest of the batch) x (its size); an utterance longer than
            that gets a batch of its own.

    Returns:
        Batches of indices into ``seconds``, shortest first, ties by index. A function of its
        arguments alone.

    Example:
        >>> length_batches([3.0, 1.0, 2.0, 1.0], batch_seconds=4.0)
        [[1, 3], [2], [0]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(seconds)), key=lambda i: (seconds[i], i)):
        # Sorted by length, so the newcomer is the longest of its batch.
        if batches and seconds[index] * (len(batches[-1]) + 1) <= batch_seconds:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
