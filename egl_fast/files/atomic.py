"""Files that appear whole or not at all, no matter when the process or the power fails."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from egl_fast.errors import cannot_be_written

#: Added to a file's name until the file is complete.
PARTIAL: Final = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces ``path`` when the context ends without an error.

    Readers see the old file or the new one, never part of one; once the context is left, the new
    one is on disk. If the process is killed, it leaves ``<path>.partial``, which the next write to
    ``path`` replaces. A link is replaced; its target is not. Only one process at a time may write a
    path. Raises ``OutputError`` if the file cannot be written.
    """
    partial = path.with_name(path.name + PARTIAL)
    with as_output_error(path):
        try:
            with new_file(partial) as file:
                yield file
                sync(file)
            os.replace(partial, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def new_file(path: Path) -> BinaryIO:
    """Open an empty file under a name, leaving alone what a link of that name points to."""
    path.unlink(missing_ok=True)
    return open(path, "xb")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; see ``replacing``."""
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, indented for human readers; see ``replacing``."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A JSON object in UTF-8, indented for human readers."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A lone surrogate, which a manifest may hold, has no UTF-8 form, but JSON can escape it.
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def as_output_error(path: object) -> Iterator[None]:
    """Turn the system's errors into an ``OutputError``, except for a closed pipe."""
    try:
        yield
    except BrokenPipeError:  # The reader (head, say) has seen enough: not a failure.
        raise
    except OSError as error:
        raise cannot_be_written(path, error) from None


def remove(path: Path) -> None:
    """Remove a file if it exists; raises ``OutputError`` if that fails."""
    with as_output_error(path):
        if os.path.lexists(path):  # unlink would fail in a read-only folder
            path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, durably; raises ``OutputError`` if that fails."""
    with as_output_error(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)


def sync(file: BinaryIO) -> None:
    """Flush a file to disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the system supports it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that is writable but not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not supported by this file system
            raise
    finally:
        os.close(descriptor)
