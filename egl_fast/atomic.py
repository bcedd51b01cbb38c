"""Files that are there whole or not at all, whenever the process or the power goes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from egl_fast.errors import cannot_be_written


@contextlib.contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the context ends well.

    A reader sees the old file or the new one, never a part; after the context the new one is on the
    disk. What a killed process leaves, ``<path>.partial``, the next one to write ``path`` replaces.

    Args:
        path: what to write.
        shared: other processes may write ``path`` at the same time: each gets a partial file of
            its own, which nobody cleans up after a kill.

    Raises:
        OutputError: it cannot be written.
    """
    suffix = f".{os.getpid()}.partial" if shared else ".partial"
    partial = path.with_name(path.name + suffix)
    try:
        with open(partial, "wb") as file:
            yield file
            sync(file)
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        _remove(partial)
        raise cannot_be_written(path, error) from None
    except BaseException:
        _remove(partial)
        raise


def write_bytes(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Write a file atomically; see ``replacing``.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path, shared=shared) as file:
        file.write(content)


def write_json(path: Path, content: Mapping[str, Any], *, shared: bool = False) -> None:
    """Write a JSON object atomically, for people to read, too; see ``replacing``.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Half of a surrogate pair, as manifests may hold it, has no UTF-8 but an escape in JSON.
    write_bytes(path, text.encode("utf-8", "backslashreplace"), shared=shared)


def sync(file: BinaryIO) -> None:
    """Bring what was written to a file onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring names that came and went in a folder onto the disk, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
