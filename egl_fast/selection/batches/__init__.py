"""Picking a set rather than the top of a list: a file for each way.

The top of a list by any score fills a budget with one kind of recording. A way to choose a set is a
function ``order(candidates, scores, costs, *, num_picks, seed)`` that yields indices into the
candidates, best first, so that any start of what it yields is a good set for what that start costs.
A module of this package that has an ``order`` is one, under the module's name. One that looks at no
score says so: ``USES_SCORES = False``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

from egl_fast.errors import SelectionError
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.descriptions import descriptions


class Order(Protocol):
    """How a set is chosen."""

    def __call__(
        self,
        candidates: Candidates,
        scores: Sequence[float],
        costs: Sequence[float],
        *,
        num_picks: int,
        seed: int,
    ) -> Iterator[int]:
        """Indices, best first.

        Args:
            candidates: n utterances.
            scores: [n], higher is more informative.
            costs: [n], in the budget's currency; above zero.
            num_picks: about how many of them the budget pays for, at least 1.
            seed: of what is random.
        """
        ...


@cache
def described() -> dict[str, str]:
    """Name -> one line, of all ways to choose a set."""
    return descriptions(Path(__file__).parent)


@cache
def without_scores() -> tuple[str, ...]:
    """Names of the ways that look at no score."""
    return tuple(name for name in described() if not getattr(_module(name), "USES_SCORES", True))


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def order_by(name: str) -> Order:
    """The way that a name stands for.

    Raises:
        SelectionError: there is none of that name.
    """
    if name not in described():
        raise SelectionError(f"batch {name!r}: unknown; take one of {', '.join(described())}")
    order: Order = _module(name).order
    return order
