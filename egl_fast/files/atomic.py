"""Files that are there whole or not at all, whenever the process or the power goes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from egl_fast.errors import cannot_be_written

#: What a file is called until it is complete: its name and this.
PARTIAL: Final = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` when the context ends well.

    A reader sees the old file or the new one, never a part; after the context the new one is on the
    disk. What a killed process leaves, ``<path>.partial``, the next one to write ``path`` replaces.
    A link is replaced, and what it points to stays. One process at a time may write a path.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(path.name + PARTIAL)
    with failing_in_one_line(path):
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
    """Open an empty file, in the place of what has its name.

    What it had shared with a link, symbolic or hard, stays as it is.

    Raises:
        OSError: that fails.
    """
    path.unlink(missing_ok=True)
    return open(path, "xb")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; see ``replacing``.

    Raises:
        OutputError: it cannot be written.
    """
    with replacing(path) as file:
        file.write(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, for people to read, too; see ``replacing``.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # Half of a surrogate pair, as manifests may hold it, has no UTF-8 but an escape in JSON.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def failing_in_one_line(path: object) -> Iterator[None]:
    """What the system says against an output becomes an ``OutputError``, but for a closed pipe.

    Raises:
        OutputError: the output cannot be written.
    """
    try:
        yield
    except BrokenPipeError:  # No failure: the reader, say head, has seen enough.
        raise
    except OSError as error:
        raise cannot_be_written(path, error) from None


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        OutputError: that fails.
    """
    with failing_in_one_line(path):
        if os.path.lexists(path):  # not even nothing can be removed where nothing may be written
            path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that a power cut does not take them away.

    Raises:
        OutputError: that fails.
    """
    with failing_in_one_line(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)


def sync(file: BinaryIO) -> None:
    """Bring what was written to a file onto the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring names that came and went in a folder onto the disk, where the system can do that.

    Raises:
        OSError: it can, and fails.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to, but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
    finally:
        os.close(descriptor)
