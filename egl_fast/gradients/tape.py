"""One forward pass of a model, remembered so that norms can be had from output cotangents.

While the tape records, the parameters of a module with a rule are constants: its gradients come
from the rule. So whatever of the autograd graph still leads to a parameter is a use that no rule
covers (a module without one, a weight used by a function elsewhere), and is left to autograd.
Together they are every use there is, each counted once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from egl_fast.errors import ModelError
from egl_fast.gradients.recurrent import prepare_direction
from egl_fast.gradients.rules import Pullback, Rule, rule_of
from egl_fast.recurrent import Direction, scanned_recurrence


@dataclass
class Call:
    """One call of a module (or one direction of a recurrent layer) that a rule covers.

    Attributes:
        parameters: name in the module (and rule) -> qualified name, of the parameters asked for.
        edge: where autograd delivers the cotangent of the call's output.
        values: tensors the rule will read, with their versions when they were recorded.
    """

    parameters: dict[str, str]
    edge: GradientEdge
    values: list[tuple[Tensor, int]] = field(init=False)

    def prepare(self, utterance: int | None) -> Pullback:
        """The rule's pullback for one utterance of the batch; None: the batch is one utterance."""
        raise NotImplementedError  # pragma: no cover

    def slice_cotangent(self, cotangent: Tensor, utterance: int | None) -> Tensor:
        """The utterance's share of output cotangents [R, ...]."""
        raise NotImplementedError  # pragma: no cover


@dataclass
class ModuleCall(Call):
    """A call of a module with a rule of its own; utterances lie along dimension 0."""

    module: nn.Module
    rule: Rule
    args: tuple[Any, ...]

    def __post_init__(self) -> None:
        self.values = [(a, a._version) for a in self.args if isinstance(a, Tensor)]

    def prepare(self, utterance: int | None) -> Pullback:
        """See ``Call``."""
        args = self.args
        if utterance is not None:
            args = tuple(a[utterance : utterance + 1] if isinstance(a, Tensor) else a for a in args)
        return self.rule.prepare(self.module, args, frozenset(self.parameters))

    def slice_cotangent(self, cotangent: Tensor, utterance: int | None) -> Tensor:
        """See ``Call``."""
        return cotangent if utterance is None else cotangent[:, utterance : utterance + 1]


@dataclass
class DirectionCall(Call):
    """One direction of one recurrent layer; utterances are columns, perhaps in another order."""

    direction: Direction

    def __post_init__(self) -> None:
        self.values = [(self.direction.inputs, self.direction.inputs._version)]

    def _column(self, utterance: int | None) -> int | None:
        order = self.direction.order
        if utterance is None or order is None:
            return utterance
        return int((order == utterance).nonzero().item())

    def prepare(self, utterance: int | None) -> Pullback:
        """See ``Call``."""
        return prepare_direction(
            self.direction, self._column(utterance), frozenset(self.parameters)
        )

    def slice_cotangent(self, cotangent: Tensor, utterance: int | None) -> Tensor:
        """See ``Call``."""
        column = self._column(utterance)
        return cotangent if column is None else cotangent[:, :, column : column + 1]


@dataclass(frozen=True)
class Tape:
    """A forward pass and everything its pull-back needs.

    Attributes:
        outputs: what the model returned.
        calls: calls covered by rules.
        parameters: parameters asked for, by qualified name.
        names: qualified name by parameter identity.
    """

    outputs: Any
    calls: list[Call]
    parameters: dict[str, nn.Parameter]

    def reachable(self, logits: Tensor) -> tuple[list[Call], dict[str, nn.Parameter]]:
        """What the logits depend on: calls, and parameters through uses that no rule covers."""
        nodes, leaves = _graph_of(logits)
        calls = [call for call in self.calls if call.edge.node in nodes]
        direct = {name: p for name, p in self.parameters.items() if id(p) in leaves}
        return calls, direct

    def check_unmodified(self) -> None:
        """Make sure that no recorded input was overwritten after its module had read it.

        Raises:
            ModelError: one was.
        """
        for call in self.calls:
            if any(value._version != version for value, version in call.values):
                names = ", ".join(call.parameters.values())
                raise ModelError(
                    f"the input of the module that holds {names} is modified in place after the "
                    "module has read it; its gradient is not defined"
                )


