"""Cuts a backward pass into stages, so that more rows fit into memory at once.

A model of blocks has tensors through which every path from the logits to the layers below must
go, such as the sum at the end of a residual block. There the backward pass can stop, and continue
later from that tensor's cotangents. The operations are the same, but the cotangents of a block are
freed before those of the next are computed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from egl_fast.gradients.calls import Call, graph_of


@dataclass
class Stage:
    """The part of a backward pass between two such tensors, before the first, or after the last."""

    start: Tensor | GradientEdge  # the logits, or where the previous stage ended
    end: GradientEdge | None = None  # None after the last
    calls: list[Call] = field(default_factory=list)
    direct: dict[str, nn.Parameter] = field(default_factory=dict)  # used without a rule

    @property
    def numbers(self) -> int:
        """Numbers that a pass returns for each row; as many again are in transit.

        The gradient of a computed weight is in transit to those of its parameters.
        """
        weights = {id(w.value): w for call in self.calls for w in call.computed.values()}.values()
        made_of = {name: p for weight in weights for name, p in weight.parameters.items()}
        tensors = [*self.direct.values(), *made_of.values()]
        return sum(call.output.numel() for call in self.calls) + sum(t.numel() for t in tensors)

    @property
    def names(self) -> list[str]:
        """Qualified names of the parameters whose gradients depend on the stage."""
        return [*self.direct, *(name for call in self.calls for name in call.names)]

    def joined(self, following: Stage) -> Stage:
        """Both stages as one."""
        return Stage(
            self.start,
            following.end,
            [*self.calls, *following.calls],
            {**self.direct, **following.direct},
        )


def joined(stages: Sequence[Stage], most_numbers: float) -> list[Stage]:
    """Join consecutive stages while the result has at most this many numbers.

    Stages with nothing to compute are always joined.
    """
    found: list[Stage] = []
    for stage in stages:
        before = found[-1] if found else None
        if before is not None and (
            before.numbers + stage.numbers <= most_numbers or not (before.names and stage.names)
        ):
            found[-1] = before.joined(stage)
        else:
            found.append(stage)
    return found


def stages_of(logits: Tensor, calls: list[Call], direct: dict[str, nn.Parameter]) -> list[Stage]:
    """The shortest possible stages, from the logits down; one if there is nowhere to cut."""
    nodes, _ = graph_of(logits)
    wanted = {get_gradient_edge(parameter).node for parameter in direct.values()}
    graph = _Graph(nodes, wanted.union(call.edge.node for call in calls))
    cuts = graph.cuts()
    edges = [GradientEdge(graph.inner[cut], 0) for cut in cuts]
    starts: list[Tensor | GradientEdge] = [logits, *edges]
    stages = [Stage(start, end) for start, end in zip(starts, [*edges, None], strict=True)]
    for call in calls:
        stages[graph.stage(call.edge.node, cuts)].calls.append(call)
    for name, parameter in direct.items():
        stages[graph.stage(get_gradient_edge(parameter).node, cuts)].direct[name] = parameter
    return joined(stages, most_numbers=0)


class _Graph:
    """The part of an autograd graph that leads to wanted nodes, in the order of a backward pass."""

    def __init__(self, nodes: set[Node], wanted: set[Node]) -> None:
        inner = sorted(
            (node for node in nodes if node.next_functions),
            key=lambda node: -node._sequence_nr(),
        )
        leading = set(wanted)
        for node in reversed(inner):
            if any(child in leading for child, _ in node.next_functions):
                leading.add(node)
        self.inner = [node for node in inner if node in leading]
        self._place = {node: i for i, node in enumerate(self.inner)}
        # Leaf -> place of the last node that leads to it.
        self._last_use: dict[Node, int] = {}
        self._entries: dict[Node, set[int]] = defaultdict(set)
        for i, node in enumerate(self.inner):
            for child, number in node.next_functions:
                if child in leading:
                    self._entries[child].add(number)
                    if child not in self._place:
                        self._last_use[child] = i

    def cuts(self) -> list[int]:
        """Places of nodes that all paths from earlier to later nodes go through."""
        found, reach = [], 0
        for i, node in enumerate(self.inner):
            if 0 < i == reach and self._entries[node] == {0}:
                found.append(i)
            for child, _ in node.next_functions:
                if child in self._place and self._place[child] <= i:
                    return []  # nodes are not in the order of a backward pass
                if child in self._place:
                    reach = max(reach, self._place[child])
                elif child in self._last_use:  # a leaf: all its uses must be above a cut, or below
                    reach = max(reach, self._last_use[child] + 1)
        return found

    def stage(self, node: Node, cuts: list[int]) -> int:
        """Which stage computes the cotangent that arrives at a node."""
        if node in self._place:
            return bisect_left(cuts, self._place[node])
        return bisect_right(cuts, self._last_use[node])
