"""Makes the weights of modules and functions with a rule constants, and records their calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.overrides import TorchFunctionMode

from egl_fast.compute.linear import constant_linear
from egl_fast.errors import ModelError
from egl_fast.gradients.calls import Call, Computed, graph_of
from egl_fast.gradients.functions import USES
from egl_fast.gradients.rules.linear import linear
from egl_fast.gradients.rules.rule import Prepare, Rule, rule_of


@dataclass
class _Weights:
    """The weights of one call, as constants, and where they come from."""

    constants: dict[str, Tensor] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)  # as in ``Call``
    computed: dict[str, Computed] = field(default_factory=dict)

    @property
    def count(self) -> bool:
        """Whether a gradient of the call is asked for."""
        return bool(self.parameters or self.computed)


@dataclass
class _Recorder:
    names: Mapping[int, str]  # of parameters that count, by identity
    calls: list[Call]

    def hold(self, values: Mapping[str, Tensor | None]) -> _Weights:
        """Detach a call's weights, unless they depend on results of other calls."""
        held = _Weights()
        for local, value in values.items():
            if value is None or not value.requires_grad:
                continue
            if value.is_leaf:
                held.constants[local] = value.detach()
                if id(value) in self.names:
                    held.parameters[local] = self.names[id(value)]
                continue
            of_calls = {call.edge.node for call in self.calls}
            nodes, leaves = graph_of(value, until=of_calls)
            if not nodes.isdisjoint(of_calls):
                continue
            held.constants[local] = value.detach()
            made_of = {self.names[key]: leaf for key, leaf in leaves.items() if key in self.names}
            if made_of:
                held.computed[local] = Computed(value, made_of)  # type: ignore[arg-type]
        return held

    def record(
        self,
        weights: _Weights,
        output: Tensor,
        module: nn.Module | None,
        rule: Prepare,
        args: tuple[Any, ...],
    ) -> Tensor:
        """Record a call; returns its output, from behind the place where cotangents arrive."""
        if not output.requires_grad:  # the first layer
            output = output.detach().requires_grad_()
        edge = get_gradient_edge(output)
        kept = tuple(a.detach() if isinstance(a, Tensor) else a for a in args)
        self.calls.append(
            Call(
                weights.parameters,
                edge,
                output.shape,
                module,
                rule,
                kept,
                computed=weights.computed,
            )
        )
        # Our own node between call and model, so that whatever the model does to the output,
        # including in-place writes and hooks, is behind the edge. Neither a view nor a copy.
        result: Tensor = torch.ops.aten._unsafe_view.default(output, output.shape)
        return result


@contextmanager
def recorded_modules(
    model: nn.Module, names: Mapping[int, str], calls: list[Call]
) -> Iterator[None]:
    """Run every module with a rule with constant weights, and record its calls."""
    recorder = _Recorder(names, calls)
    found = [(module, rule) for module in model.modules() if (rule := rule_of(module)) is not None]
    for module, rule in found:
        module.__dict__["forward"] = _forward_on_tape(module, rule, recorder)
    try:
        yield
    finally:
        for module, _ in found:
            del module.__dict__["forward"]


def _forward_on_tape(module: nn.Module, rule: Rule, recorder: _Recorder) -> Callable[..., Any]:
    own = module.forward
    kind = type_before_parametrizations(module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        values: dict[str, Tensor | None] = dict(module._parameters)
        for name in ("weight", "bias"):  # attributes, if they are computed
            if name not in values and isinstance(value := getattr(module, name, None), Tensor):
                values[name] = value
        if not _computes_as_written(*values.values()):
            return own(*args, **kwargs)
        held = recorder.hold(values)
        # The module's double, so that only this call sees constants.
        double: Any = object.__new__(kind)
        vars(double).update(vars(module))
        del vars(double)["forward"]
        constants = {**values, **held.constants}
        vars(double)["_parameters"] = {name: constants.pop(name) for name in module._parameters}
        vars(double).update(constants)
        output: Tensor = rule.forward(double, *args, **kwargs)
        if not held.count:
            return output
        if module.training:
            raise ModelError(
                f"the module with {next(iter(held.parameters.values()))} runs in training mode, "
                "though the model was set to evaluation mode; there is no rule for its gradient"
            )
        return recorder.record(held, output, double, rule.prepare, args or tuple(kwargs.values()))

    return forward


def _computes_as_written(*weights: Tensor | None) -> bool:
    """Whether a rule holds for a call now: float32 or float64, no ``torch.autocast``.

    Autograd handles other calls; where autograd records nothing, the model stops its gradient.
    """
    if not torch.is_grad_enabled():
        return False
    if any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")):
        return False
    return all(w is None or w.dtype in (torch.float32, torch.float64) for w in weights)


class recorded_functions(TorchFunctionMode):  # noqa: N801 (used as a context)
    """Record functions that are called with a weight that counts, outside modules with a rule.

    That covers attention, whose projections are not calls of modules, subclasses of modules with
    a rule, and layers of other libraries that use their weights directly.

    Attributes:
        registered_hooks: whether the model registered a hook on a tensor.
    """

    def __init__(self, names: Mapping[int, str], calls: list[Call]) -> None:
        super().__init__()
        self.registered_hooks = False
        self._recorder = _Recorder(names, calls)
        self._attention = _attention_with(self._linear)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.linear:
            func = self._linear
        elif func is F.multi_head_attention_forward:
            func = self._attention
        elif func in USES:
            func = partial(self._as_module, func)
        elif func is Tensor.register_hook:
            self.registered_hooks = True
        return func(*args, **(kwargs or {}))

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not _computes_as_written(weight, bias) or weight.dim() != 2:
            return F.linear(input, weight, bias)
        held = self._recorder.hold({"weight": weight, "bias": bias})
        constants = {"bias": bias, **held.constants}
        output = constant_linear(input, held.constants.get("weight", weight), constants["bias"])
        return self._recorder.record(held, output, None, linear, (input,)) if held.count else output

    def _as_module(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled():
            use = USES[func](*args, **kwargs)
            if _computes_as_written(*use.weights.values()):
                held = self._recorder.hold(use.weights)
                module = use.module(device="meta") if held.count else None
                rule = None if module is None else rule_of(module)
                if module is not None and rule is not None:
                    vars(module)["_parameters"] = {**use.weights, **held.constants}
                    output = rule.forward(module, use.input)
                    return self._recorder.record(held, output, module, rule.prepare, (use.input,))
        return func(*args, **kwargs)


def _attention_with(linear: Callable[..., Tensor]) -> Callable[..., Any]:
    """Torch's own attention, with another ``linear``.

    A copy of its code with other globals: under a function mode, the original only calls the mode.
    """
    within = {**vars(F), "linear": linear, "has_torch_function": lambda _: False}
    for name in ("_in_projection_packed", "_in_projection", "multi_head_attention_forward"):
        original = getattr(F, name)
        within[name] = FunctionType(original.__code__, within, name, original.__defaults__)
        within[name].__kwdefaults__ = original.__kwdefaults__
    attention: Callable[..., Any] = within["multi_head_attention_forward"]
    return attention
