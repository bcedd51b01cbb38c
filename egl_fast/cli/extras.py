"""Packages that only some commands need, which come with extras of egl-fast."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from egl_fast.errors import MissingExtraError

#: What reading TOML takes: Python 3.11 has it.
TOML: Final[dict[str, str]] = {} if sys.version_info >= (3, 11) else {"tomli": "tomli"}


def require_packages(what: str, packages: Mapping[str, str], *, extra: str) -> None:
    """Find out at once, rather than after hours, that a package is missing.

    Args:
        what: needs them, for the message.
        packages: by the name of the module.
        extra: that brings them.

    Raises:
        MissingExtraError: one is missing.
    """
    missing = [package for module, package in packages.items() if find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"{what} needs {', '.join(missing)}: pip install 'egl-fast[{extra}]'"
        )
