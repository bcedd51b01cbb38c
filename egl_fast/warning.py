"""Warnings to the caller about doubtful results, though nothing failed."""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path


class EglWarning(UserWarning):
    """Category of every warning of egl_fast; commands print them on standard error."""


#: A caller is code outside of these: torch calls back into our code.
_INSIDE = tuple(
    f"{Path(spec.origin).parent}/"
    for spec in map(find_spec, ("egl_fast", "torch"))
    if spec is not None and spec.origin is not None
)


def warn(message: str) -> None:
    """Warn, and blame the line that called egl_fast, however deep inside we are."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, EglWarning, stacklevel=level + 1)
