"""Uses of weights whose gradients follow from a rule."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from egl_fast.gradients.rules.rule import Prepare, Pullback


@dataclass(frozen=True)
class Computed:
    """A weight computed in the forward pass from parameters: normalized, masked, a slice."""

    value: Tensor  # in the autograd graph
    parameters: dict[str, nn.Parameter]  # those that count, by qualified name


@dataclass(frozen=True)
class Call:
    """A use of weights with a rule: a call of a module or function, or a side of a recurrence."""

    # Name in the module (and rule) -> qualified name, of parameters that count.
    parameters: dict[str, str]
    edge: GradientEdge  # where autograd delivers the cotangent of the call's output
    output: torch.Size  # shape of that output
    module: nn.Module | None  # None for a function
    rule: Prepare
    args: tuple[Any, ...]
    dimension: int = 0  # dimension of the utterances, in ``args`` and in the output
    # The utterance at each index along it; None if they are in order.
    columns: tuple[int, ...] | None = None
    # Name in the module (and rule) -> a weight computed from parameters that count.
    computed: dict[str, Computed] = field(default_factory=dict)
    _versions: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._versions.extend(self._versions_now())

    @property
    def names(self) -> list[str]:
        """Qualified names of the parameters whose gradients depend on this call."""
        made_of = (name for weight in self.computed.values() for name in weight.parameters)
        return list(dict.fromkeys((*self.parameters.values(), *made_of)))

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
        return self.rule(self.module, args, frozenset((*self.parameters, *self.computed)))

    def slice_cotangent(self, cotangent: Tensor, utterance: int | None) -> Tensor:
        """The utterance's share of output cotangents [R, ...]."""
        return self._only(cotangent, utterance, self.dimension + 1)


def graph_of(output: Tensor, *, until: Container[Node] = ()) -> tuple[set[Node], dict[int, Tensor]]:
    """Nodes that lead to a tensor, and the leaves among them by identity.

    The first node found in ``until`` ends the search.
    """
    if not output.requires_grad:
        return set(), {}
    root = get_gradient_edge(output).node
    nodes, waiting = {root}, [root]
    leaves: dict[int, Tensor] = {}
    while waiting:
        node = waiting.pop()
        if node in until:
            break
        variable = getattr(node, "variable", None)
        if variable is not None:
            leaves[id(variable)] = variable
        for child, _ in node.next_functions:
            if child is not None and child not in nodes:
                nodes.add(child)
                waiting.append(child)
    return nodes, leaves
