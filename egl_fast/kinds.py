"""Kinds of values for fields; each takes any value, and returns it checked or refuses it.

The values come from other people: model files, TOML files, arguments. Every refusal is a
``ValueError`` of one short line, however large or strange the value is. Kinds with bounds or
choices are classes, so that command-line options can be made from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from operator import ge, gt, le, lt
from typing import Any, TypeVar, cast, get_args, get_type_hints

from egl_fast.display import shown

Value = TypeVar("Value")


def _is(number: type, value: Any) -> bool:
    # In Python, bool is an int.
    return isinstance(value, number) and not isinstance(value, bool)


def text(value: Any) -> str:
    """A nonempty string."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a string, got {shown(value)}")
    return value


def boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {shown(value)}")
    return value


def _check_bounds(
    value: Any, *bounds: tuple[float | None, Callable[[Any, Any], bool], str]
) -> None:
    for bound, is_met, words in bounds:
        if bound is not None and not is_met(value, bound):
            label = f"{bound:g}" if isinstance(bound, float) else bound
            raise ValueError(f"expected {words} {label}, got {shown(value)}")


@dataclass(frozen=True)
class Integer:
    """A whole number in a range; NumPy's become Python's."""

    at_least: int | None = None
    at_most: int | None = None

    def __call__(self, value: Any) -> int:
        if not _is(Integral, value):
            raise ValueError(f"expected a whole number, got {shown(value)}")
        _check_bounds(value, (self.at_least, ge, "at least"), (self.at_most, le, "at most"))
        return int(value)


@dataclass(frozen=True, kw_only=True)
class Number:
    """A finite number in a range; whole numbers and NumPy's become floats."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def __call__(self, value: Any) -> float:
        if not _is(Real, value):
            raise ValueError(f"expected a number, got {shown(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"expected a finite number, got {shown(value)}")
        _check_bounds(
            value,
            (self.above, gt, "a number above"),
            (self.at_least, ge, "at least"),
            (self.below, lt, "a number below"),
            (self.at_most, le, "at most"),
        )
        return number


class OneOf:
    """One of a few words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"expected one of {', '.join(self.choices)}, got {shown(value)}")
        return value


@dataclass(frozen=True)
class Optional:
    """None, or a value of another kind."""

    kind: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        return None if value is None else self.kind(value)


def list_of(item: Callable[[Any], Value]) -> Callable[[Any], tuple[Value, ...]]:
    """A nonempty list of items of one kind, without duplicates."""

    def kind(value: Any) -> tuple[Value, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f"expected an array of at least one item, got {shown(value)}")
        items = tuple(item(element) for element in value)
        for place, element in enumerate(items):
            if element in items[:place]:
                raise ValueError(f"{shown(element)} is listed twice")
        return items

    return kind


def one_or_list_of(item: Callable[[Any], Value]) -> Callable[[Any], tuple[Value, ...]]:
    """One item, or a list as for ``list_of``."""

    def kind(value: Any) -> tuple[Value, ...]:
        return list_of(item)(value if isinstance(value, (list, tuple)) else [value])

    return kind


def of_kind(default: Value, kind: Callable[[Any], Value], help: str = "") -> Value:
    """A dataclass field with a default, a kind (see ``check_fields``), and command-line help."""
    return field(default=default, metadata={"kind": kind, "help": help})


def kind_of(described: Field[Any]) -> Callable[[Any], Any]:
    """The kind of a dataclass field made by ``of_kind``."""
    kind: Callable[[Any], Any] = described.metadata["kind"]
    return kind


def check_fields(instance: Any) -> None:
    """Check and convert all fields of a dataclass, in its ``__post_init__``; it may be frozen.

    Raises ``ValueError``, naming the field, if its kind refuses the value.
    """
    for described in fields(instance):
        try:
            value = kind_of(described)(getattr(instance, described.name))
        except ValueError as error:
            raise ValueError(f"{described.name}: {error}") from None
        object.__setattr__(instance, described.name, value)


def from_mapping(cls: Callable[..., Value], content: Any, *, defaults: bool = False) -> Value:
    """An instance of a dataclass from a mapping of field names to values.

    Args:
        cls: the dataclass.
        content: the mapping.
        defaults: whether fields with a default may be missing.

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
    """The same for a dataclass without kinds: values must have the annotated types.

    Integers must not be negative; floats may be NaN. Raises ``ValueError``, naming the field.
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
