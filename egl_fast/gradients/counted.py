"""Which parameters of a model count, and whether they can have gradients."""

from __future__ import annotations

import fnmatch
from itertools import chain

from torch import nn
from torch.nn.parameter import is_lazy

from egl_fast.compute.devices import computes_on
from egl_fast.errors import DeviceError, ModelError


def counted_parameters(model: nn.Module, params: str | None) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient and match, by qualified name, in the model's order.

    Patterns are shell patterns, separated by commas; None matches all. A weight that several
    modules share has several names. It counts if one of them matches, under the first.

    Raises:
        ModelError: there is none, or the model has tensors that autograd cannot use.
        DeviceError: one of them is on a device without operators.
    """
    _refuse_unusable(model)
    if params is None:
        _refuse_quantized(model)
    patterns = [p.strip() for p in params.split(",")] if params is not None else ["*"]
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
        # A misspelled pattern among several would silently leave out parameters.
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
    """Refuse tensors that cannot be used, naming them, which torch's errors do not."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(f"the model's {name} has no values yet; run the model once first")
        if not computes_on(tensor.device):
            remedy = (
                "it has no values; load the model's weights"
                if tensor.is_meta
                else "move the model to cpu or cuda"
            )
            raise DeviceError(f"the model's {name} is on the device {tensor.device}: {remedy}")
        if hasattr(tensor, "device_mesh"):
            raise ModelError(
                f"the model's {name} is distributed over a mesh of devices; score a model that is "
                "complete in one process, such as a copy loaded from its checkpoint"
            )
        if tensor.is_inference():
            raise ModelError(
                f"the model's {name} was created under torch.inference_mode(), so autograd cannot "
                "use it; create or load the model outside"
            )


def _refuse_quantized(model: nn.Module) -> None:
    """Refuse modules whose weights are integers, which would be left out silently."""
    for name, module in model.named_modules():
        if type(module).__module__.startswith("torch.ao.nn.") and ".quantized." in (
            type(module).__module__ + "."
        ):
            raise ModelError(
                f"the model's {name or 'top module'} is quantized, so its weights have no "
                "gradient; score the original model, or choose other parameters by params"
            )
