"""How a message names an argument: as Python callers write it or, in a command, as an option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: Arguments whose option is not the same words with hyphens.
_OPTIONS = {"memory_bytes": "memory"}

_speaks_of_options = False


@contextmanager
def as_options() -> Iterator[None]:
    """While the context is open, name arguments as options: a command is running."""
    global _speaks_of_options
    before, _speaks_of_options = _speaks_of_options, True
    try:
        yield
    finally:
        _speaks_of_options = before


def named(argument: str, value: object = None) -> str:
    """An argument, with its value if there is one.

    Example:
        >>> named("drop_atypical", "10%")
        "drop_atypical='10%'"
        >>> with as_options():
        ...     named("drop_atypical", "10%")
        '--drop-atypical 10%'
    """
    if _speaks_of_options:
        option = f"--{_OPTIONS.get(argument, argument).replace('_', '-')}"
        return option if value is None else f"{option} {value}"
    return argument if value is None else f"{argument}={value!r}"
