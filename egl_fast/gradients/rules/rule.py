"""Which modules have a rule, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from egl_fast.gradients.contributions import Contribution

#: Contributions by the parameter's name in its module, from cotangents [R, *output shape of the
#: utterance]; called once per chunk of rows.
Pullback: TypeAlias = Callable[[Tensor], dict[str, Contribution]]

#: What depends on one utterance alone, from the module, the positional arguments of its call (with
#: utterances along dimension 0 of tensors, sliced to one where a batch shared the forward pass),
#: and the names of the module's parameters to contribute to.
Prepare: TypeAlias = Callable[[Any, tuple[Any, ...], frozenset[str]], Pullback]


@dataclass(frozen=True)
class Rule:
    """How a kind of module turns its input and output cotangents into gradient norms.

    Attributes:
        prepare: see ``Prepare``.
        covers: whether the rule is exact for a module as it is configured.
        forward: what the type ran when the rule was registered; it may have been replaced since.
    """

    prepare: Prepare
    covers: Callable[[Any], bool]
    forward: object


_RULES: dict[type[nn.Module], Rule] = {}


def register(
    *types: type[nn.Module], covers: Callable[[Any], bool] = lambda _: True
) -> Callable[[Prepare], Prepare]:
    """Decorator of a ``Prepare``: the rule for modules of exactly these types.

    Subclasses are not taken along: their ``forward`` may compute anything.

    Args:
        *types: of modules, in evaluation mode.
        covers: whether the rule is exact for a module as it is configured.
    """

    def decorate(prepare: Prepare) -> Prepare:
        for kind in types:
            _RULES[kind] = Rule(prepare, covers, kind.forward)
        return prepare

    return decorate


def rule_of(module: nn.Module) -> Rule | None:
    """The rule that covers a module, or None; none does where its ``forward`` was replaced."""
    kind = type(module)
    rule = _RULES.get(kind)
    if rule is None or "forward" in vars(module) or kind.forward is not rule.forward:
        return None
    return rule if rule.covers(module) else None
