"""The names of a model's classes.

The classes of a CTC model are its labels and the blank. A vocabulary lists the classes' names in
index order; the blank's name is never shown. ``recognizers.vocabulary`` turns labels into text.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from egl_fast import kinds
from egl_fast.display import shown

#: Control characters, lone surrogates, line and paragraph separators.
_NEVER_WRITTEN = ("Cc", "Cs", "Zl", "Zp")

_LONGEST_NAME = 100

#: The shipped models' classes: blank, space, apostrophe, a to z.
ENGLISH_CHARACTERS: tuple[str, ...] = ("<blank>", " ", "'", *"abcdefghijklmnopqrstuvwxyz")


def class_names(value: Any) -> tuple[str, ...]:
    """Kind: the names of a model's classes, in index order.

    Raises:
        ValueError: it is not a list; or a name is not a string, is empty, too long, or a duplicate,
            or contains a character that ends a line or cannot be written.
    """
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"expected a list of names, got {shown(value)}")
    place_of: dict[str, int] = {}
    for place, item in enumerate(value):
        name = kinds.text(item)
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"expected names of at most {_LONGEST_NAME} characters")
        if any(unicodedata.category(character) in _NEVER_WRITTEN for character in name):
            raise ValueError(f"{shown(name)} cannot be part of a text")
        if name in place_of:
            raise ValueError(f"{shown(name)} names both class {place_of[name]} and {place}")
        place_of[name] = place
    return tuple(place_of)
