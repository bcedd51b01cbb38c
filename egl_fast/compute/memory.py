"""What memory that is freed becomes, and how to tell that it ran out."""

from __future__ import annotations

import ctypes
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

#: What torch's CPU and GPU allocators, C++, and NVIDIA's libraries say; and a native operator that
#: gets no memory for its result, which is told no reason.
_SIGNS = (
    "DefaultCPUAllocator",
    "allocate memory",
    "bad_alloc",
    "out of memory",
    "ALLOC_FAILED",
    '"aten::new_empty"',
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whoever noticed it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


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
