"""Hashes of text with any characters."""

from __future__ import annotations

import hashlib


def hashed(*parts: object, separator: str = "\0") -> bytes:
    """The SHA-256 of a few values, such as a seed and an id, joined as text."""
    # JSON may contain lone surrogates, which have no UTF-8.
    text = separator.join(map(str, parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
