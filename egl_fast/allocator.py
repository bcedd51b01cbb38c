"""What becomes of memory that large tensors give back."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let the C allocator keep what is freed, up to 2 GiB, for the next tensor.

    By default glibc returns blocks of tens of megabytes to the system at once, and the next tensor
    of that size pays for every page again: a third of the time of exact scoring on the machine it
    was measured on. It is a decision about the whole process, so commands make it and the library
    does not. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # A threshold for mmap cannot be set above 32 MiB, but mmap can be ruled out.
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
