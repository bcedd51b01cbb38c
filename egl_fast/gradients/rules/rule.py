"""Which modules have a rule, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from egl_fast.gradients.contributions import Contribution

#: Contributions by the parameter's name in its module, from cotangents [R, *output shape].
Pullback = Callable[[Tensor], dict[str, Contribution]]


class Rule(Protocol):
    """How a kind of module turns its input and output cotangents into gradient norms."""

    def covers(self, module: Any) -> bool:
        """Whether the rule is exact for this module as it is configured; yes, unless overridden."""
        return True

    def prepare(self, module: Any, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
        """Do what depends on one utterance alone.

        Args:
            module: the module, in evaluation mode.
            args: the positional arguments of its call, utterances along dimension 0 of tensors,
                sliced to one utterance where a batch shared the forward pass.
            wanted: names of the module's parameters to contribute to.

        Returns:
            A function of cotangents [R, *output shape of that utterance], called once a chunk.
        """
        ...


_RULES: dict[type[nn.Module], Rule] = {}

#: What each of these types ran when its rule was registered; others may have replaced it since.
_FORWARDS: dict[type[nn.Module], object] = {}


def register(*types: type[nn.Module]) -> Callable[[type[Rule]], type[Rule]]:
    """Class decorator: use this rule for modules of exactly these types.

    Subclasses are not taken along: their ``forward`` may compute anything.
    """

    def decorate(rule: type[Rule]) -> type[Rule]:
        for module_type in types:
            _RULES[module_type] = rule()
            _FORWARDS[module_type] = module_type.forward
        return rule

    return decorate


def rule_of(module: nn.Module) -> Rule | None:
    """The rule that covers a module, or None; none does where its ``forward`` was replaced."""
    kind = type(module)
    rule = _RULES.get(kind)
    if rule is None or "forward" in vars(module) or kind.forward is not _FORWARDS[kind]:
        return None
    return rule if rule.covers(module) else None
