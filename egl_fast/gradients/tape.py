"""One forward pass of a model, recorded so that norms follow from output cotangents.

While the tape records, the parameters of modules with a rule are constants: their gradients come
from the rule. So any path in the autograd graph that still leads to a parameter is a use without a
rule (a module without one, a weight used by a function elsewhere), and is left to autograd. Both
together are all uses, each counted once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from egl_fast.errors import ModelError
from egl_fast.gradients.model_call import ModelInputs, call_model
from egl_fast.gradients.rules.linear import gate_products
from egl_fast.gradients.rules.rule import Prepare, Pullback, rule_of
from egl_fast.gradients.running import constants, running
from egl_fast.recurrent import Direction, scanned_recurrence


@dataclass(frozen=True)
class Call:
    """A call of a module with a rule, or of one side of one direction of a recurrent layer."""

    # Name in the module (and rule) -> qualified name, of parameters that count.
    parameters: dict[str, str]
    edge: GradientEdge  # where autograd delivers the cotangent of the call's output
    output: torch.Size  # shape of that output
    module: nn.Module
    rule: Prepare
    args: tuple[Any, ...]
    dimension: int = 0  # of the utterances, in ``args`` and in the output
    # The utterance at each index along it; None if they are in order.
    columns: tuple[int, ...] | None = None
    _versions: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._versions.extend(self._versions_now())

    def _versions_now(self) -> list[int]:
        return [a._version for a in self.args if isinstance(a, Tensor)]

    @property
    def is_modified(self) -> bool:
        """Whether an argument of the rule has been overwritten since the call."""
        return self._versions_now() != self._versions

    def _only(self, x: Tensor, utterance: int | None, dimension: int) -> Tensor:
        if utterance is None:
            return x
        column = utterance if self.columns is None else self.columns.index(utterance)
        return x.narrow(dimension, column, 1)

    def prepare(self, utterance: int | None) -> Pullback:
        """The rule's pullback for one utterance of the batch; None if the batch has only one."""
        args = tuple(
            self._only(a, utterance, self.dimension) if isinstance(a, Tensor) else a
            for a in self.args
        )
        return self.rule(self.module, args, frozenset(self.parameters))

    def slice_cotangent(self, cotangent: Tensor, utterance: int | None) -> Tensor:
        """The utterance's share of output cotangents [R, ...]."""
        return self._only(cotangent, utterance, self.dimension + 1)


@dataclass(frozen=True)
class Tape:
    """A forward pass and everything its pull-back needs."""

    inputs: ModelInputs
    outputs: Any
    calls: list[Call]  # of modules with rules
    parameters: dict[str, nn.Parameter]  # those that count, by qualified name

    @property
    def logits(self) -> Tensor:
        """[N, T, C], the first output."""
        logits: Tensor = self.outputs[0]
        return logits

    @cached_property
    def reachable(self) -> tuple[list[Call], dict[str, nn.Parameter]]:
        """What the logits depend on: calls, and parameters through uses without a rule.

        Raises:
            ModelError: the model has parts that only a complete backward pass reaches.
        """
        nodes, leaves = graph_of(self.logits)
        if any(node.name() == _REENTRANT_CHECKPOINT for node in nodes):
            raise ModelError(_CHECKPOINTING)
        calls = [call for call in self.calls if call.edge.node in nodes]
        direct = {name: p for name, p in self.parameters.items() if id(p) in leaves}
        return calls, direct

    def check_unmodified(self) -> None:
        """Check that no module's input was overwritten after the call.

        Raises:
            ModelError: one was.
        """
        for call in self.calls:
            if call.is_modified:
                names = ", ".join(call.parameters.values())
                raise ModelError(
                    f"the input of the module with {names} is modified in place after the call; "
                    "the gradient is not defined"
                )


