"""Keeping a C library from writing to the terminal."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_num_silent = 0
_loud: int | None = None
_null: int | None = None


def _stream_name() -> str | None:
    # The GNU C library documents that a program may point ``stderr`` elsewhere; musl forbids it.
    if platform.libc_ver()[0] == "glibc":
        return "stderr"
    return "__stderrp" if sys.platform == "darwin" else None


_STREAM = _stream_name()


@contextmanager
def c_stderr_is_silent() -> Iterator[None]:
    """What C libraries print to ``stderr`` in the meantime goes nowhere.

    libmpg123, inside libsndfile, prints remarks about damaged frames, and nothing that libsndfile
    offers stops it. The file descriptor 2, and so Python's and C++'s own messages, stay as they
    are: only the variable in which C finds its stream changes. Any thread may be inside.
    """
    global _num_silent, _loud, _null
    if _STREAM is None:
        yield
        return
    c = ctypes.CDLL(None)
    stream = ctypes.c_void_p.in_dll(c, _STREAM)
    with _lock:
        if _null is None:
            c.fopen.restype = ctypes.c_void_p
            _null = c.fopen(os.devnull.encode(), b"w")
        if _num_silent == 0 and _null is not None:
            _loud, stream.value = stream.value, _null
        _num_silent += 1
    try:
        yield
    finally:
        with _lock:
            _num_silent -= 1
            if _num_silent == 0 and _loud is not None:
                stream.value = _loud
