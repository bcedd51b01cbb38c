"""Keep C libraries from printing to the terminal."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_num_inside = 0
_original: int | None = None
_discarding: int | None = None


def _stream_name() -> str | None:
    # The GNU C library allows programs to assign to ``stderr``; musl forbids it.
    if platform.libc_ver()[0] == "glibc":
        return "stderr"
    return "__stderrp" if sys.platform == "darwin" else None


_STREAM = _stream_name()


@contextmanager
def silenced_c_stderr() -> Iterator[None]:
    """Discard what C libraries print to ``stderr`` in the meantime.

    libmpg123, inside libsndfile, prints remarks about damaged frames, and libsndfile has no option
    against it. Only C's variable ``stderr`` changes, not file descriptor 2, so Python's and C++'s
    messages still appear. Several threads may be inside.
    """
    global _num_inside, _original, _discarding
    if _STREAM is None:
        yield
        return
    c = ctypes.CDLL(None)
    stream = ctypes.c_void_p.in_dll(c, _STREAM)
    with _lock:
        if _discarding is None:
            c.fopen.restype = ctypes.c_void_p
            _discarding = c.fopen(os.devnull.encode(), b"w")
        if _num_inside == 0 and _discarding is not None:
            _original, stream.value = stream.value, _discarding
        _num_inside += 1
    try:
        yield
    finally:
        with _lock:
            _num_inside -= 1
            if _num_inside == 0 and _original is not None:
                stream.value = _original
