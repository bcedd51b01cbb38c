"""Which parameters of a model count, and whether gradients can be had of them."""

from __future__ import annotations

import fnmatch
from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

from egl_fast.compute.devices import computes_on
from egl_fast.errors import DeviceError, ModelError


def counted_parameters(model: nn.Module, params: str | None) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient and match, by qualified name, in the model's order.

    Args:
        model: any module.
        params: shell patterns, separated by commas; None for all.

    Raises:
        ModelError: none is left, or the model has tensors that autograd cannot use.
        DeviceError: one of them is where there are no operators.
    """
    _refuse_unusable(model)
    if params is None:
        _refuse_quantized(model)
    patterns = [p.strip() for p in params.split(",")] if params is not None else ["*"]
    # A weight in two modules has two names, and counts if either matches; it keeps its first.
    first_name: dict[int, str] = {}
    found: dict[str, nn.Parameter] = {}
    frozen: list[str] = []
    idle = set(patterns)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        first_name.setdefault(id(parameter), name)
        matching = [p for p in patterns if fnmatch.fnmatchcase(name, p)]
        idle.difference_update(matching)
        if matching:
            if parameter.requires_grad:
                found[first_name[id(parameter)]] = parameter
            else:
                frozen.append(name)
    if found and idle and params is not None:
        # One of several that is misspelled would leave out what it was to add.
        raise ModelError(f"params {params!r}: {min(idle)!r} matches no parameter; correct it")
    if found:
        return found
    if params is None:
        raise ModelError("the model has no parameter that requires a gradient")
    if frozen:
        raise ModelError(
            f"params {params!r} matches only parameters that require no gradient: "
            f"{', '.join(frozen)}"
        )
    names = ", ".join(name for name, p in model.named_parameters() if p.requires_grad)
    raise ModelError(f"params {params!r} matches no trainable parameter of: {names}")


def _refuse_unusable(model: nn.Module) -> None:
    """Refuse tensors that cannot be computed with, by name, before torch does so without one."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(f"the model's {name} has no values yet; run the model once before")
        if not computes_on(tensor.device):
            remedy = (
                "it has no values; load the model's weights"
                if tensor.is_meta
                else "move the model to cpu or cuda"
            )
            raise DeviceError(f"the model's {name} is on the device {tensor.device}: {remedy}")
        if hasattr(tensor, "device_mesh"):
            raise ModelError(
                f"the model's {name} is spread over a mesh of devices; score a model that is whole "
                "in one process, such as a copy loaded from its checkpoint"
            )
        if tensor.is_inference():
            raise ModelError(
                f"the model's {name} was made under torch.inference_mode(), so autograd cannot use "
                "it; make or load the model outside"
            )


def _refuse_quantized(model: nn.Module) -> None:
    """Refuse modules whose weights are integers: those would be left out without a word."""
    for name, module in model.named_modules():
        if type(module).__module__.startswith("torch.ao.nn.") and ".quantized." in (
            type(module).__module__ + "."
        ):
            raise ModelError(
                f"the model's {name or 'top module'} is quantized, so its weights have no "
                "gradient; score the model as it was before, or choose the parameters that count "
                "by params"
            )
