"""What is tried when the worker that scores a window dies, and dies again.

Most workers die for reasons of their own: a node is lost, a spot instance is taken back. So the
whole window is tried again. If it keeps killing its workers, one of its recordings is looked for
that does so alone. What is left is then scored as a window without it, as if it were unreadable:
batches, and so the last digits of scores, depend on all that is in a window.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError, ModelError

#: How often a window, or a recording alone, may kill its worker.
ATTEMPTS: Final = 3

#: Positions to be scored together -> what was found, or None if the worker died. Returns what was
#: found in the end of each position.
Attempts: TypeAlias = Generator[list[int], dict[int, Any] | None, dict[int, Any]]


def attempts(window: Mapping[int, Utterance]) -> Attempts:
    """The ways to score a window, one after another, until one succeeds."""
    positions = list(window)
    found = yield from _tried(positions, ATTEMPTS)
    if found is not None:
        return found
    pieces: dict[int, Any] = {}
    deadly: dict[int, EglError] = {}
    parts = _halves(positions)
    while parts:
        part = parts.pop()
        # A part that is divided needs no second try; a recording must not be blamed by chance.
        found = yield from _tried(part, ATTEMPTS if len(part) == 1 else 1)
        if found is not None:
            pieces |= found
        elif len(part) > 1:
            parts += reversed(_halves(part))
        else:
            deadly[part[0]] = _blamed(window[part[0]])
    rest = [position for position in positions if position not in deadly]
    found = (yield from _tried(rest, ATTEMPTS)) if rest else {}
    return deadly | (pieces if found is None else found)


def _tried(positions: list[int], times: int) -> Attempts | Generator[Any, Any, Any]:
    for _ in range(times):
        found = yield positions
        if found is not None:
            return found
    return None


def _halves(positions: Sequence[int]) -> list[list[int]]:
    middle = (len(positions) + 1) // 2
    return [list(half) for half in (positions[:middle], positions[middle:]) if half]


def _blamed(utterance: Utterance) -> EglError:
    return ModelError(
        f"utterance {utterance.id!r}: its worker died each of {ATTEMPTS} times that it was scored "
        "alone, out of memory or in native code; cut it, or leave it out"
    )
