"""How much memory there is; keeping freed memory; recognizing out-of-memory errors."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

#: Messages of torch's CPU and GPU allocators, C++, and NVIDIA's libraries; the last one is raised
#: if a native operator gets no memory for its result.
_SIGNS = (
    "DefaultCPUAllocator",
    "allocate memory",
    "bad_alloc",
    "out of memory",
    "ALLOC_FAILED",
    '"aten::new_empty"',
)


def machine_memory_bytes() -> int:
    """Memory of the machine, or of the container that this process runs in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups, version 2 and 1
        try:
            total = min(total, int(Path("/sys/fs/cgroup", limit).read_text()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return total


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def keep_freed_memory() -> None:
    """Let the C allocator keep up to 2 GiB of freed memory for the next tensor.

    By default glibc returns blocks of tens of megabytes to the system immediately, and the next
    tensor of that size pays for every page again: a third of the time of exact scoring on one
    machine. As this affects the whole process, commands call it and the library does not. Does
    nothing if the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # The threshold for mmap cannot exceed 32 MiB, but mmap can be disabled.
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
