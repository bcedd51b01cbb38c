"""How to tell that memory ran out."""

from __future__ import annotations

import torch

#: What torch's CPU and GPU allocators, C++, and NVIDIA's libraries say.
_SIGNS = ("DefaultCPUAllocator", "bad_alloc", "out of memory", "allocate memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, whoever noticed it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
