"""Multiply-adds of a forward pass and of one cotangent's squared gradient norm, from shapes.

What a cotangent costs if the work is done the obvious way and nothing is done twice: its way back
through every layer but the first, and for each weight the cheaper of two routes to the norm.
Letters as in ``egl_fast.gradients.contributions``: P positions, I inputs, O outputs, R cotangents.

- forward pass: P I O multiply-adds per weight;
- way back: P I O multiply-adds per weight, of a recurrent weight at all frames but the first;
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
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

#: Modules that are counted.
COUNTED = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.RNNBase)


@dataclass(frozen=True)
class LayerCount:
    """Multiply-adds of one layer, for one utterance.

    Attributes:
        name: the module's.
        forward: of the forward pass. All else is of one cotangent.
        pull_back: from the cotangent of its output to that of its input, 0 in the first layer.
        norms: squared norms of its weights' gradients.
    """

    name: str
    forward: float
    pull_back: float
    norms: float


@dataclass(frozen=True)
class Weight:
    """A weight [O, I] that meets inputs at P positions, in each of ``copies`` groups."""

    positions: int
    inputs: int
    outputs: int
    copies: int = 1

    @property
    def product(self) -> int:
        """P I O, of a product over all positions."""
        return self.copies * self.positions * self.inputs * self.outputs

    def norm(self, num_cotangents: int) -> float:
        """Of the squared norm of the gradient, by the cheaper route."""
        P, I = self.positions, self.inputs  # noqa: E741
        if P >= I:
            return self.product
        factor = P**2 * (I - P / 3) / num_cotangents
        return min(self.product, self.copies * (P * P * self.outputs + factor))


def count(model: nn.Module, inputs: tuple[Any, ...], *, num_cotangents: int) -> list[LayerCount]:
    """Counts of all convolutions, linear and recurrent layers, in the order that they run.

    Args:
        model: runs once, in evaluation mode, on one utterance.
        inputs: of its call.
        num_cotangents: R, that share what belongs to the utterance.
    """
    counts: list[LayerCount] = []
    handles = [
        module.register_forward_hook(_counting(name, module, counts, num_cotangents))
        for name, module in model.named_modules()
        if isinstance(module, COUNTED)
    ]
    try:
        with torch.no_grad():
            model.eval()(*inputs)
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
    """Names of modules with matrices of their own that ``count`` skips."""
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
        if isinstance(module, nn.RNNBase):
            sides = recurrent_weights(module, _num_frames(module, args[0]))
            # An input needs no cotangent if there is nothing to train before it.
            back = [w.product for i, w in enumerate(sides.inputs) if counts or i >= sides.first]
            back += [_through_time(w) for w in sides.states]
            weights = [*sides.inputs, *sides.states]
        else:
            weights = [plain_weight(module, output)]
            back = [weights[0].product] if counts else []
        forward = sum(weight.product for weight in weights)
        norms = sum(weight.norm(num_cotangents) for weight in weights)
        counts.append(LayerCount(name, forward, sum(back), norms))

    return hook


def plain_weight(module: nn.Module, output: Tensor) -> Weight:
    """The weight of a linear layer or a convolution of one utterance, by its output."""
    if isinstance(module, nn.Linear):
        return Weight(
            output.numel() // module.out_features, module.in_features, module.out_features
        )
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    return Weight(
        positions=output.numel() // module.out_channels,
        inputs=module.weight[0].numel(),
        outputs=module.out_channels // module.groups,
        copies=module.groups,
    )


@dataclass(frozen=True)
class RecurrentWeights:
    """Weights of all layers and directions of a recurrent module.

    Attributes:
        inputs: of the input sides.
        states: of the recurrent sides.
        first: how many of ``inputs`` read the module's own input.
    """

    inputs: list[Weight]
    states: list[Weight]
    first: int


def recurrent_weights(module: nn.RNNBase, num_frames: int) -> RecurrentWeights:
    """See ``RecurrentWeights``."""
    inputs: list[Weight] = []
    states: list[Weight] = []
    for name, parameter in module.named_parameters():
        if name.startswith("weight"):
            outputs, width = parameter.shape
            side = states if name.startswith("weight_hh") else inputs
            side.append(Weight(num_frames, width, outputs))
    return RecurrentWeights(inputs, states, 2 if module.bidirectional else 1)


def _through_time(weight: Weight) -> int:
    return weight.product // weight.positions * (weight.positions - 1)


def _num_frames(module: nn.RNNBase, inputs: Tensor | PackedSequence) -> int:
    if isinstance(inputs, PackedSequence):
        return inputs.data.shape[0]
    return inputs.numel() // module.input_size
