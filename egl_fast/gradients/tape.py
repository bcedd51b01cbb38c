"""One forward pass of a model, remembered so that norms can be had from output cotangents.

While the tape records, the parameters of a module with a rule are constants: its gradients come
from the rule. So whatever of the autograd graph still leads to a parameter is a use that no rule
covers (a module without one, a weight used by a function elsewhere), and is left to autograd.
Together they are every use there is, each counted once.
"""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from egl_fast.errors import ModelError
from egl_fast.gradients.recurrent import GateInputs, gate_inputs
from egl_fast.gradients.rules import Pullback, Rule, rule_of
from egl_fast.recurrent import Direction, scanned_recurrence, without_cudnn

#: Held while a model is hooked, put into evaluation mode and relieved of its parameters: two
#: threads that score with one model would take each other's changes for its own.
RUNNING = threading.RLock()


@dataclass
class Call(ABC):
    """One call of a module (or one direction of a recurrent layer) that a rule covers.

    Attributes:
        parameters: name in the module (and rule) -> qualified name, of the parameters asked for.
        edge: where autograd delivers the cotangent of the call's output.
        output: shape of that output.
        values: tensors the rule will read, with their versions when they were recorded.
    """

    parameters: dict[str, str]
    edge: GradientEdge
    output: torch.Size
    values: list[tuple[Tensor, int]] = field(init=False)

    @abstractmethod
    def prepare(self, utterance: int | None) -> Pullback:
        """The rule's pullback for one utterance of the batch; None: the batch is one utterance."""

    @abstractmethod
    def slice_cotangent(self, cotangent: Tensor, utterance: int | None) -> Tensor:
        """The utterance's share of output cotangents [R, ...]."""


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
class GateCall(Call):
    """One side of one direction of a recurrent layer; utterances are columns."""

    gates: GateInputs

    def __post_init__(self) -> None:
        self.values = [(self.gates.inputs, self.gates.inputs._version)]

    def prepare(self, utterance: int | None) -> Pullback:
        """See ``Call``."""
        return self.gates.prepare(utterance, frozenset(self.parameters))

    def slice_cotangent(self, cotangent: Tensor, utterance: int | None) -> Tensor:
        """See ``Call``."""
        column = self.gates.column_of(utterance)
        return cotangent if column is None else cotangent[:, :, column : column + 1]


@dataclass(frozen=True)
class Tape:
    """A forward pass and everything its pull-back needs.

    Attributes:
        inputs: what the model was given.
        outputs: what the model returned.
        calls: calls covered by rules.
        parameters: parameters asked for, by qualified name.
    """

    inputs: tuple[Any, ...]
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
    # Saving a tensor for a backward pass is refused if it was made in inference mode.
    inputs = tuple(x.clone() if isinstance(x, Tensor) and x.is_inference() else x for x in inputs)
    with ExitStack() as stack:
        stack.enter_context(RUNNING)
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices(model)))
        stack.enter_context(_evaluation_mode(model))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_recorded_modules(model, names, calls))

        def record_direction(direction: Direction) -> None:
            if not torch.is_grad_enabled():
                return  # the model cuts its gradient here
            own = direction.module._parameters
            for gates in gate_inputs(direction):
                wanted = {
                    local: names[id(parameter)]
                    for local in (gates.weight, gates.bias)
                    if (parameter := own.get(local + direction.suffix)) is not None
                    and id(parameter) in names
                }
                if wanted:
                    edge = get_gradient_edge(gates.tap)
                    calls.append(GateCall(wanted, edge, gates.tap.shape, gates))

        stack.enter_context(
            scanned_recurrence(
                model,
                record=record_direction,
                weights_need_grad=False,
                ragged=declares_utterances_first(model),
                precise=True,
            )
        )
        outputs = model(*inputs)
    return Tape(inputs, outputs, calls, dict(parameters))


def declares_utterances_first(model: nn.Module) -> bool:
    """Whether the model's own class promises that utterances may share its forward pass.

    A subclass may have another ``forward``, so it does not inherit the promise.
    """
    return bool(vars(type(model)).get("utterances_first", False))


def infer(model: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """Outputs of the model in evaluation mode without a graph; leaves everything as it was."""
    random = torch.random.fork_rng(devices=_cuda_devices(model))
    with RUNNING, random, _evaluation_mode(model), torch.no_grad():
        return model(*inputs)


def plain_sq_norms(
    model: nn.Module, inputs: tuple[Any, ...], cotangent: Tensor, names: Sequence[str]
) -> dict[str, float]:
    """||J^T cotangent||^2 of parameters, by autograd through the model as it is.

    Args:
        model: run in evaluation mode, left as it was.
        inputs: of its call, whose first output is the logits.
        cotangent: of the logits, in their shape.
        names: of the parameters.

    Returns:
        By name; 0 where nothing depends.
    """
    own = dict(model.named_parameters())
    random = torch.random.fork_rng(devices=_cuda_devices(model))
    with (
        RUNNING,
        random,
        _evaluation_mode(model),
        without_cudnn(),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        logits = model(*inputs)[0]
        found = torch.autograd.grad(
            logits, [own[name] for name in names], cotangent, allow_unused=True
        )
    return {
        name: 0.0 if gradient is None else float(gradient.double().square().sum())
        for name, gradient in zip(names, found, strict=True)
    }


def plain_sq_norms_in_double(
    model: nn.Module, inputs: tuple[Any, ...], cotangent: Tensor, names: Sequence[str]
) -> dict[str, float]:
    """``plain_sq_norms`` of a copy of the model in float64; of itself where a copy would not do."""
    if any(parameter._backward_hooks for parameter in model.parameters()):
        return plain_sq_norms(model, inputs, cotangent, names)  # which copies don't take along
    wide = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
    try:
        double = copy.deepcopy(model).double()
        return plain_sq_norms(double, tuple(wide), cotangent.double(), names)
    except Exception:  # a stranger's model may refuse to be copied, or to compute in float64
        return plain_sq_norms(model, inputs, cotangent, names)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for module, _ in modes:
        module.training = False  # also where the model's own train() would have it otherwise
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
        # A call that failed inside the model left its parameters held back.
        _, own = held_back.setdefault(id(module), (module, dict(module._parameters)))
        for name, parameter in own.items():
            # What is no leaf was computed from parameters, whose gradients pass through here.
            if parameter is not None and parameter.is_leaf:
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
        if not wanted or not torch.is_grad_enabled():  # without: the model cuts its gradient here
            return output
        if module.training:
            raise ModelError(
                f"the module that holds {next(iter(wanted.values()))} runs in training mode though "
                "the model was put into evaluation mode; its gradient has no rule"
            )
        if not output.requires_grad:  # the first layer
            output = output.detach().requires_grad_()
        edge = get_gradient_edge(output)
        # A node of our own between module and model: what the model does to the output, writing
        # in place and hooks included, happens behind the edge. No view to autograd, no copy.
        result: Tensor = torch.ops.aten._unsafe_view.default(output, output.shape)
        rule = rule_of(module)
        assert rule is not None
        positional = args or tuple(kwargs.values())
        kept = tuple(a.detach() if isinstance(a, Tensor) else a for a in positional)
        calls.append(ModuleCall(wanted, edge, output.shape, module, rule, kept))
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
