"""Loads the native operators, or says in one line what is missing and how to build it.

Importing this module registers ``torch.ops.egl_fast.*``.
"""

from __future__ import annotations

from typing import Any, TypedDict, cast

import torch

from egl_fast import _native
from egl_fast.errors import ExtensionError, one_line


class BuildInfo(TypedDict):
    """How the native code was built, and which instructions it chose for this machine."""

    compiler: str
    cxx_standard: int
    torch_version: str
    minimum_torch_version: str
    built_with_cuda: bool
    cuda_version: str | None  # of the nvcc that compiled it
    cuda_architectures: list[int]  # such as [80, 90]; newer ones run the last one's PTX
    instruction_set: str
    debug: bool


_C = _native.module()
try:
    torch.ops.load_library(_native.OPERATORS)  # type: ignore[no-untyped-call]
except OSError as error:
    raise ExtensionError(
        f"egl_fast's operators cannot be loaded under torch {torch.__version__} "
        f"({one_line(error)}); {_native.REMEDY}"
    ) from error


def operators() -> Any:
    """The native operators: attributes, each with one overload, ``default``.

    All calls go through here, so that tests can replace the operators by their CUDA halves, in
    emulation or on a GPU.
    """
    return torch.ops.egl_fast


def build_info() -> BuildInfo:
    """Facts about the build of the native code, for ``egl-fast doctor`` and bug reports."""
    return cast(BuildInfo, _C.build_info())
