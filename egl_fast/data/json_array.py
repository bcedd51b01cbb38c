"""A JSON array of objects, as `json.dump` writes a list: read as if each were on its own line."""

from __future__ import annotations

import json
import re
from typing import Any

#: Arrays of anything else are not lists of recordings.
_START = re.compile(r"\s*\[\s*(?=[{\]])")


def is_array(text: str) -> bool:
    """Whether a text, or its beginning, is that of an array of objects, if any."""
    return _START.match(text) is not None


def first_of_array(text: str) -> Any:
    """The first object of an array, of which the text may be only the beginning.

    Raises:
        ValueError: there is none, or it is not complete.
    """
    start = _START.match(text)
    if start is None:
        raise ValueError("not an array of objects")
    try:
        return json.JSONDecoder().raw_decode(text, start.end())[0]
    except RecursionError:
        raise ValueError("nested too deeply") from None
