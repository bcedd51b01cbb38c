"""How to tell that memory ran out."""

from __future__ import annotations

import torch

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
