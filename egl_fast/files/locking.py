"""Locks between processes, on files (``flock``).

The system releases a lock when its process ends, however that happens, so a leftover lock file
blocks no one, even if its process number has been reused. A stopped process (``kill -STOP``)
keeps its locks. On a network file system without locks across machines (``nolock``), only processes
on the same machine see each other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from egl_fast.errors import OutputError, one_line, remedy_of

#: Our lock files begin with this.
_SIGN = b"process "
_HOLDER = re.compile(r"process (\d+) on (.+)")


class LockHeldError(OutputError):
    """Another process holds a lock.

    Attributes:
        holder: a description of that process.
    """

    def __init__(self, message: str, holder: str) -> None:
        super().__init__(message, holder)  # all arguments, or it could not be unpickled
        self.holder = holder

    def __str__(self) -> str:
        message: str = self.args[0]
        return message


@contextlib.contextmanager
def sole_writer(path: Path, *, of: str) -> Iterator[None]:
    """Hold a lock file while writing what it protects; it is removed afterwards.

    Args:
        path: the lock file.
        of: what is written, for the message: "output scores.jsonl".

    Raises:
        LockHeldError: another process holds it.
        OutputError: the file cannot be created, or is not one of our locks.
    """
    file = locked_file(path, of=of)
    if file is None:
        holder = holder_of(path)
        raise LockHeldError(
            f"{of}: another run is writing it ({holder}); wait for it, or give another name", holder
        )
    with file:
        name_holder(file)
        try:
            yield
        finally:
            remove(path, file)


def name_holder(file: FileIO) -> None:
    """Write into a lock file that this process holds it."""
    with contextlib.suppress(OSError):  # on a full disk, the lock works without a name in it
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())


def locked_file(path: Path, *, of: str, shared: bool = False) -> FileIO | None:
    """Open a lock file and lock it, without waiting.

    Args:
        path: the lock file.
        of: see ``sole_writer``.
        shared: lock for reading, which several processes may do at once.

    Returns:
        The file, which holds the lock until it is closed; None if another process holds it.

    Raises:
        OutputError: the file cannot be created, or is not one of our locks.
    """
    try:
        return _locked(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except BlockingIOError:
        return None
    except OSError as error:
        raise OutputError(
            f"{of}: cannot be locked ({one_line(error)}); "
            + (remedy_of(error) or "choose a folder where files can be created and locked")
        ) from None
    except ValueError:
        raise OutputError(
            f"{of}: needs {path} as a lock file, but that is something else; move it, or "
            "give another name"
        ) from None


def made_exclusive(file: FileIO) -> bool:
    """Make a shared lock exclusive; False if other processes share it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove(path: Path, file: FileIO) -> None:
    """Remove a lock file that this process holds exclusively, unless another has taken its name."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
            path.unlink()


def holder_of(path: Path) -> str:
    """Which process holds a lock file, in words, and whether it is stopped."""
    try:
        holder = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "unknown process"
    found = _HOLDER.fullmatch(holder)
    if found is None:
        return "unknown process"
    with contextlib.suppress(OSError):
        # "T" follows the command's name, which may contain anything.
        state = Path(f"/proc/{found[1]}/stat").read_bytes().rpartition(b")")[2].split()[0]
        if state == b"T" and found[2] == socket.gethostname():
            return f"{holder}, which is stopped; resume it with kill -CONT {found[1]}"
    return holder


def _locked(path: Path, operation: int) -> FileIO:
    """Raises ValueError if the file is not one of our locks."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    while True:
        try:
            # Unbuffered: closing must not write anything.
            file = FileIO(os.open(path, flags, 0o666), "r+")
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise ValueError from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError
            fcntl.flock(file, operation | fcntl.LOCK_NB)
            # Its holder may have removed the file after we opened it and before we locked it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.lstat(path)):
                    if not _is_ours(file.read(100)):
                        raise ValueError
                    return file
        except BaseException as error:
            file.close()
            # NFS reports this for a file that has been removed.
            if not isinstance(error, OSError) or error.errno != errno.ESTALE:
                raise
        file.close()


def _is_ours(content: bytes) -> bool:
    # A power cut may have left any prefix of it.
    return content.startswith(_SIGN) or _SIGN.startswith(content.rstrip(b"\0"))
