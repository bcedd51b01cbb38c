"""Values and texts from elsewhere, as people get to see them: on one line, short, harmless.

Ids, paths and transcripts come from manifests, and a terminal obeys what is in them: escape
sequences move the cursor and rename the window, C1 codes do so in one character, and bidirectional
overrides show another order than is there.
"""

from __future__ import annotations

import json
import re
import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = 100

#: C0, DEL and C1; marks, overrides and isolates of direction; line and paragraph separators;
#: characters without width but those that scripts need (U+200C, U+200D); halves of surrogate pairs,
#: which have no UTF-8; tags.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def shown(value: Any) -> str:
    """A value for use in a message: short, on one line, control characters escaped."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except ValueError:  # Python does not spell out integers of thousands of digits.
        return f"a number of {value.bit_length()} bits"


def shortened(text: str, most: int) -> str:
    """The start of a text, so many characters of it with the ellipsis that stands for the rest.

    Example:
        >>> shortened("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    r"""One line that no terminal obeys: control characters come out as Python would escape them.

    Example:
        >>> print(printable("a\x1b[31m\u202eb\n"))
        a\x1b[31m\u202eb\n
    """
    return _UNSAFE.sub(escaped, text)


def escaped(found: re.Match[str]) -> str:
    """What was found in a text, as Python would escape it."""
    return found[0].encode("unicode_escape").decode()


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""JSON for files and for standard output: any script as it is, control characters escaped.

    JSON itself only wants C0 escaped. What else a terminal obeys is escaped as well, since a file
    of results is looked at with ``cat``; it means the same to whoever parses it.

    Raises:
        ValueError: a value has no form in JSON, such as NaN.

    Example:
        >>> print(json_text({"id": "größe\x9b"}))
        {"id": "größe\u009b"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    # Line feeds outside of strings are of the indentation; those within are escaped already.
    return _UNSAFE.sub(lambda found: _as_json(found[0]) if found[0] != "\n" else "\n", text)


def _as_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
