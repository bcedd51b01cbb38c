"""Multiply-adds of a forward pass and of one cotangent's squared gradient norm, from shapes.

The cost of a cotangent if the work is done the obvious way and nothing is done twice: the backward
pass through every layer but the first, and for each weight the cheaper of two routes to the norm.
Letters as in ``egl_fast.gradients.contributions``: P positions, I inputs, O outputs, R cotangents.

- forward pass: P I O multiply-adds per weight;
- backward pass: P I O multiply-adds per weight, for a recurrent weight at all frames but the first;
- norm of A^T B, directly: P I O; or, where P < I, as S B with the triangular factor S [P, P] of A:
  P P O, and an R-th of the factorization, P^2 (I - P / 3), which belongs to the utterance.

Biases, normalization, and nonlinearities take a few operations per activation, a hundredth of
this; they are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from egl_fast.gradients.model_call import ModelInputs, call_model

#: Modules that are counted.
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.RNNBase)


@dataclass(frozen=True)
class LayerCount:
    """Multiply-adds of one layer, for one utterance.

    Attributes:
        name: the module's.
        forward: of the forward pass. The others are for one cotangent.
        pull_back: from the cotangent of its output to that of its input, 0 in the first layer.
        norms: squared norms of its weights' gradients.
    """

    name: str
    forward: float
    pull_back: float
    norms: float


@dataclass(frozen=True)
class Weight:
    """A weight [O, I] that meets inputs at P positions, in each of ``copies`` groups.

    Attributes:
        reads_input: whether it is applied to the module's own input.
        recurrent: whether it is applied to the previous frame's state.
    """

    positions: int
    inputs: int
    outputs: int
    copies: int = 1
    reads_input: bool = True
    recurrent: bool = False

    @property
    def product(self) -> int:
        """Multiply-adds of a product over all positions: P I O."""
        return self.copies * self.positions * self.inputs * self.outputs

    def pull_back(self, *, first: bool) -> int:
        """Multiply-adds from the cotangent of its output to that of its input.

        Args:
            first: whether there is nothing to train before the module.
        """
        if self.recurrent:
            return self.product // self.positions * (self.positions - 1)
        return 0 if first and self.reads_input else self.product

    def norm(self, num_cotangents: int) -> float:
        """Multiply-adds of the gradient's squared norm, by the cheaper route."""
        P, I = self.positions, self.inputs  # noqa: E741
        if P >= I:
            return self.product
        factor = P**2 * (I - P / 3) / num_cotangents
        return min(self.product, self.copies * (P * P * self.outputs + factor))


def count(model: nn.Module, inputs: ModelInputs, *, num_cotangents: int) -> list[LayerCount]:
    """Counts of all convolutions, linear and recurrent layers, in the order that they run.

    Args:
        model: runs once, in evaluation mode, on one utterance.
        inputs: of its call.
        num_cotangents: R, which share what belongs to the utterance.
    """
    counts: list[LayerCount] = []
    handles = [
        module.register_forward_hook(_counting(name, module, counts, num_cotangents))
        for name, module in model.named_modules()
        if isinstance(module, COUNTED)
    ]
    try:
        with torch.no_grad():
            call_model(model.eval(), inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def total(counts: list[LayerCount]) -> float:
    """Multiply-adds of a cotangent in the whole model."""
    return sum(layer.pull_back + layer.norms for layer in counts)


def total_forward(counts: list[LayerCount]) -> float:
    """Multiply-adds of the forward pass of the whole model."""
    return sum(layer.forward for layer in counts)


def not_counted(model: nn.Module) -> list[str]:
    """Names of modules with matrices that ``count`` does not count."""
    return [
        name
        for name, module in model.named_modules()
        if not isinstance(module, COUNTED)
        and any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))
    ]


def _counting(
    name: str, module: nn.Module, counts: list[LayerCount], num_cotangents: int
) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        weights, first = weights_of(module, args[0], output), not counts
        counts.append(
            LayerCount(
                name,
                forward=sum(weight.product for weight in weights),
                pull_back=sum(weight.pull_back(first=first) for weight in weights),
                norms=sum(weight.norm(num_cotangents) for weight in weights),
            )
        )

    return hook


def weights_of(module: nn.Module, inputs: Any, output: Any) -> list[Weight]:
    """Weights of a module of ``COUNTED``, by its input and output for one utterance."""
    if isinstance(module, nn.Linear):
        positions = output.numel() // module.out_features
        return [Weight(positions, module.in_features, module.out_features)]
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return [
            Weight(
                positions=output.numel() // module.out_channels,
                inputs=module.weight[0].numel(),
                outputs=module.out_channels // module.groups,
                copies=module.groups,
            )
        ]
    assert isinstance(module, nn.RNNBase)
    packed = isinstance(inputs, PackedSequence)
    num_frames = len(inputs.data) if packed else inputs.numel() // module.input_size
    return [
        Weight(
            positions=num_frames,
            inputs=parameter.shape[1],
            outputs=parameter.shape[0],
            reads_input=name.startswith("weight_ih_l0"),
            recurrent=name.startswith("weight_hh"),
        )
        for name, parameter in module.named_parameters()
        if name.startswith("weight")
    ]
