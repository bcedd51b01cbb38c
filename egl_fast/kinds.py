"""Kinds: what values a field may have. Each takes any value, and returns it checked or refuses it.

They read what other people wrote: model files, TOML files, arguments. Every refusal is a ValueError
of one short line, however large or strange the value is. Kinds with bounds or choices are classes,
so that a command line can be made of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypeVar, cast, get_args, get_type_hints

from egl_fast.display import shown

Value = TypeVar("Value")


def _is(number: type, value: Any) -> bool:
    # bool is an int to Python.
    return isinstance(value, number) and not isinstance(value, bool)


def text(value: Any) -> str:
    """Kind: a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a string, got {shown(value)}")
    return value


def boolean(value: Any) -> bool:
    """Kind: true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {shown(value)}")
    return value


@dataclass(frozen=True)
class Integer:
    """Kind: a whole number in a range; NumPy's become Python's."""

    at_least: int | None = None
    at_most: int | None = None

    def __call__(self, value: Any) -> int:
        """The number."""
        if not _is(Integral, value):
            raise ValueError(f"expected a whole number, got {shown(value)}")
        if self.at_least is not None and value < self.at_least:
            raise ValueError(f"expected at least {self.at_least}, got {shown(value)}")
        if self.at_most is not None and value > self.at_most:
            raise ValueError(f"expected at most {self.at_most}, got {shown(value)}")
        return int(value)


@dataclass(frozen=True, kw_only=True)
class Number:
    """Kind: a finite number in a range; whole numbers and NumPy's become floats."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def __call__(self, value: Any) -> float:
        """The number."""
        if not _is(Real, value):
            raise ValueError(f"expected a number, got {shown(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"expected a finite number, got {shown(value)}")
        if self.above is not None and value <= self.above:
            raise ValueError(f"expected a number above {self.above:g}, got {shown(value)}")
        if self.at_least is not None and value < self.at_least:
            raise ValueError(f"expected at least {self.at_least:g}, got {shown(value)}")
        if self.below is not None and value >= self.below:
            raise ValueError(f"expected a number below {self.below:g}, got {shown(value)}")
        if self.at_most is not None and value > self.at_most:
            raise ValueError(f"expected at most {self.at_most:g}, got {shown(value)}")
        return number


class OneOf:
    """Kind: one of a few words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: Any) -> str:
        """The word."""
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"expected one of {', '.join(self.choices)}, got {shown(value)}")
        return value


@dataclass(frozen=True)
class Optional:
    """Kind: None, or a value of another kind."""

    kind: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        """The value."""
        return None if value is None else self.kind(value)


def list_of(item: Callable[[Any], Value]) -> Callable[[Any], tuple[Value, ...]]:
    """Kind: an array that is not empty, of items of a kind, none twice."""

    def kind(value: Any) -> tuple[Value, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f"expected an array of at least one item, got {shown(value)}")
        items = tuple(item(element) for element in value)
        for place, element in enumerate(items):
            if element in items[:place]:
                raise ValueError(f"{shown(element)} is there twice")
        return items

    return kind


def one_or_list_of(item: Callable[[Any], Value]) -> Callable[[Any], tuple[Value, ...]]:
    """Kind: an item of a kind, or an array of such."""

    def kind(value: Any) -> tuple[Value, ...]:
        return list_of(item)(value if isinstance(value, (list, tuple)) else [value])

    return kind


def of_kind(default: Value, kind: Callable[[Any], Value], help: str = "") -> Value:
    """A dataclass field with a default and a kind, which ``check_fields`` holds it to.

    Args:
        default: of the field.
        kind: of its values.
        help: what a command line says of it.
    """
    return field(default=default, metadata={"kind": kind, "help": help})


def kind_of(described: Field[Any]) -> Callable[[Any], Any]:
    """The kind of a dataclass field that ``of_kind`` made."""
    kind: Callable[[Any], Any] = described.metadata["kind"]
    return kind


def check_fields(instance: Any) -> None:
    """Hold a dataclass's fields to their kinds; for its ``__post_init__``, also if it is frozen.

    Raises:
        ValueError: a field has a value that its kind refuses; the message names the field.
    """
    for described in fields(instance):
        try:
            value = kind_of(described)(getattr(instance, described.name))
        except ValueError as error:
            raise ValueError(f"{described.name}: {error}") from None
        object.__setattr__(instance, described.name, value)


def from_mapping(cls: Callable[..., Value], content: Any, *, defaults: bool = False) -> Value:
    """An instance of a dataclass from a mapping.

    Args:
        cls: the dataclass.
        content: values of its fields by name.
        defaults: whether fields that have a default may be missing.

    Raises:
        ValueError: a field is missing or unknown, or the class refuses a value.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"expected fields by name, got {shown(content)}")
    known = {described.name: described for described in fields(cast(Any, cls))}
    for name in content:
        if name not in known:
            raise ValueError(f"unknown field {shown(name)}")
    for name, described in known.items():
        if name not in content and not (defaults and described.default is not MISSING):
            raise ValueError(f"{name} is missing")
    return cls(**content)


def typed_from_mapping(cls: type[Value], content: Any) -> Value:
    """The same for a dataclass without kinds: values must have the types of its annotations.

    Integers must not be negative; floats may be NaN.

    Raises:
        ValueError: as above, or a value has another type; the message names the field.
    """
    instance = from_mapping(cls, content, defaults=True)
    for name, hint in get_type_hints(cls).items():
        value = getattr(instance, name)
        allowed = get_args(hint) or (hint,)
        if int in allowed and _is(Integral, value) and not 0 <= value < 2**63:
            raise ValueError(f"{name}: expected a number from 0 to 2^63 - 1, got {shown(value)}")
        if not any(_is({int: Integral, float: Real}.get(one, one), value) for one in allowed):
            raise ValueError(
                f"{name}: expected {getattr(hint, '__name__', hint)}, got {shown(value)}"
            )
    return instance
