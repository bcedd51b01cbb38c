"""Normalization layers in evaluation mode: reductions of cotangent times normalized input."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from egl_fast.gradients.contributions import Contribution, Explicit
from egl_fast.gradients.rules.rule import Pullback, register
from egl_fast.model import SequenceBatchNorm


def scale_and_shift_pullback(
    normalized: Tensor, reduced: list[int], wanted: frozenset[str]
) -> Pullback:
    """For y = weight * normalized + bias; the ``reduced`` dimensions share a weight."""
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


def _batch_normalized(module: Any, inputs: Tensor) -> tuple[Tensor, list[int]]:
    normalized = F.batch_norm(
        inputs, module.running_mean, module.running_var, training=False, eps=module.eps
    )
    return normalized, [d for d in range(inputs.dim()) if d != 1]


# Without running statistics, evaluation mode is not affine.
@register(
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    covers=lambda module: getattr(module, "running_mean", None) is not None,
)
def batch_norm(module: Any, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.BatchNorm1d`` and ``2d`` on running statistics."""
    return scale_and_shift_pullback(*_batch_normalized(module, args[0]), wanted)


@register(SequenceBatchNorm)
def sequence_batch_norm(module: Any, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """The built-in model's batch norm, whose output is zero on padding."""
    inputs, mask = args
    normalized, reduced = _batch_normalized(module, inputs)
    pull = scale_and_shift_pullback(normalized * mask, reduced, wanted)
    # The mask stops cotangents that later layers send to padding.
    return lambda cotangent: pull(cotangent * mask)


@register(nn.LayerNorm)
def layer_norm(module: nn.LayerNorm, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.LayerNorm``."""
    normalized = F.layer_norm(args[0], module.normalized_shape, eps=module.eps)
    return _per_element(normalized, module.normalized_shape, wanted)


@register(nn.RMSNorm)
def rms_norm(module: nn.RMSNorm, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.RMSNorm``."""
    normalized = F.rms_norm(args[0], module.normalized_shape, eps=module.eps)
    return _per_element(normalized, module.normalized_shape, wanted)


def _per_element(normalized: Tensor, shape: tuple[int, ...], wanted: frozenset[str]) -> Pullback:
    """For norms whose weights have the shape of the last dimensions."""
    leading = normalized.dim() - len(shape)
    return scale_and_shift_pullback(normalized, list(range(leading)), wanted)


@register(nn.GroupNorm)
def group_norm(module: nn.GroupNorm, args: tuple[Any, ...], wanted: frozenset[str]) -> Pullback:
    """``torch.nn.GroupNorm``."""
    normalized = F.group_norm(args[0], module.num_groups, eps=module.eps)
    return _per_channel(normalized, 1, wanted)


@register(nn.InstanceNorm1d, nn.InstanceNorm2d)
def instance_norm(
    module: nn.InstanceNorm1d | nn.InstanceNorm2d, args: tuple[Any, ...], wanted: frozenset[str]
) -> Pullback:
    """``torch.nn.InstanceNorm1d`` and ``2d``, also over an input without a batch dimension."""
    channels = -2 if isinstance(module, nn.InstanceNorm1d) else -3
    inputs: Tensor = args[0]
    batched = inputs if inputs.dim() == 1 - channels else inputs.unsqueeze(0)
    normalized = F.instance_norm(
        batched,
        module.running_mean,
        module.running_var,
        use_input_stats=not module.track_running_stats,
        eps=module.eps,
    ).view(inputs.shape)
    return _per_channel(normalized, inputs.dim() + channels, wanted)


def _per_channel(normalized: Tensor, channels: int, wanted: frozenset[str]) -> Pullback:
    reduced = [d for d in range(normalized.dim()) if d != channels]
    return scale_and_shift_pullback(normalized, reduced, wanted)
