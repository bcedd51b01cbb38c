"""Filters of the configuration: keys of a manifest, and the values that match."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias, TypeVar

from egl_fast import kinds
from egl_fast.evaluation.simulation.toml_reading import Table

Scalar: TypeAlias = str | int | float | bool

#: Key -> the values that match; a line matches if it does so by every key.
Filter: TypeAlias = Mapping[str, tuple[Scalar, ...]]

_Item = TypeVar("_Item")


def scalar(value: Any) -> Scalar:
    """The kind of a string, number or boolean."""
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(f"expected a string, number or boolean, got {value!r}")
    return value


def read_filter(table: Table) -> Filter:
    """The filter that a table is."""
    values = kinds.one_or_list_of(scalar)
    return MappingProxyType({key: table.required(key, values, "") for key in table.content})


def matches(record: Mapping[str, Any], where: Filter) -> bool:
    """Whether a line of a manifest matches; by a filter without keys, every line does."""
    return all(_is_one_of(record.get(key), values) for key, values in where.items())


def matching(
    items: Sequence[_Item],
    where: Filter,
    record_of: Callable[[_Item], Mapping[str, Any]],
    *,
    source: object,
    refuse: Callable[[str, str], NoReturn],
) -> list[_Item]:
    """The items whose lines match.

    Args:
        items: what to choose from.
        where: the filter.
        record_of: an item's line.
        source: what to call their origin.
        refuse: called with a message and a key if a key or one of its values matches nothing.
    """
    taken = list(items)
    for key, values in where.items():
        left = f"no line of {source} that is left has"
        if not any(key in record_of(item) for item in taken):
            refuse(f"{left} the key {key!r}", key)
        taken = [item for item in taken if _is_one_of(record_of(item).get(key), values)]
        for value in values:
            if not any(_is_one_of(record_of(item).get(key), (value,)) for item in taken):
                refuse(f"{left} {key} = {value!r}", key)
    return taken


def _is_one_of(have: object, values: Sequence[Scalar]) -> bool:
    # 1 == True to Python, but not to whoever wrote the manifest.
    return any(
        have == value and isinstance(have, bool) == isinstance(value, bool) for value in values
    )
