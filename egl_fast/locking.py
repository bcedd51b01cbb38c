"""One writer at a time, across processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from egl_fast.errors import OutputError, one_line


@contextlib.contextmanager
def sole_writer(path: Path, *, of: str) -> Iterator[None]:
    """Hold a lock file while writing what it stands for.

    The system lets go of the lock with the process, however that ends: a lock file that is left
    over keeps nobody out. Afterwards it is removed.

    Args:
        path: the lock file.
        of: what is written, for the message: "output scores.jsonl".

    Raises:
        OutputError: another process holds it, or the file cannot be made.
    """
    try:
        file = _taken(path)
    except BlockingIOError:
        raise OutputError(
            f"{of}: another run is writing it ({_holder(path)}); wait for it, or give another name"
        ) from None
    except OSError as error:
        raise OutputError(f"{of}: cannot be locked ({one_line(error)})") from None
    with file:
        with contextlib.suppress(OSError):  # on a full disk, the lock holds without a name in it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _taken(path: Path) -> FileIO:
    while True:
        # Without a buffer, which would want to be written once more when the file is closed.
        file = open(path, "ab", buffering=0)  # noqa: SIM115 (the caller closes it)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its holder may have removed the file between our opening and our locking it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip() or "unknown process"
    return "unknown process"
