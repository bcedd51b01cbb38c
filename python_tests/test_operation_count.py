"""Counted operations against torch's own count of plain passes, where they must agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from egl_fast.benchmarking.operation_count import (
    Weight,
    count,
    not_counted,
    total_forward,
    weights_of,
)
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.model import DeepSpeech2, preset


def forward_multiply_adds(module: nn.Module, *inputs: Tensor) -> int:
    """Half of the floating-point operations that torch counts in a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() // 2


def backward_multiply_adds(output: Tensor) -> int:
    """Half of the floating-point operations that torch counts in a backward pass."""
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(7, 5), (1, 11, 7)),
        (nn.Conv1d(4, 6, 3, stride=2, padding=1), (1, 4, 20)),
        (nn.Conv2d(3, 8, (5, 3), stride=(2, 1), padding=(2, 1)), (1, 3, 17, 9)),
    ],
    ids=["linear", "conv1d", "conv2d"],
)
def test_plain_layers_are_counted_as_torch_counts_them(
    module: nn.Module, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape, requires_grad=True)
    output = module(x)
    # Cotangents of input and weight: each is one product over all positions.
    [weight] = weights_of(module, x, output)
    assert backward_multiply_adds(output) == 2 * weight.product
    counts = count(module, ModelInputs((x,)), num_cotangents=1)
    assert forward_multiply_adds(module, x) == total_forward(counts)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
def test_recurrent_layers_are_counted_as_torch_counts_them(kind: type[nn.RNNBase]) -> None:
    module = kind(7, 5, num_layers=2, bidirectional=True, batch_first=True).requires_grad_(False)
    before = nn.Linear(3, 7)
    x = torch.randn(1, 6, 3)
    [of_before, of_module] = count(
        nn.Sequential(before, module), ModelInputs((x,)), num_cotangents=1
    )
    output = module(before(x))[0]
    # Without trainable weights in the module, torch only goes back through it to the first.
    [weight] = weights_of(before, x, before(x))
    assert backward_multiply_adds(output) == of_module.pull_back + weight.product
    assert of_before.pull_back == 0
    assert forward_multiply_adds(module, before(x)) == of_module.forward


def test_first_module_pulls_back_between_its_layers_only() -> None:
    module = nn.GRU(7, 5, num_layers=2, batch_first=True)
    [own] = count(module, ModelInputs((torch.randn(1, 6, 7),)), num_cotangents=1)
    between_layers, through_time = 6 * 5 * 15, (6 - 1) * 5 * 15
    assert own.pull_back == between_layers + 2 * through_time


def test_norms_take_the_cheaper_route() -> None:
    assert Weight(100, 10, 5).norm(1) == 100 * 10 * 5
    few = Weight(10, 100, 5)
    assert few.norm(10**9) == pytest.approx(10 * 10 * 5)
    assert few.norm(1) == few.product  # one cotangent does not pay for a factorization
    assert few.norm(10) == pytest.approx(10 * 10 * 5 + 10**2 * (100 - 10 / 3) / 10)


def test_whole_model_counts_every_weight_once() -> None:
    model = DeepSpeech2(preset("tiny"))
    counts = count(
        model, ModelInputs((torch.randn(1, 40, 161), torch.tensor([40]))), num_cotangents=100
    )
    weights = [n for n, p in model.named_parameters() if p.dim() > 1]
    assert len(counts) == 5
    assert len(weights) == 2 + 2 * 4 + 1
    assert counts[0].pull_back == 0
    assert all(layer.pull_back > 0 and layer.norms > 0 for layer in counts[1:])


def test_matrices_that_are_not_counted_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Bilinear(4, 4, 2))
    assert not_counted(model) == ["2"]
    assert not_counted(DeepSpeech2(preset("tiny"))) == []
