"""Hashes that stand for what was hashed, whatever characters are in it."""

from __future__ import annotations

import hashlib


def hashed(*parts: object, separator: str = "\0") -> bytes:
    """The SHA-256 of a few values: a seed that belongs to them alone.

    Args:
        *parts: a run's seed, an utterance's id and the like; they count as they are written.
        separator: what is between them.
    """
    # JSON can name lone surrogates, which have no UTF-8 of their own.
    text = separator.join(map(str, parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
