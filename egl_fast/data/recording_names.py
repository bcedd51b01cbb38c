"""How recordings are named in messages: on one line, with what cannot be printed escaped."""

from __future__ import annotations

from pathlib import PurePath


def printable_path(path: PurePath) -> str:
    """A path without control characters, and without bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def recording_name(path: PurePath) -> str:
    """What a recording is called in errors."""
    return f"audio {printable_path(path)}"
