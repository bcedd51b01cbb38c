"""Makes values and texts from elsewhere safe to show: on one line, short, harmless.

Ids, paths, and transcripts come from manifests, and a terminal interprets what they contain: escape
sequences move the cursor and rename the window, C1 codes do so in one character, and bidirectional
overrides make text look different from what it is.
"""

from __future__ import annotations

import json
import re
import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = 100

#: C0, DEL, and C1; direction marks, overrides, and isolates; line and paragraph separators;
#: zero-width characters, except those that scripts need (U+200C, U+200D); lone surrogates, which
#: have no UTF-8 form; tags.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def shown(value: Any) -> str:
    """A value for use in a message: short, on one line, control characters escaped."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except ValueError:  # Python refuses to print integers of thousands of digits.
        return f"a number of {value.bit_length()} bits"


def shortened(text: str, most: int) -> str:
    """A text cut to a number of characters, ellipsis included.

    Example:
        >>> shortened("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    r"""One line without terminal control: such characters are escaped as in Python.

    Example:
        >>> print(printable("a\x1b[31m\u202eb\n"))
        a\x1b[31m\u202eb\n
    """
    return _UNSAFE.sub(escaped, text)


def escaped(found: re.Match[str]) -> str:
    """A regular expression's match, escaped as in Python."""
    return found[0].encode("unicode_escape").decode()


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""JSON for files and standard output: control characters escaped, other text as it is.

    JSON itself requires this for C0 only. Since people look at files of results with ``cat``, the
    other characters that terminals interpret are escaped as well, which means the same to a parser.
    Raises ``ValueError`` if a value (such as NaN) has no JSON form.

    Example:
        >>> print(json_text({"id": "größe\x9b"}))
        {"id": "größe\u009b"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    if text.isprintable():  # a quick look: no unsafe character is printable
        return text
    # Line feeds here are indentation: those in strings are escaped already.
    return _UNSAFE.sub(lambda found: _as_json(found[0]) if found[0] != "\n" else "\n", text)


def _as_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
