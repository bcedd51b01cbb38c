"""One option of scoring: its default, range and help, stated where the option is.

Python's keyword arguments, the command line and a run's settings are all made from these.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any


@dataclass(frozen=True)
class Option:
    """What an option may be. Any value, unless a subclass says otherwise.

    Attributes:
        help: one sentence for ``--help``.
    """

    help: str

    def checked(self, name: str, value: Any) -> Any:
        """The value as a plain Python one.

        Raises:
            ValueError: the option cannot have it.
        """
        return value


@dataclass(frozen=True)
class Integer(Option):
    """An integer from ``least`` to ``most``, or None if that is the default.

    The largest of most options are far beyond what fits into memory for an utterance of any length;
    what is larger still does not fit into an operator's arguments.
    """

    least: float = -math.inf
    most: float = math.inf
    optional: bool = False

    def checked(self, name: str, value: Any) -> int | None:
        """See ``Option``; numpy's integers become Python's, which JSON can hold."""
        if value is None and self.optional:
            return None
        try:
            if isinstance(value, bool):
                raise TypeError
            number = operator.index(value)
        except TypeError:
            raise ValueError(f"{name}: expected an integer, got {value!r}") from None
        if number < self.least:
            raise ValueError(f"{name}: expected at least {self.least:g}, got {number}")
        if number > self.most:
            raise ValueError(f"{name}: expected at most {self.most:g}, got {number}")
        return number


@dataclass(frozen=True)
class Share(Option):
    """A number between 0 and 1."""

    def checked(self, name: str, value: Any) -> float:
        """See ``Option``."""
        if not isinstance(value, Real) or not 0 < float(value) < 1:
            raise ValueError(f"{name}: expected a share between 0 and 1, got {value!r}")
        return float(value)


@dataclass(frozen=True)
class Flag(Option):
    """True or False."""

    def checked(self, name: str, value: Any) -> bool:
        """See ``Option``."""
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected True or False, got {value!r}")
        return value


@dataclass(frozen=True)
class Patterns(Option):
    """Shell patterns in one string, separated by commas; or None."""

    def checked(self, name: str, value: Any) -> str | None:
        """See ``Option``."""
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        raise ValueError(
            f"{name}: expected one string of patterns separated by commas, or None, got {value!r}"
        )


def option(default: Any, what: Option) -> Any:
    """A dataclass field that is an option; ``check_options`` checks it."""
    return field(default=default, metadata={"option": what})


def options_of(kind: Any) -> dict[str, tuple[Option, Any]]:
    """Name -> (option, default) of a dataclass, in its order."""
    return {f.name: (f.metadata["option"], f.default) for f in fields(kind)}


def check_options(holder: Any) -> None:
    """Replace the options of a frozen dataclass by plain Python values.

    Raises:
        ValueError: one is out of its range; the message begins with its name.
    """
    for name, (what, _) in options_of(holder).items():
        object.__setattr__(holder, name, what.checked(name, getattr(holder, name)))
