"""One forward pass of a model, recorded so that norms follow from output cotangents.

While the tape records, the weights of calls with a rule are constants: their gradients come from
the rule. So any path in the autograd graph that still leads to a parameter is a use without a rule
(a module without one, a parameter used by a function elsewhere), and is left to autograd. Together,
these are all uses, each counted once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from egl_fast.errors import ModelError
from egl_fast.gradients.calls import Call, graph_of
from egl_fast.gradients.model_call import ModelInputs, call_model
from egl_fast.gradients.recording import recorded_functions, recorded_modules
from egl_fast.gradients.rules.linear import gate_products
from egl_fast.gradients.running import constants, running
from egl_fast.gradients.stages import Stage, stages_of
from egl_fast.recurrent import Direction, scanned_recurrence


@dataclass(frozen=True)
class Tape:
    """A forward pass and everything needed to pull cotangents back."""

    inputs: ModelInputs
    outputs: Any
    calls: list[Call]  # with rules
    parameters: dict[str, nn.Parameter]  # those that count, by qualified name
    # Whether hooks change cotangents on the way; at the end of a stage, they would run twice.
    has_hooks: bool = False

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

    @property
    def stage(self) -> Stage:
        """The whole backward pass, as one stage."""
        return Stage(self.logits, None, *self.reachable)

    @cached_property
    def stages(self) -> list[Stage]:
        """The backward pass in the shortest stages there are."""
        if self.has_hooks:
            return [self.stage]
        return stages_of(self.logits, *self.reachable)

    def check_unmodified(self) -> None:
        """Check that no module's input was overwritten after the call.

        Raises:
            ModelError: one was.
        """
        for call in self.calls:
            if call.is_modified:
                names = ", ".join(call.names)
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
        stack.enter_context(recorded_modules(model, names, calls))
        functions = recorded_functions(names, calls)
        if not declares_utterances_first(model):  # functions may have utterances anywhere
            stack.enter_context(functions)
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
    has_hooks = functions.registered_hooks or any(
        module._backward_hooks or module._backward_pre_hooks for module in model.modules()
    )
    return Tape(inputs, outputs, calls, dict(parameters), has_hooks)


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
