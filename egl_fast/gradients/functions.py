"""Functions of torch that take a weight, and the modules that do the same with their own.

Subclasses that override ``forward``, and modules that use a parameter directly, end up here: what
else they do does not matter, since it is in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egl_fast.gradients.rules.product import Product


class Use(NamedTuple):
    """A function's call, in the form of a module's."""

    input: Tensor
    weights: dict[str, Tensor | None]  # by their names in the module
    module: Callable[..., nn.Module]  # makes one with the same settings, on a device


def _convolution(kind: type[nn.Module]) -> Callable[..., Use]:
    def use(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Use:
        num_outputs, num_inputs, *kernel = weight.shape
        settings = stride, padding, dilation, groups
        module = partial(kind, num_inputs * groups, num_outputs, tuple(kernel), *settings)
        return Use(input, {"weight": weight, "bias": bias}, module)

    return use


def _embedding(input: Tensor, weight: Tensor, *settings: Any, **named: Any) -> Use:
    return Use(input, {"weight": weight}, partial(nn.Embedding, *weight.shape, *settings, **named))


def _layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Use:
    module = partial(nn.LayerNorm, tuple(normalized_shape), eps)
    return Use(input, {"weight": weight, "bias": bias}, module)


def _rms_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Use:
    return Use(input, {"weight": weight}, partial(nn.RMSNorm, tuple(normalized_shape), eps))


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Use:
    module = partial(nn.GroupNorm, num_groups, input.shape[1], eps)
    return Use(input, {"weight": weight, "bias": bias}, module)


def _product(input: Tensor, other: Tensor, **_: Any) -> Use:
    # The product of two weights is itself a weight.
    of_weights = input.is_leaf and input.requires_grad
    weight = None if other.dim() != 2 or of_weights else other
    return Use(input, {"weight": weight}, partial(Product, *other.shape))


#: ``linear`` is not among them: it has no settings, and attention calls it, too.
USES: dict[Callable[..., Any], Callable[..., Use]] = {
    F.conv1d: _convolution(nn.Conv1d),
    F.conv2d: _convolution(nn.Conv2d),
    F.embedding: _embedding,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    torch.matmul: _product,
    Tensor.matmul: _product,
}
