"""Checks of arguments that all operators share: dense tensors on one device, 64-bit integers.

For anything else, torch's dispatcher would raise an error about its own internals. Operators check
dtypes, shapes and values themselves (csrc/ops/check.h).
"""

from __future__ import annotations

import operator
from typing import SupportsIndex, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


def given(**arguments: _T | None) -> dict[str, _T]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def check_same_device(name: str, like: Tensor, /, **others: Tensor) -> None:
    """Check that arguments are dense tensors on the device of ``like``, which is called ``name``.

    Raises:
        TypeError: one is not a tensor.
        ValueError: one is sparse, quantized or nested, or on another device.
    """
    _check_dense(name, like)
    for other, tensor in others.items():
        _check_dense(other, tensor)
        if tensor.device != like.device:
            raise ValueError(
                f"{other}: expected on {like.device} as {name}, got on {tensor.device}"
            )


def check_integers(**values: object) -> None:
    """Check that arguments are integers that fit into 64 bits.

    Raises:
        TypeError: one is not an integer; bool is not.
        ValueError: one has more than 64 bits.
    """
    for name, value in values.items():
        if isinstance(value, torch.SymInt):  # torch traces the caller
            continue
        if not isinstance(value, SupportsIndex) or isinstance(value, bool):
            raise TypeError(f"{name}: expected an integer, got {value!r}")
        if not -(2**63) <= operator.index(value) < 2**63:
            raise ValueError(f"{name}: expected an integer of 64 bits, got {value}")


def _check_dense(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.is_nested:
        raise ValueError(f"{name}: expected a padded tensor, got a nested one")
    if tensor.is_quantized:
        raise ValueError(f"{name}: expected plain numbers, got a quantized tensor; dequantize() it")
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.").removeprefix("_")
        raise ValueError(
            f"{name}: expected a dense tensor, got one of layout {layout}; to_dense() makes it one"
        )
