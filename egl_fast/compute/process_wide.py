"""Settings of the whole process that several threads may change at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_V = TypeVar("_V")


class SharedChange(Generic[_V]):
    """A setting that the first thread changes and the last one restores.

    ``change`` sets a value, and returns a function that restores the previous one. If each thread
    did so itself, one that started second and ended last would restore what the first had changed.
    Threads that want the same value share it; one that wants another value waits until the others
    are done.

    Example:
        >>> said = []
        >>> loud = SharedChange(lambda value: said.append(value) or (lambda: said.append("back")))
        >>> with loud("on"), loud("on"):
        ...     pass
        >>> said
        ['on', 'back']
    """

    def __init__(self, change: Callable[[_V], Callable[[], None]]) -> None:
        self._change = change
        self._condition = threading.Condition()
        self._threads: Counter[int] = Counter()
        self._values: list[_V] = []
        self._undo: list[Callable[[], None]] = []

    @contextmanager
    def __call__(self, value: _V) -> Iterator[None]:
        """Keep the setting at a value while the context is open."""
        me = threading.get_ident()
        with self._condition:
            self._condition.wait_for(lambda: self._values[-1:] == [value] or self._alone(me))
            changes = self._values[-1:] != [value]
            if changes:
                self._undo.append(self._change(value))
                self._values.append(value)
            self._threads[me] += 1
        try:
            yield
        finally:
            with self._condition:
                # An inner change by the same thread is undone when it ends; only the outermost
                # is shared.
                nested = changes and len(self._values) > 1
                if nested:
                    self._condition.wait_for(lambda: self._alone(me))
                self._threads[me] -= 1
                self._threads += Counter()  # drops threads that count 0
                if nested or not self._threads:
                    self._values.pop()
                    self._undo.pop()()
                self._condition.notify_all()

    def _alone(self, thread: int) -> bool:
        return self._threads.keys() <= {thread}
