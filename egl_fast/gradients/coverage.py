"""What share of a model has a norm rule, and what the rest costs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.nn.utils.parametrize import type_before_parametrizations

from egl_fast.gradients.calls import graph_of
from egl_fast.gradients.layers import owner_of
from egl_fast.gradients.tape import Tape, declares_utterances_first
from egl_fast.warning import warn

#: Operations that spread a parameter over frames, by their nodes' names. On the way back, each sums
#: over the frames, as a rule would.
_SPREADS = re.compile(r"(Add|Sub|Rsub|Mul|Div|Expand|Repeat|Cat)Backward\d+")

#: Operations whose result has no more numbers than the parameter, each computed from few of them.
_KEEPS = re.compile(
    r"(View|UnsafeView|ReshapeAlias|Alias|Clone|ToCopy|Unsqueeze|Squeeze|Transpose|Permute|T"
    r"|Slice|Select|Split|Unbind|Exp|Neg|Sigmoid|Softplus|Tanh|Softmax)Backward\d+"
)


@dataclass(frozen=True)
class Coverage:
    """Which parameters autograd handles, since no rule covers a use of them.

    Their gradients are exact, but computed in full for every row, while a rule works on
    factors that all rows share. Parameters that only scale or shift activations, or are a
    layer's input, need no rule: there is nothing to save.

    Attributes:
        counted: numbers in all parameters that count and that the logits depend on.
        without_rule: numbers left to autograd, by the kind of module that owns them.
        row_share: their share of the memory, and so of the memory traffic, of a row.
    """

    counted: int
    without_rule: dict[str, int]
    row_share: float

    @classmethod
    def of(cls, model: nn.Module, tape: Tape) -> Coverage:
        """The coverage of the model as it ran."""
        calls, direct = tape.reachable
        reached = {*direct, *(name for call in calls for name in call.names)}
        by_kind: Counter[str] = Counter()
        # Not by get_submodule, which loaded TorchScript lacks.
        modules = dict(model.named_modules(remove_duplicate=False))
        # Where utterances share a pass, autograd has to repeat it for each of them.
        idle = set() if declares_utterances_first(model) else _without_need(tape)
        for name, parameter in direct.items():
            if name in idle:
                continue
            kind = type_before_parametrizations(modules[owner_of(name)])
            by_kind[kind.__name__] += parameter.numel()
        return cls(
            sum(tape.parameters[name].numel() for name in reached),
            dict(by_kind.most_common()),
            by_kind.total() / max(1, tape.stage.numbers),
        )

    @property
    def sentence(self) -> str:
        """One line for people."""
        if not self.without_rule:
            return f"All {self.counted:,} parameters have a norm rule or need none."
        slow = sum(self.without_rule.values())
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.without_rule.items())
        return (
            f"{slow / self.counted:.2%} of {self.counted:,} parameters have no norm rule "
            f"({kinds}): exact, by autograd, for {self.row_share:.1%} of a backward pass's memory."
        )

    def as_json(self) -> dict[str, Any]:
        """For metadata and ``--json``."""
        return {
            "parameters": self.counted,
            "without_rule": self.without_rule,
            "row_share": round(self.row_share, 4),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Coverage:
        """The inverse of ``as_json``, except for rounding."""
        return cls(value["parameters"], value["without_rule"], value["row_share"])


def warn_of_16_bits(parameters: Mapping[str, nn.Parameter]) -> None:
    """Warn that gradients are rounded; models whose logits are in 16 bits are refused elsewhere."""
    rounded = {n: p for n, p in parameters.items() if p.dtype in (torch.float16, torch.bfloat16)}
    if rounded:
        warn(
            f"{sum(p.numel() for p in rounded.values()):,} of "
            f"{sum(p.numel() for p in parameters.values()):,} parameters, such as "
            f"{next(iter(rounded))}, are in 16 bits, so their gradients have no norm rule and only "
            "two or three correct digits; score the model in float32, as after model.float()"
        )


def _without_need(tape: Tape) -> set[str]:
    """Parameters used without a rule whose gradients are mere sums of cotangents."""
    nodes, _ = graph_of(tape.logits)
    users: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
        for child, _ in node.next_functions:
            if child is not None:
                users[child].append(node)
    calls, direct = tape.reachable
    inputs_of = {call.edge.node for call in calls}  # with constant weights, only inputs lead here

    def is_spread(parameter: nn.Parameter) -> bool:
        """Whether every use of it, perhaps reshaped, adds it to frames or multiplies them."""
        waiting = [get_gradient_edge(parameter).node]
        while waiting:
            for node in users[waiting.pop()]:
                if node in inputs_of:
                    continue
                spreads = _SPREADS.fullmatch(node.name())
                larger = torch.Size(node._input_metadata[0].shape).numel() > parameter.numel()
                if spreads and larger:
                    continue
                if not spreads and not _KEEPS.fullmatch(node.name()):
                    return False
                waiting.append(node)
        return True

    return {name for name, parameter in direct.items() if is_spread(parameter)}
