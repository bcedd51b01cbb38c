"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from egl_fast.errors import OutputError, one_line


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old one or the new one, never a part.

    Raises:
        OutputError: it cannot be written.
    """
    # Two processes may write the same file: each has a partial file of its own.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"output {path}: cannot be written ({one_line(error)})") from None
