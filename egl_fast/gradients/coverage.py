"""What share of a model has a norm rule, and what the rest costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from egl_fast.gradients.layers import owner_of
from egl_fast.gradients.tape import Tape


@dataclass(frozen=True)
class Coverage:
    """Which parameters autograd handles, since no rule covers a use of them.

    Their gradients are exact. But each is formed as a whole, for every row, where a rule works on
    cotangents that all rows share.

    Attributes:
        counted: numbers in all parameters that count and that the logits depend on.
        without_rule: those that are autograd's, by the kind of module that owns them.
        row_share: their part of the memory, and so of the traffic, that a row takes.
    """

    counted: int
    without_rule: dict[str, int]
    row_share: float

    @classmethod
    def of(cls, model: nn.Module, tape: Tape) -> Coverage:
        """Of the model as it ran."""
        calls, direct = tape.reachable
        reached = {*direct, *(name for call in calls for name in call.names)}
        by_kind: Counter[str] = Counter()
        # Not by get_submodule, which loaded TorchScript lacks.
        modules = dict(model.named_modules(remove_duplicate=False))
        for name, parameter in direct.items():
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
            return f"All {self.counted:,} parameters have a norm rule."
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
        """The inverse of ``as_json``, but for rounding."""
        return cls(value["parameters"], value["without_rule"], value["row_share"])
