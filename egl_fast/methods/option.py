"""One option of scoring: its default, range and help, stated where the option is.

Python's keyword arguments, the command line and a run's settings are all made from these.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import field, fields
from numbers import Real
from typing import Any


def option(default: Any, help: str, checked: Callable[[str, Any], Any], **facts: Any) -> Any:
    """A dataclass field that is an option.

    Args:
        default: its default.
        help: one sentence for ``--help``.
        checked: (name, value) -> the value as a plain Python one; ValueError where it is out of
            range, which begins with the name.
        **facts: more for the command line.
    """
    return field(default=default, metadata={"help": help, "checked": checked, **facts})


def integer(
    default: int | None, help: str, least: float = -math.inf, most: float = math.inf
) -> Any:
    """An integer in a range, or None if that is the default.

    The largest of most options are far beyond what fits into memory for an utterance of any length;
    what is larger still does not fit into an operator's arguments.
    """

    def checked(name: str, value: Any) -> int | None:
        if value is None and default is None:
            return None
        try:
            if isinstance(value, bool):
                raise TypeError
            number = operator.index(value)  # JSON cannot hold numpy's
        except TypeError:
            raise ValueError(f"{name}: expected an integer, got {value!r}") from None
        if number < least:
            raise ValueError(f"{name}: expected at least {least:g}, got {number}")
        if number > most:
            raise ValueError(f"{name}: expected at most {most:g}, got {number}")
        return number

    return option(default, help, checked, least=least)


def share(default: float, help: str) -> Any:
    """A number between 0 and 1."""

    def checked(name: str, value: Any) -> float:
        if not isinstance(value, Real) or not 0 < float(value) < 1:
            raise ValueError(f"{name}: expected a share between 0 and 1, got {value!r}")
        return float(value)

    return option(default, help, checked)


def flag(help: str) -> Any:
    """True or, by default, False."""

    def checked(name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected True or False, got {value!r}")
        return value

    return option(False, help, checked)


def check_options(holder: Any) -> None:
    """Replace the options of a frozen dataclass by plain Python values.

    Raises:
        ValueError: one is out of its range.
    """
    for one in fields(holder):
        value = one.metadata["checked"](one.name, getattr(holder, one.name))
        object.__setattr__(holder, one.name, value)
