"""What a rule is, and which modules have one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from egl_fast.gradients.contributions import Contribution

#: From cotangents [R, *output shape of the utterance] to contributions, by the parameters' names in
#: their module; called once per pass.
Pullback: TypeAlias = Callable[[Tensor], dict[str, Contribution]]

#: Does what depends only on the utterance. Takes the module, the positional arguments of its call
#: (with utterances along dimension 0 of tensors, sliced to one if a batch shared the forward pass),
#: and the names of the module's parameters that count.
Prepare: TypeAlias = Callable[[Any, tuple[Any, ...], frozenset[str]], Pullback]


#: Replaces a module's forward pass that is slow to pull back.
Forward: TypeAlias = Callable[..., Tensor]


@dataclass(frozen=True)
class Rule:
    """How to get gradient norms from a module's input and its output's cotangents."""

    prepare: Prepare
    covers: Callable[[Any], bool]  # whether the rule is exact for a module as it is configured
    own_forward: Forward  # of the type when the rule was registered; may have been replaced since
    forward: Forward  # what runs on tape


_RULES: dict[type[nn.Module], Rule] = {}


def register(
    *types: type[nn.Module],
    covers: Callable[[Any], bool] = lambda _: True,
    forward: Forward | None = None,
) -> Callable[[Prepare], Prepare]:
    """Decorator of a ``Prepare``: the rule for modules of exactly these types.

    The rule applies where it ``covers`` the module; never to subclasses, whose ``forward`` may
    compute anything. On tape the module runs ``forward`` if that is given, or else its own.
    """

    def decorate(prepare: Prepare) -> Prepare:
        for kind in types:
            _RULES[kind] = Rule(prepare, covers, kind.forward, forward or kind.forward)
        return prepare

    return decorate


def rule_of(module: nn.Module) -> Rule | None:
    """The rule for a module; None if there is none, or if its ``forward`` was replaced.

    A module keeps its rule when its weights are parametrized.
    """
    rule = _RULES.get(type_before_parametrizations(module))
    if rule is None or "forward" in vars(module) or type(module).forward is not rule.own_forward:
        return None
    return rule if rule.covers(module) else None
