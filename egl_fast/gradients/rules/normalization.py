"""Normalization layers in evaluation mode: reductions of cotangent times normalized input."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from egl_fast.gradients.contributions import Contribution, Explicit
from egl_fast.gradients.rules.rule import Pullback, Rule, register
from egl_fast.model import SequenceBatchNorm


def scale_and_shift_pullback(
    normalized: Tensor, reduced: list[int], wanted: frozenset[str]
) -> Pullback:
    """Weight and bias of y = weight * normalized + bias.

    Args:
        normalized: the normalized input of one utterance.
        reduced: its dimensions that share a weight.
        wanted: names of parameters asked for.
    """
    dims = [d + 1 for d in reduced]

    def pull(cotangent: Tensor) -> dict[str, Contribution]:
        found: dict[str, Contribution] = {}
        if "weight" in wanted:
            product = cotangent * normalized
            found["weight"] = Explicit(product.sum(dim=dims) if dims else product)
        if "bias" in wanted:
            found["bias"] = Explicit(cotangent.sum(dim=dims) if dims else cotangent)
        return found

    return pull


@register(nn.BatchNorm1d, nn.BatchNorm2d)
class BatchNormRule(Rule):
    """``torch.nn.BatchNorm1d`` and ``2d`` on running statistics."""

    def covers(self, module: nn.Module) -> bool:
        """See ``Rule``; without running statistics, evaluation mode is not affine."""
        return getattr(module, "running_mean", None) is not None

    def prepare(
        self, module: nn.BatchNorm1d | nn.BatchNorm2d, args: tuple[Any, ...], wanted: frozenset[str]
    ) -> Pullback:
        """See ``Rule``."""
        inputs: Tensor = args[0]
        normalized = F.batch_norm(
            inputs, module.running_mean, module.running_var, training=False, eps=module.eps
        )
        return scale_and_shift_pullback(
            normalized, [d for d in range(inputs.dim()) if d != 1], wanted
        )


@register(SequenceBatchNorm)
class SequenceBatchNormRule(Rule):
    """The built-in model's batch norm, whose output is zero on padding."""

    def prepare(
        self, module: SequenceBatchNorm, args: tuple[Any, ...], wanted: frozenset[str]
    ) -> Pullback:
        """See ``Rule``."""
        inputs, mask = args
        normalized = F.batch_norm(
            inputs, module.running_mean, module.running_var, training=False, eps=module.eps
        )
        dims = [d for d in range(inputs.dim()) if d != 1]
        pull = scale_and_shift_pullback(normalized * mask, dims, wanted)
        # Later layers may send cotangents to padding, which the mask stops.
        return lambda cotangent: pull(cotangent * mask)


@register(nn.LayerNorm)
class LayerNormRule(Rule):
    """``torch.nn.LayerNorm``."""

    def prepare(
        self, module: nn.LayerNorm, args: tuple[Any, ...], wanted: frozenset[str]
    ) -> Pullback:
        """See ``Rule``."""
        inputs: Tensor = args[0]
        normalized = F.layer_norm(inputs, module.normalized_shape, eps=module.eps)
        leading = inputs.dim() - len(module.normalized_shape)
        return scale_and_shift_pullback(normalized, list(range(leading)), wanted)
