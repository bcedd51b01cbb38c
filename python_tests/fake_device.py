"""A second device for machines without one: its tensors live elsewhere, with their values here.

Inside ``fake_device()``, tensors on the device ``meta`` have values and refuse what CUDA tensors
refuse: to be combined with CPU tensors, and to be read except by ``.cpu()`` or ``.item()``. So a
program that runs here moves everything to its model's device. It shows nothing about kernels and
streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

from egl_fast.compute import devices

DEVICE = torch.device("meta")

#: Arguments that CUDA operators also accept from the CPU, by position: what is copied, indices, and
#: lengths that the host needs.
_MAY_BE_HERE = {
    "aten::copy_": {0, 1},
    "aten::_to_copy": {0},
    "aten::index": {1},
    "aten::index_put": {1},
    "aten::index_put_": {1},
    "aten::_ctc_loss": {2, 3},
    "aten::_ctc_loss_backward": {3, 4},
    "aten::_pack_padded_sequence": {1},
}


class MixedDevicesError(RuntimeError):
    """An operator was given tensors of both devices."""


class _Elsewhere(Tensor):
    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> _Elsewhere:
        wrapper: _Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )
        wrapper.values = values
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operator, args, kwargs or {})

    def tolist(self) -> Any:
        return self.values.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"elsewhere({self.values!r})"


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operator, args, kwargs or {})


def _run(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), "CompositeImplicitAutograd"):
        with _Mode():  # in inference mode it has not been decomposed yet
            return operator.decompose(*args, **kwargs)
    name = operator.name().partition(".")[0]
    free = _MAY_BE_HERE.get(name, set())
    bound = [x for i, x in enumerate(args) if i not in free]
    tensors = [x for x in tree_flatten((bound, kwargs))[0] if isinstance(x, Tensor)]
    here = [x for x in tensors if not isinstance(x, _Elsewhere) and x.dim() > 0]
    elsewhere = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, _Elsewhere)]
    if elsewhere and here:
        raise MixedDevicesError(
            f"{name}: {[list(x.shape) for x in elsewhere]} are elsewhere, "
            f"{[list(x.shape) for x in here]} are on the CPU"
        )
    target = kwargs.get("device")
    to_there = bool(elsewhere) if target is None else torch.device(target) == DEVICE
    if name == "aten::copy_":
        to_there = isinstance(args[0], _Elsewhere)
    inner = tree_map_only(_Elsewhere, lambda x: x.values, (args, kwargs))
    if "device" in inner[1]:
        inner[1]["device"] = torch.device("cpu")
    result = operator(*inner[0], **inner[1])
    if not to_there:
        if elsewhere and target is not None:  # copies, though of one device inside
            result = tree_map_only(Tensor, torch.clone, result)
        return result
    if name == "aten::_pack_padded_sequence":
        return _Elsewhere(result[0]), result[1]  # batch sizes are for the host
    result = tree_map_only(Tensor, _Elsewhere, result)
    return return_and_correct_aliasing(operator, args, kwargs, result) if elsewhere else result


@contextmanager
def fake_device() -> Iterator[torch.device]:
    """Yields a device whose tensors have values while the context is open."""
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    # Otherwise moving a module would make new parameters and untie tied ones.
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        working = (*devices.COMPUTES_ON, DEVICE.type)
        with mock.patch.object(devices, "COMPUTES_ON", working), _Mode():
            yield DEVICE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)


def moved(values: Any) -> Any:
    """The same structure with its tensors on the fake device."""
    return tree_map_only(Tensor, lambda x: x.to(DEVICE), values)
