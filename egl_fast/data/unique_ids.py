"""Whether ids are unique, for eight bytes each."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")

#: So many ids are looked through first, then twice as many, and so on.
_FIRST_LOOK = 1024


def without_repeats(
    named: Callable[[], Iterator[tuple[str, _T]]], error: Callable[[str, _T, _T], Exception]
) -> Iterator[_T]:
    """What has an id of its own, one at a time.

    Only hashes of ids are kept. Where two are equal, everything is read again to see whether the
    ids are, too.

    Args:
        named: ids, each with what it names; called again for a second look.
        error: given an id, and the first two things that it names.

    Raises:
        error: an id occurs twice: at the end, or earlier if there are many.
    """
    hashes = array("q")
    next_look = _FIRST_LOOK
    for identity, value in named():
        hashes.append(hash(identity))
        if len(hashes) == next_look:
            _refuse_repeats(hashes, named, error)
            next_look *= 2
        yield value
    _refuse_repeats(hashes, named, error)


def _refuse_repeats(
    hashes: array[int],
    named: Callable[[], Iterator[tuple[str, _T]]],
    error: Callable[[str, _T, _T], Exception],
) -> None:
    found = np.frombuffer(hashes, np.int64)
    found.sort()
    suspects = set(found[1:][found[1:] == found[:-1]].tolist())
    if not suspects:
        return
    first: dict[str, _T] = {}
    for identity, value in named():
        if hash(identity) in suspects:
            if identity in first:
                raise error(identity, first[identity], value)
            first[identity] = value
