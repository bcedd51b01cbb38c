"""The layer whose output cotangent is known before any backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from egl_fast.gradients.tape import Tape


@dataclass(frozen=True)
class OutputLayer:
    """The linear layer whose output is the logits, perhaps after a log-softmax."""

    inputs: Tensor  # [N, T, I]
    weight: str | None  # the weight's qualified name, or None if it does not count
    bias: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Qualified names of the parameters that count."""
        return tuple(name for name in (self.weight, self.bias) if name is not None)

    def frame_gram(self, lengths: Tensor) -> Tensor:
        """[N, T, T] float64 with <g_j, g_k> = <delta_j, frame_gram delta_k> for the layer's g.

        Zero on padding. The gradient of y = W a + b under a cotangent delta is (delta^T A, delta^T
        1).
        """
        frames = torch.arange(self.inputs.shape[1], device=self.inputs.device)
        valid = (frames < lengths.to(frames.device)[:, None]).double()
        total = valid[:, :, None] * valid[:, None, :] * float(self.bias is not None)
        if self.weight is not None:
            inputs = self.inputs.double() * valid[:, :, None]
            total = total + inputs @ inputs.transpose(1, 2)
        return total


def output_layer_of(tape: Tape) -> OutputLayer | None:
    """The linear layer whose output is the logits; None if there is none.

    Cotangents of a CTC loss sum to zero over the classes, so a log-softmax passes them unchanged.
    """
    logits = tape.logits
    if not logits.requires_grad:
        return None
    made = _behind_softmax(get_gradient_edge(logits).node)
    calls = [
        call
        for call in tape.calls
        if type(call.module) is nn.Linear
        and made is not None
        and made.next_functions[:1] == ((call.edge.node, call.edge.output_nr),)
    ]
    if len(calls) != 1 or calls[0].output != logits.shape or calls[0].computed:
        return None
    [call] = calls
    _, direct = tape.reachable
    names = set(call.names)
    others = (other.names for other in tape.calls if other is not call)
    if names & set(direct).union(*others):  # tied to another layer: the gradient is of both uses
        return None
    return OutputLayer(call.args[0], call.parameters.get("weight"), call.parameters.get("bias"))


def _behind_softmax(node: Node) -> Node | None:
    while type(node).__name__ == "LogSoftmaxBackward0":
        [(before, _)] = node.next_functions
        if before is None:
            return None
        node = before
    return node
