"""Names and durations of utterances, as callers of ``Scorer`` give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any


def names_of(ids: Sequence[str] | None, count: int) -> list[str]:
    """The names of ``count`` utterances; "0", "1", ... if none are given.

    Raises:
        ValueError: there are more or fewer, or one is not a string.
    """
    if ids is None:
        return [str(n) for n in range(count)]
    names = [ids] if isinstance(ids, str) else list(ids)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"ids: expected strings, got {name!r}")
    if len(names) != count:
        raise ValueError(f"ids: expected {count}, got {len(names)}")
    return [str(name) for name in names]  # numpy has its own type of strings


def durations_of(durations: Sequence[float] | None, count: int) -> list[float]:
    """The lengths of ``count`` utterances in seconds; 0 if none are given.

    Raises:
        ValueError: there are more or fewer, or one is not a length.
    """
    given: list[Any] = [0.0] * count if durations is None else list(durations)
    if len(given) != count:
        raise ValueError(f"durations: expected {count}, got {len(given)}")
    for value in given:
        if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
            raise ValueError(f"durations: expected seconds, got {value!r}")
    return [float(value) for value in given]