def record(model: nn.Module, inputs: ModelInputs, parameters: Mapping[str, nn.Parameter]) -> Tape:
    """Run the model once in evaluation mode and record what gradient norms need.

    Restores training mode, hooks, parameters and random state, also after an exception.
    """
    calls: list[Call] = []
    names = {id(parameter): name for name, parameter in parameters.items()}
    with ExitStack() as stack:
        stack.enter_context(running(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_recorded_modules(model, names, calls))
        inputs = constants(inputs)

        def record_direction(direction: Direction) -> None:
            if not torch.is_grad_enabled():
                return  # the model stops its gradient here
            own = direction.module._parameters
            for weight, bias, inputs, tap in (
                ("weight_ih", "bias_ih", direction.inputs, direction.projected),
                ("weight_hh", "bias_hh", direction.previous, direction.hidden_tap),
            ):
                wanted = {
                    local: names[id(parameter)]
                    for local in (weight, bias)
                    if (parameter := own.get(local + direction.suffix)) is not None
                    and id(parameter) in names
                }
                if wanted:
                    edge, rule = get_gradient_edge(tap), gate_products(weight, bias)
                    at = (1, direction.columns)
                    calls.append(
                        Call(wanted, edge, tap.shape, direction.module, rule, (inputs,), *at)
                    )

        stack.enter_context(
            scanned_recurrence(
                model,
                record=record_direction,
                weights_need_grad=False,
                ragged=declares_utterances_first(model),
                precise=True,
            )
        )
        stack.enter_context(_refusing_recomputation())
        outputs = call_model(model, inputs)
    return Tape(inputs, outputs, calls, dict(parameters))


def declares_utterances_first(model: nn.Module) -> bool:
    """Whether the model's class itself declares that utterances may share its forward pass.

    Subclasses do not inherit this, as they may have another ``forward``.
    """
    return bool(vars(type(model)).get("utterances_first", False))


#: Its backward pass writes gradients to ``.grad`` instead of passing them on: the graph ends here.
_REENTRANT_CHECKPOINT = "CheckpointFunctionBackward"

_CHECKPOINTING = (
    "this model checkpoints activations in evaluation mode (or has other hooks on saved tensors), "
    "so its layers run again in the backward pass, when nothing records them; disable that for "
    "scoring, for instance by calling torch.utils.checkpoint only if self.training"
)


@contextmanager
def _refusing_recomputation() -> Iterator[None]:
    """Refuse hooks on saved tensors, which the other kind of checkpoint uses."""
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(_CHECKPOINTING):
            yield
    except RuntimeError as error:
        if _CHECKPOINTING in str(error):
            raise ModelError(_CHECKPOINTING) from None
        raise


@contextmanager
def _recorded_modules(
    model: nn.Module, names: Mapping[int, str], calls: list[Call]
) -> Iterator[None]:
    """Hook every module with a rule, to make its parameters constants and record its calls."""
    held_back: dict[int, tuple[nn.Module, dict[str, nn.Parameter | None]]] = {}

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not _computes_as_written(module):
            if id(module) in held_back:
                give_back(module)
            return
        # They may be held back already, if a call raised an error that the model caught.
        _, own = held_back.setdefault(id(module), (module, dict(module._parameters)))
        for name, parameter in own.items():
            # One that is not a leaf was computed from others, whose gradients pass through it.
            if parameter is not None and parameter.is_leaf:
                # A plain tensor among the parameters: attribute lookup still finds it.
                module._parameters[name] = parameter.detach()  # type: ignore[assignment]

    def give_back(module: nn.Module) -> dict[str, nn.Parameter | None]:
        _, own = held_back.pop(id(module))
        module._parameters.update(own)
        return own

    def after(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        if id(module) not in held_back:
            return output
        own = give_back(module)
        wanted = {
            local: names[id(parameter)]
            for local, parameter in own.items()
            if parameter is not None and id(parameter) in names
        }
        if not wanted or not torch.is_grad_enabled():  # the model stops its gradient here
            return output
        if module.training:
            raise ModelError(
                f"the module with {next(iter(wanted.values()))} runs in training mode, though the "
                "model was set to evaluation mode; there is no rule for its gradient"
            )
        if not output.requires_grad:  # the first layer
            output = output.detach().requires_grad_()
        edge = get_gradient_edge(output)
        # Our own node between module and model, so that whatever the model does to the output,
        # including in-place writes and hooks, is behind the edge. Neither a view nor a copy.
        result: Tensor = torch.ops.aten._unsafe_view.default(output, output.shape)
        rule = rule_of(module)
        assert rule is not None
        positional = args or tuple(kwargs.values())
        kept = tuple(a.detach() if isinstance(a, Tensor) else a for a in positional)
        calls.append(Call(wanted, edge, output.shape, module, rule.prepare, kept))
        return result

    with ExitStack() as stack:
        stack.callback(lambda: [give_back(module) for module, _ in list(held_back.values())])
        for module in model.modules():
            if rule_of(module) is not None:
                stack.callback(module.register_forward_pre_hook(before).remove)
                handle = module.register_forward_hook(after, with_kwargs=True, prepend=True)
                stack.callback(handle.remove)
        yield


def _computes_as_written(module: nn.Module) -> bool:
    """Whether the rule holds for a call of the module: float32 or float64, no ``torch.autocast``.

    Autograd handles the others.
    """
    if any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")):
        return False
    return all(p.dtype in (torch.float32, torch.float64) for p in module.parameters(recurse=False))


def graph_of(output: Tensor) -> tuple[set[Node], dict[int, Tensor]]:
    """Nodes that lead to a tensor, and the leaves among them by identity."""
    if not output.requires_grad:
        return set(), {}
    root = get_gradient_edge(output).node
    nodes, waiting = {root}, [root]
    leaves: dict[int, Tensor] = {}
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves[id(variable)] = variable
        for child, _ in node.next_functions:
            if child is not None and child not in nodes:
                nodes.add(child)
                waiting.append(child)
    return nodes, leaves
