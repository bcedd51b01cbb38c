"""Replace the operators' CPU halves by their CUDA halves, emulated on the host or on a GPU.

Only the operators change, so tests of the CPU halves can run on the CUDA halves too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from egl_fast import _extension
from egl_fast.ops import recurrent

LIBRARY = Path(__file__).parent.parent / "build" / "emulated" / "libegl_emulated.so"

#: The order in which emulated launches run blocks, and blocks run threads.
ORDERS = {"forward": 0, "reversed": 1, "shuffled": 2}


def has_gpu() -> bool:
    """Whether the extension has CUDA halves, and torch a GPU to run them on."""
    return _extension.build_info()["built_with_cuda"] and torch.cuda.is_available()


@cache
def emulated_operators() -> Any:
    """torch.ops.egl_fast_emulated: operators of CPU tensors that run CUDA's kernels."""
    if not LIBRARY.exists():
        pytest.fail(f"{LIBRARY} is not there; run `make emulated`", pytrace=False)
    torch.ops.load_library(LIBRARY)
    torch.library.register_vmap(
        "egl_fast_emulated::recurrent_backward", recurrent._vmap_recurrent_backward
    )
    return torch.ops.egl_fast_emulated


@contextmanager
def schedule(order: str, seed: int = 0) -> Iterator[None]:
    """Run emulated threads in another order while the context is open."""
    emulated_operators()
    library = ctypes.CDLL(str(LIBRARY))
    library.egl_emulated_schedule.argtypes = [ctypes.c_int, ctypes.c_uint64]
    library.egl_emulated_schedule(ORDERS[order], seed)
    try:
        yield
    finally:
        library.egl_emulated_schedule(ORDERS["forward"], 0)


class _OnGpu:
    """The native operators on a GPU, for CPU tensors."""

    def __getattr__(self, name: str) -> _GpuOperator:
        return _GpuOperator(getattr(torch.ops.egl_fast, name).default)


class _GpuOperator:
    def __init__(self, operator: Any) -> None:
        self._operator = operator

    def default(self, *arguments: Any) -> Any:
        there = tree_map_only(Tensor, Tensor.cuda, arguments)
        return tree_map_only(Tensor, Tensor.cpu, self._operator(*there))


@contextmanager
def using(name: str) -> Iterator[None]:
    """Replace the native operators by "emulated" or "cuda" ones."""
    operators = emulated_operators() if name == "emulated" else _OnGpu()
    with mock.patch.object(_extension, "operators", return_value=operators):
        yield
