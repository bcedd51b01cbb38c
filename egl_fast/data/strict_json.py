"""Strict JSON: values that can be written again as they were read."""

from __future__ import annotations

import json
import math
from json.scanner import make_scanner
from typing import Any, NoReturn

#: How deep a record may nest: deeper than any real one, and shallow enough that it can always be
#: written again.
MAX_DEPTH = 100
#: Levels that a journal adds around a record.
_WRAPPING = 10


def json_value(text: str | bytes, *, max_depth: int = MAX_DEPTH + _WRAPPING) -> Any:
    """The value of strict JSON; bytes are UTF-8.

    Raises ``ValueError`` if it is not JSON, or could not be written again as it was: NaN, a number
    out of range, a duplicate key, arrays and objects nested deeper than ``max_depth``.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    found = _plain_object(text)
    if found is not None:
        return found
    try:
        value = json.loads(
            text,
            parse_constant=_no_number,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
        # Few brackets cannot be deep, and counting them is much faster than visiting every value.
        is_flat = text.count("[") + text.count("{") <= max_depth
        too_deep = not is_flat and _depth(value) > max_depth
    except RecursionError:
        too_deep = True
    except ValueError as error:
        if str(error).startswith("Exceeds the limit"):  # Python's protection from huge numbers
            raise ValueError("a number has too many digits; write it as a string") from None
        raise
    if too_deep:
        raise ValueError(f"arrays and objects are nested more than {max_depth} deep; flatten them")
    return value


def _plain_object(text: str) -> dict[str, Any] | None:
    """An object without objects and arrays, as most lines are, several times as fast.

    None stands for anything else, and for what is refused: the slow way says why.
    """
    if "[" in text or text.count("{") != 1:
        return None
    try:
        pairs, end = _scan_pairs(text, 0)
    except (ValueError, StopIteration):  # the latter: whitespace, or nothing, at the start
        return None
    if not isinstance(pairs, list) or text[end:].strip(" \t\r\n"):
        return None
    found = dict(pairs)
    is_strict = len(found) == len(pairs) and _INFINITE.isdisjoint(found.values())
    return found if is_strict else None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice; keep one")
    return found


def _depth(value: Any) -> int:
    if not isinstance(value, (list, dict)):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _no_number(literal: str) -> NoReturn:
    # Python reads NaN and Infinity, but other readers of JSON would refuse our results.
    raise ValueError(f"{literal} is not a number; write null")


def _finite(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise ValueError(f"the number {literal} is out of range; write it as a string")
    return value


#: Looked up by hash: comparing each value with both would take longer.
_INFINITE = frozenset((math.inf, -math.inf))
#: Calls of Python for objects or numbers would take most of the time. So would ``raw_decode``, and
#: ``decode``, which looks for whitespace with regular expressions.
_scan_pairs = make_scanner(
    json.JSONDecoder(object_pairs_hook=list, parse_constant=_no_number)  # type: ignore[arg-type]
)
