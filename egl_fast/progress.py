"""Progress in notebooks and terminals, for callers from Python; commands have their own bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from egl_fast.errors import MissingExtraError

_T = TypeVar("_T")


def bar(total: int | None, *, description: str, units: str) -> Any:
    """A bar of ``tqdm.auto``: a widget in a notebook, a line in a terminal.

    Args:
        total: what it counts to; None: unknown.
        description: what is going on.
        units: what is counted.

    Raises:
        MissingExtraError: tqdm is not installed.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise MissingExtraError(
            "progress=True needs tqdm: pip install 'egl-fast[notebook]'"
        ) from None
    return tqdm(total=total, desc=description, unit=f" {units}")


def counted(
    items: Iterable[_T],
    total: int | None,
    *,
    description: str,
    units: str = "recordings",
    size: Callable[[_T], int] = lambda item: 1,
) -> Iterator[_T]:
    """The items, with a bar that advances by the ``size`` of each, from the first one on."""
    # Made here, not at `next()`: a missing package is reported by the call.
    shown = bar(total, description=description, units=units)

    def advancing() -> Iterator[_T]:
        with shown:
            for item in items:
                yield item
                shown.update(size(item))

    return advancing()
