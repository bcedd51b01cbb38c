"""Reading arrays that a run has left behind, from files that may have changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.errors import one_line


def read_array(path: Path) -> npt.NDArray[Any]:
    """The floating-point numbers of a ``.npy`` file, mapped into memory; nothing in it is run.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is anything else, or cut short.
    """
    try:
        found: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # a damaged header can fail in any way
        raise ValueError(one_line(error)) from None
    if found.dtype.kind != "f":
        raise ValueError(f"holds {found.dtype}, not floating-point numbers")
    return found
