"""Options that would do nothing are errors: whoever gives one expects it to have an effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

Command = Callable[..., Any]


class Rules(NamedTuple):
    """When options of a command do nothing.

    Attributes:
        without: option -> what it needs: another option that is given, or has a value, as in
            ``"--method lowrank"`` (or ``"--method lowrank|probe"``, one of several).
        beside: option -> another option that makes it useless.
    """

    without: Mapping[str, str]
    beside: Mapping[str, str]

    def check(self, context: click.Context) -> None:
        """Raise ``click.UsageError`` if an option that was given does nothing."""
        for option, needed in self.without.items():
            if _is_given(context, option) and not _holds(context, needed):
                raise click.UsageError(f"{option} does nothing without {needed}", context)
        for option, other in self.beside.items():
            if _is_given(context, option) and _holds(context, other):
                raise click.UsageError(f"{option} does nothing beside {other}; give one", context)


def refuse_idle_options(
    *, without: Mapping[str, str] | None = None, beside: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """Make a command end with status 2 if an option does nothing; see ``Rules``."""
    rules = Rules(without or {}, beside or {})

    def decorate(command: Command) -> Command:
        @wraps(command)
        def checked(*arguments: Any, **values: Any) -> Any:
            rules.check(click.get_current_context())
            return command(*arguments, **values)

        checked.rules = rules  # type: ignore[attr-defined]
        return checked

    return decorate


def _holds(context: click.Context, condition: str) -> bool:
    option, _, value = condition.partition(" ")
    found = context.params[_name(context, option)]
    if value:
        return found in value.split("|")
    # "-" is standard output, not a file.
    return found not in (None, False, "-")


def _is_given(context: click.Context, option: str) -> bool:
    source = context.get_parameter_source(_name(context, option))
    return source not in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def _name(context: click.Context, option: str) -> str:
    found = next(p.name for p in context.command.params if option in p.opts)
    assert found is not None
    return found
