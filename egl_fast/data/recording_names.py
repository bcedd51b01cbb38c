"""How recordings are named in messages."""

from __future__ import annotations

from pathlib import PurePath

from egl_fast.display import printable


def recording_name(path: PurePath) -> str:
    """What a recording is called in errors: one line, with control characters escaped."""
    return f"audio {printable(str(path))}"
