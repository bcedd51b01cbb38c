"""Which utterances share a batch: those of similar length, up to some seconds of padded audio."""

from __future__ import annotations

from collections.abc import Sequence


def length_batches(seconds: Sequence[float], *, batch_seconds: float) -> list[list[int]]:
    """Group utterances of similar length; a function of its arguments alone.

    Args:
        seconds: length of each utterance.
        batch_seconds: bound on (longest in the batch) x (its size); a longer utterance gets a batch
            of its own.

    Returns:
        Batches of indices into ``seconds``, shortest first, ties by index.

    Example:
        >>> length_batches([3.0, 1.0, 2.0, 1.0], batch_seconds=4.0)
        [[1, 3], [2], [0]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(seconds)), key=lambda i: (seconds[i], i)):
        # Sorted by length, so the new one is the longest of its batch.
        if batches and seconds[index] * (len(batches[-1]) + 1) <= batch_seconds:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