def record(
    model: nn.Module, inputs: tuple[Any, ...], parameters: Mapping[str, nn.Parameter]
) -> Tape:
    """Run the model once in evaluation mode and remember what gradient norms need.

    Training mode, hooks, parameters and random state are as they were afterwards, also after an
    exception.

    Args:
        model: any module.
        inputs: positional arguments of its call.
        parameters: those whose gradients count, by qualified name.
    """
    calls: list[Call] = []
    names = {id(parameter): name for name, parameter in parameters.items()}
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices(model)))
        stack.enter_context(_evaluation_mode(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_recorded_modules(model, names, calls))

        def record_direction(direction: Direction) -> None:
            wanted = {
                local: names[id(parameter)]
                for local in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                if (parameter := direction.module._parameters.get(local + direction.suffix))
                is not None
                and id(parameter) in names
            }
            if wanted:
                calls.append(
                    DirectionCall(wanted, get_gradient_edge(direction.projected), direction)
                )

        stack.enter_context(
            scanned_recurrence(model, record=record_direction, weights_need_grad=False)
        )
        outputs = model(*inputs)
    return Tape(outputs, calls, dict(parameters))


def infer(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """Outputs of the model in evaluation mode without a graph; leaves everything as it was."""
    random = torch.random.fork_rng(devices=_cuda_devices(model))
    with random, _evaluation_mode(model), torch.no_grad():
        return model(*inputs)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _recorded_modules(
    model: nn.Module, names: Mapping[int, str], calls: list[Call]
) -> Iterator[None]:
    """Hook every module with a rule: its parameters count as constants, its calls are kept."""
    held_back: dict[int, tuple[nn.Module, dict[str, nn.Parameter | None]]] = {}

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        held_back[id(module)] = module, dict(module._parameters)
        for name, parameter in module._parameters.items():
            if parameter is not None:
                # A plain tensor in the place of a parameter: lookups find it all the same.
                module._parameters[name] = parameter.detach()  # type: ignore[assignment]

    def give_back(module: nn.Module) -> dict[str, nn.Parameter | None]:
        _, own = held_back.pop(id(module))
        module._parameters.update(own)
        return own

    def after(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        own = give_back(module)
        wanted = {
            local: names[id(parameter)]
            for local, parameter in own.items()
            if parameter is not None and id(parameter) in names
        }
        if not wanted:
            return output
        if not output.requires_grad:
            # The first layer: a leaf, and a copy of it that later layers may write to.
            output = output.detach().requires_grad_()
            edge = get_gradient_edge(output)
            result = output.clone()
        else:
            # The edge of now: writing to the output in place later does not move it.
            edge = get_gradient_edge(output)
            result = output
        rule = rule_of(module)
        assert rule is not None
        positional = args or tuple(kwargs.values())
        kept = tuple(a.detach() if isinstance(a, Tensor) else a for a in positional)
        calls.append(ModuleCall(wanted, edge, module, rule, kept))
        return result

    with ExitStack() as stack:
        stack.callback(lambda: [give_back(module) for module, _ in list(held_back.values())])
        for module in model.modules():
            if rule_of(module) is not None:
                stack.enter_context(_removed(module.register_forward_pre_hook(before)))
                handle = module.register_forward_hook(after, with_kwargs=True, prepend=True)
                stack.enter_context(_removed(handle))
        yield


@contextmanager
def _removed(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _graph_of(output: Tensor) -> tuple[set[Node], set[int]]:
    """Nodes that lead to a tensor, and identities of the leaves among them."""
    if not output.requires_grad:
        return set(), set()
    root = get_gradient_edge(output).node
    nodes, leaves, waiting = {root}, set(), [root]
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves.add(id(variable))
        for child, _ in node.next_functions:
            if child is not None and child not in nodes:
                nodes.add(child)
                waiting.append(child)
    return nodes, leaves


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
