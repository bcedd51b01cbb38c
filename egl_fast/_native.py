"""Finds the native code, or says in one line how to build it. Needs no torch."""

from __future__ import annotations

import importlib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from egl_fast.errors import ExtensionError, one_line

REMEDY = "build it with `pip install --no-build-isolation -e .` in the egl-fast source folder"

#: The operators for torch. The suffix tells installers that it fits every Python.
OPERATORS = Path(__file__).with_name("_operators.abi3.so")


def module() -> Any:
    """The pybind11 module ``egl_fast._C``.

    Raises:
        ExtensionError: it is missing, or does not fit this Python.
    """
    try:
        return importlib.import_module("egl_fast._C")
    except ImportError as error:
        raise ExtensionError(
            f"egl_fast's native code cannot be loaded ({one_line(error)}); {_remedy()}"
        ) from error


def _remedy() -> str:
    here = Path(__file__).parent
    for distribution in distributions(name="egl-fast"):
        installed = Path(str(distribution.locate_file("egl_fast")))
        if installed.is_dir() and not installed.samefile(here):
            return (
                f"Python takes {here}, where nothing is built, for the package installed in "
                f"{installed}: start Python in another folder, or install with `pip install -e .`"
            )
    return REMEDY
